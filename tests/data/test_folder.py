"""Any folder of images: real files in the usual layouts, and the ways in which a folder can be wrong."""

import numpy as np
import pytest
import torch
from PIL import Image

from kdlib import load_data

COLORS = {"ants": (200, 30, 30), "bees": (30, 200, 30), "cats": (30, 30, 200)}


def write(folder, color, count, mode="RGB", size=(40, 24), suffix=".png"):
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.new("RGB", size, color).convert(mode).save(folder / f"{number}{suffix}")


@pytest.fixture
def flat(tmp_path):
    for name, color in COLORS.items():
        write(tmp_path / name, color, 10)
    return tmp_path


def test_one_folder_per_class(flat):
    data = load_data(f"folder:{flat}", size=16)
    assert data.classes == ("ants", "bees", "cats")
    assert data.in_channels == 3
    assert [len(part) for part in (data.train, data.val, data.test)] == [18, 6, 6]
    for part in (data.train, data.val, data.test):
        assert part.images.shape[1:] == (3, 16, 16)
        for image, label in zip(part.images, part.labels, strict=True):
            assert tuple(image[:, 8, 8].tolist()) == COLORS[data.classes[label]]
    assert load_data(f"folder:{flat}", size=16).train.fingerprint() == data.train.fingerprint()


def test_statistics_are_those_of_the_training_images(tmp_path):
    for name in ("ants", "bees"):
        (tmp_path / name).mkdir()
        for number in range(10):
            Image.new("RGB", (8, 8), (25 * number,) * 3).save(tmp_path / name / f"{number}.png")
    data = load_data(f"folder:{tmp_path}", size=8)
    pixels = data.train.images.double() / 255
    assert data.train.mean == pytest.approx(pixels.mean(dim=(0, 2, 3)).tolist())
    assert data.train.std == pytest.approx(pixels.std(dim=(0, 2, 3), correction=0).tolist())
    assert data.train.mean[0] != pytest.approx(25 * 4.5 / 255), "that of all images"
    assert (data.test.mean, data.test.std) == (data.train.mean, data.train.std)


def test_divided_folders_are_used_as_they_are(tmp_path):
    for part, count in (("train", 8), ("val", 2), ("test", 3)):
        for name in ("ants", "bees"):
            write(tmp_path / part / name, COLORS[name], count)
    data = load_data(f"folder:{tmp_path}", size=8)
    assert [len(part) for part in (data.train, data.val, data.test)] == [16, 4, 6]


def test_all_parts_share_one_budget_of_memory(tmp_path):
    for part, count in (("train", 3), ("val", 2), ("test", 2)):
        for name in ("ants", "bees"):
            write(tmp_path / part / name, COLORS[name], count)
    picture = 3 * (98 + 98 // 7) ** 2
    data = load_data(f"folder:{tmp_path}", size=98, memory=7 * picture)
    parts = (data.train, data.val, data.test)
    assert sum(part.images.reserved for part in parts) == 7 * picture
    assert data.train.images.reserved == 6 * picture, "what is looked at most comes first"


def test_train_and_val_alone_report_on_val(tmp_path):
    """The layout of the hymenoptera data: the validation split is then cut from the training images."""
    for part, count in (("train", 20), ("val", 5)):
        for name in ("ants", "bees"):
            write(tmp_path / part / name, COLORS[name], count)
    data = load_data(f"folder:{tmp_path}", size=8)
    assert [len(part) for part in (data.train, data.val, data.test)] == [34, 6, 10]


@pytest.mark.parametrize(
    ("mode", "suffix"), [("L", ".png"), ("RGBA", ".png"), ("P", ".png"), ("CMYK", ".jpg"), ("RGB", ".JPEG")]
)
def test_every_kind_of_image_becomes_rgb(tmp_path, mode, suffix):
    for name in ("ants", "bees"):
        write(tmp_path / name, (90, 90, 90), 3, mode, suffix=suffix)
    images = load_data(f"folder:{tmp_path}", size=8).train.images
    assert images.shape[1] == 3
    assert (images.int() - 90).abs().max() <= 12


def test_the_middle_square_is_kept(tmp_path):
    pixels = np.zeros((20, 60, 3), dtype=np.uint8)
    pixels[:, 20:40] = 255
    for name in ("ants", "bees"):
        (tmp_path / name).mkdir()
        for number in range(3):
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    assert load_data(f"folder:{tmp_path}", size=20).train.images.min() == 255


def test_hidden_folders_and_other_files_are_ignored(flat):
    (flat / ".cache").mkdir()
    (flat / "README.txt").write_text("about these images")
    (flat / "ants" / "notes.txt").write_text("not an image")
    assert load_data(f"folder:{flat}", size=8).num_classes == 3


def test_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder '.*nowhere'; give one with a sub-folder"):
        load_data(f"folder:{tmp_path / 'nowhere'}")


def test_folder_without_images(tmp_path):
    with pytest.raises(ValueError, match=r"0 sub-folders.*one per class"):
        load_data(f"folder:{tmp_path}")
    write(tmp_path / "ants", (0, 0, 0), 3)
    with pytest.raises(ValueError, match="1 sub-folder;"):
        load_data(f"folder:{tmp_path}")


def test_class_without_an_image(flat):
    (flat / "dogs").mkdir()
    with pytest.raises(ValueError, match=r"dogs has no image"):
        load_data(f"folder:{flat}")


def test_class_too_small_to_divide(flat):
    write(flat / "dogs", (0, 0, 0), 2)
    with pytest.raises(ValueError, match=r"dogs has 2 images; at least 3"):
        load_data(f"folder:{flat}")


@pytest.mark.parametrize("content", [b"", b"this is no picture", b"\x89PNG\r\n\x1a\n broken"])
def test_one_broken_image_is_named(flat, content):
    (flat / "bees" / "3.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"3\.png cannot be read as an image.*repair or remove"):
        load_data(f"folder:{flat}")


def test_truncated_image_is_named(flat):
    path = flat / "bees" / "3.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match=r"3\.jpg cannot be read"):
        load_data(f"folder:{flat}")


def test_divided_folders_must_name_the_same_classes(tmp_path):
    for part in ("train", "test"):
        for name in ("ants", "bees"):
            write(tmp_path / part / name, (0, 0, 0), 2)
    (tmp_path / "test" / "bees").rename(tmp_path / "test" / "wasps")
    with pytest.raises(ValueError, match="differ in the class 'bees'"):
        load_data(f"folder:{tmp_path}")


def test_train_needs_something_to_be_tested_on(tmp_path):
    for name in ("ants", "bees"):
        write(tmp_path / "train" / name, (0, 0, 0), 2)
    with pytest.raises(ValueError, match="neither 'test' nor 'val'"):
        load_data(f"folder:{tmp_path}")


def test_a_student_learns_from_a_folder(flat):
    from kdlib import create_model, evaluate, fit

    data = load_data(f"folder:{flat}", size=8)
    model = create_model("convnet", data.num_classes, width=4, seed=0)
    fit(model, data.train, epochs=20, progress=False, device="cpu")
    assert evaluate(model, data.test, device="cpu")["accuracy"] == 1.0
    assert torch.equal(data.test.labels.unique(), torch.tensor([0, 1, 2]))
