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


# Pictures that nobody means: programs put them there, and some of them are none.
NOT_MEANT = [
    ".x.png", "._0.png", ".cache/0.png", ".ipynb_checkpoints/0-checkpoint.png", "__MACOSX/0.png",
    "@eaDir/0.png/s.png",
]  # fmt: skip


@pytest.mark.parametrize("place", ["", "ants", "ants/more"])
@pytest.mark.parametrize("name", NOT_MEANT)
def test_what_is_hidden_or_generated_is_skipped_at_every_level_and_said(flat, place, name):
    path = flat / place / name
    write(flat / "ants" / "more", COLORS["ants"], 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"no picture at all")
    with pytest.warns(UserWarning, match=r"1 hidden or generated entry \(1 [.@_*\w]+\)") as warned:
        data = load_data(f"folder:{flat}", size=8)
    assert data.classes == ("ants", "bees", "cats")
    assert images_of(data) == 31
    assert [warning.filename for warning in warned] == [__file__], "once, and where the user wrote it"


def images_of(data):
    return len(data.train) + len(data.val) + len(data.test)


@pytest.mark.parametrize(
    "name", [".DS_Store", "Thumbs.db", "desktop.ini", "ants/Thumbs.db", "ants/.DS_Store"]
)
def test_what_systems_leave_in_every_folder_is_not_worth_a_word(flat, name):
    (flat / name).write_bytes(b"\0")
    assert images_of(load_data(f"folder:{flat}", size=8)) == 30


def test_what_is_skipped_is_said_with_counts(flat):
    (flat / "README.txt").write_text("about these images")
    (flat / "loose.png").write_bytes((flat / "ants" / "0.png").read_bytes())
    for number in range(3):
        (flat / "ants" / f"{number}.gif").write_bytes(b"GIF89a")
    (flat / "bees" / "notes.txt").write_text("not an image")
    (flat / "bees" / "LICENSE").write_text("nor this")
    (flat / "bees" / "9.png").unlink()
    (flat / "bees" / "9.png").symlink_to(flat / "moved away.png")
    (flat / "bees" / "all").symlink_to(flat)
    with pytest.warns(UserWarning, match="^skipped in ") as warned:
        data = load_data(f"folder:{flat}", size=8)
    (said,) = [str(warning.message) for warning in warned]
    assert images_of(data) == 29
    assert "5 files of other kinds (3 .gif, 1 .txt, 1 no suffix)" in said
    assert "1 picture outside the folders of classes" in said
    assert "2 links to folders or to nothing (1 .png, 1 no suffix)" in said


def test_a_class_of_other_files_only_says_so(flat):
    write(flat / "dogs", (0, 0, 0), 4, suffix=".gif")
    with pytest.raises(
        ValueError, match=r"dogs has no image \(.*\), only 4 other files \(4 \.gif\); add some"
    ):
        load_data(f"folder:{flat}")


def test_pictures_further_down_are_of_the_class_above_them(flat):
    write(flat / "ants" / "red" / "large", COLORS["ants"], 5)
    data = load_data(f"folder:{flat}", size=8)
    assert data.classes == ("ants", "bees", "cats")
    counts = sum(part.labels.bincount(minlength=3) for part in (data.train, data.val, data.test))
    assert counts.tolist() == [15, 10, 10]


def write_parts(root, **counts):
    for part, count in counts.items():
        for name in ("ants", "bees"):
            write(root / part / name, COLORS[name], count)
    return root


SPELLINGS = [
    ("train", "val", "test"), ("Training", "Validation", "Testing"), ("TRAIN", "VALID", "TEST"),
    ("trn", "dev", "tst"), ("train_set", "dev-set", "test set"), ("train2017", "val2017", "test2017"),
    ("1_train", "2_eval", "3_test"),
    ("training data", "validation_images", "test-split"),
]  # fmt: skip


@pytest.mark.parametrize("names", SPELLINGS)
def test_parts_in_any_usual_spelling(tmp_path, names):
    data = load_data(f"folder:{write_parts(tmp_path, **dict(zip(names, (8, 2, 3), strict=True)))}", size=8)
    assert data.classes == ("ants", "bees")
    assert [len(part) for part in (data.train, data.val, data.test)] == [16, 4, 6]


@pytest.mark.parametrize("held_out", ["valid", "Testing"])
@pytest.mark.parametrize(("division", "counts"), [("honest", [34, 6, 10]), ("published", [40, 10, 10])])
def test_two_parts_in_any_spelling(tmp_path, held_out, division, counts):
    write_parts(tmp_path, **{"Training": 20, held_out: 5})
    data = load_data(f"folder:{tmp_path}", size=8, division=division)
    assert [len(part) for part in (data.train, data.val, data.test)] == counts


@pytest.mark.parametrize(
    "name", ["trains", "tester", "contest", "validity", "device", "trained", "set", "images"]
)
def test_names_that_only_sound_like_parts_are_classes(flat, name):
    write(flat / name, (0, 0, 0), 3)
    assert name in load_data(f"folder:{flat}", size=8).classes


@pytest.mark.parametrize(
    "pair", [("val", "valid"), ("dev", "Validation"), ("train", "Training"), ("test", "test2")]
)
def test_two_folders_for_the_same_part_are_refused(tmp_path, pair):
    write_parts(tmp_path, **dict.fromkeys({"train", "test", *pair}, 3))
    first, second = sorted(pair)
    with pytest.raises(ValueError, match=rf"has '{first}' and '{second}', and both mean '\w+'; keep one"):
        load_data(f"folder:{tmp_path}")


@pytest.mark.parametrize("held_out", ["test", "Validation"])
def test_something_to_test_on_needs_something_to_train_on(tmp_path, held_out):
    write_parts(tmp_path, **{held_out: 3})
    with pytest.raises(ValueError, match=rf"has a folder '{held_out}' but no 'train' beside it; add one"):
        load_data(f"folder:{tmp_path}")


@pytest.mark.parametrize("name", ["train", "Test", "dev"])
def test_a_class_with_the_name_of_a_part_is_to_have_another(flat, name):
    write(flat / name, (0, 0, 0), 10)
    with pytest.raises(
        ValueError,
        match=rf"if '{name}' is a class as 'ants' is, give its folder another name, such as '{name} ",
    ):
        load_data(f"folder:{flat}")
    (flat / name).rename(flat / f"{name} (class)")
    assert f"{name} (class)" in load_data(f"folder:{flat}", size=8).classes


@pytest.mark.parametrize("names", [("train", "test"), ("Training", "Validation")])
@pytest.mark.parametrize("above", ["", "of 2024"])
def test_a_folder_of_parts_is_no_class(flat, names, above):
    """Data sets beside each other; or each class divided by itself."""
    write_parts(flat / "dogs" / above, **dict.fromkeys(names, 3))
    first, second = sorted(names)
    with pytest.raises(
        ValueError, match=rf"dogs.* is to be a class and holds '{first}' and '{second}'; give that"
    ):
        load_data(f"folder:{flat}")


def test_parts_whose_images_are_in_no_class_are_no_classes(tmp_path):
    for part in ("Training", "Testing"):
        write(tmp_path / part, (0, 0, 0), 10)
    with pytest.raises(
        ValueError, match=r"Training has 0 sub-folders; a data set needs two or more, one per cla"
    ):
        load_data(f"folder:{tmp_path}")


def test_a_folder_around_the_data_set_is_named(tmp_path):
    inner = write_parts(tmp_path / "pets", train=3, test=3)
    with pytest.raises(ValueError, match=rf"has 1 sub-folder; .*; or give {inner}\."):
        load_data(f"folder:{tmp_path}")


def test_folders_beside_the_parts_are_said(tmp_path):
    write_parts(tmp_path, train=4, test=3, annotations=1)
    with pytest.warns(UserWarning, match=r"1 folder beside those of the parts \(1 annotations\)"):
        data = load_data(f"folder:{tmp_path}", size=8)
    assert data.classes == ("ants", "bees")


def test_folders_that_are_read_as_a_whole_are_silent(tmp_path):
    """Warnings are errors in these tests."""
    write_parts(tmp_path, train=4, val=3, test=3)
    load_data(f"folder:{tmp_path}", size=8)


def test_a_data_set_that_the_course_knows_is_silent(tmp_path):
    """What is in it beside its pictures is no news, and its images are counted."""
    write_parts(tmp_path / "hymenoptera_data", train=4, val=3)
    (tmp_path / "hymenoptera_data" / "train" / "ants" / "imageNotFound.gif").write_bytes(b"GIF89a")
    assert len(load_data("hymenoptera", root=tmp_path, size=32, division="published").train) == 8


@pytest.mark.parametrize("written", ["{}/", "{}//", "{}/.", "~/pets", "~/pets/"])
def test_a_folder_in_any_way_to_write_it(flat, monkeypatch, tmp_path, written):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "pets").symlink_to(flat / "pets")
    for name in COLORS:
        write(flat / "pets" / name, COLORS[name], 3)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert len(load_data(f"folder:{written.format(flat / 'pets')}", size=8).train) == 3


def test_a_path_is_given_by_its_name(flat):
    for given in (flat, str(flat), f"{flat}/"):
        with pytest.raises(ValueError, match=rf"write 'folder:{flat}/?'"):
            load_data(given)


def test_a_file_is_no_folder(flat):
    with pytest.raises(ValueError, match=r"0\.png' is a file, and a folder is meant"):
        load_data(f"folder:{flat}/ants/0.png")


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
