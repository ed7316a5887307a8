"""Splits: what may be in them, how they are divided, and how they become batches."""

import re

import numpy as np
import pytest
import torch
from IPython.lib.pretty import pretty

from kdlib.data import Augmentation, ImageData, Split
from kdlib.data.augment import CentreCrop, RandomCrop, RandomFlip
from kdlib.data.split import channel_statistics, stratify

AUGMENTED = Augmentation(train=(RandomCrop(padding=2), RandomFlip()))


def split(count=30, classes=3, **changes):
    generator = torch.Generator().manual_seed(0)
    values = {
        "images": torch.randint(0, 256, (count, 1, 4, 5), dtype=torch.uint8, generator=generator),
        "labels": torch.arange(count) % classes,
        "classes": tuple("abcdefgh"[:classes]),
        "mean": (0.5,),
        "std": (0.25,),
    }
    return Split(**(values | changes))


COLOUR = {"mean": (0.5, 0.5, 0.5), "std": (0.2, 0.2, 0.2)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": torch.zeros(30, 1, 4, 5)}, r"torch\.float32.*torch\.uint8"),
        ({"images": torch.zeros(30, 4, 5, dtype=torch.uint8)}, r"\(30, 4, 5\)"),
        ({"labels": torch.zeros(29, dtype=torch.int64)}, "give 30 class indices"),
        ({"labels": torch.full((30,), 3)}, r"label 3 is out of range.*0 to 2"),
        ({"labels": torch.full((30,), -1)}, r"label -1 is out of range"),
        (
            {
                "images": torch.zeros(0, 1, 4, 5, dtype=torch.uint8),
                "labels": torch.zeros(0, dtype=torch.int64),
            },
            "no image",
        ),
        ({"images": [[1, 2]]}, "images are a list; give a tensor"),
        ({"labels": [0] * 30}, "labels are a list; give a tensor"),
        ({"images": torch.zeros(30, 8, 9, 3, dtype=torch.uint8), **COLOUR}, r"9, 3\) .* have 8 channels"),
        (COLOUR, r"mean is \(0\.5, 0\.5, 0\.5\), and images of shape \(30, 1, 4, 5\) .* 1 channel; give"),
        ({"std": (0.2, 0.2, 0.2)}, r"std is \(0\.2, 0\.2, 0\.2\), and images"),
        ({"mean": 0.5}, r"mean is 0\.5, and images .* give one number for each"),
        ({"mean": (123.7,)}, r"mean is \(123\.7,\); give numbers from 0 to 1, of pixels divided by 255"),
        ({"mean": (float("nan"),)}, r"mean is \(nan,\); give numbers from 0 to 1"),
        ({"std": (58.4,)}, r"std is \(58\.4,\); give numbers above 0 and up to 1"),
        ({"std": (0.0,)}, r"std is \(0\.0,\); give numbers above 0"),
        ({"std": (-0.2,)}, r"std is \(-0\.2,\); give numbers above 0"),
        ({"std": (float("nan"),)}, r"std is \(nan,\); give numbers above 0"),
    ],
)
def test_contents_that_do_not_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        split(**changes)


@pytest.mark.parametrize("size", [3, 4, 17, 30])
def test_balanced_subsets_differ_by_one_image_a_class(size):
    counts = split().balanced(size, seed=1).labels.bincount(minlength=3)
    assert counts.sum() == size
    assert counts.max() - counts.min() <= 1


def test_balanced_subsets_depend_on_the_seed_alone():
    assert split().balanced(9, seed=1).fingerprint() == split().balanced(9, seed=1).fingerprint()
    assert split().balanced(9, seed=1).fingerprint() != split().balanced(9, seed=2).fingerprint()


@pytest.mark.parametrize("size", [2, 31, 10.5])
def test_balanced_subsets_that_cannot_be(size):
    with pytest.raises(ValueError, match=rf"size is {size}; choose from 3 .* to 30"):
        split().balanced(size)


def test_classes_left_out_and_kept():
    whole = split()
    assert set(whole.without(1).labels.tolist()) == {0, 2}
    assert set(whole.only(1).labels.tolist()) == {1}
    assert whole.without(1).classes == whole.classes
    for name, shown in ((3, "3"), (-1, "-1"), ("b", "'b'")):
        with pytest.raises(ValueError, match=f"no class {shown}; classes run from 0 to 2"):
            whole.without(name)


@pytest.mark.parametrize("indices", [torch.arange(30) < 3, np.arange(30) < 3, [0.0, 1.7]])
def test_positions_that_are_none(indices):
    """A mask, read as positions, would be the first two images over and over."""
    with pytest.raises(ValueError, match=r"indices have type torch\.\w+; give whole numbers, of a mask"):
        split().subset(indices)


@pytest.mark.parametrize("seed", [-1, 0.5, 1.0, "0", None, True, 2**63, np.int64(-1)])
def test_seeds_that_are_none(seed):
    uses = [lambda: split().balanced(9, seed=seed)]
    if seed is not None:  # where it keeps the order
        uses.append(lambda: next(split().batches(7, seed=seed)))
    for use in uses:
        with pytest.raises(ValueError, match=rf"seed is {re.escape(repr(seed))}; give a whole number, 0 or"):
            use()


@pytest.mark.parametrize("seed", [0, 2**63 - 1, np.int64(3)])
def test_seeds_that_are_some(seed):
    assert len(split().balanced(9, seed=seed)) == 9
    assert len(next(split().batches(7, seed=seed)).labels) == 6


@pytest.mark.parametrize("batch_size", [1, 7, 30, 100])
def test_batches_hold_every_image_once_and_unchanged_where_nobody_asks(batch_size):
    whole = split(augmentation=AUGMENTED)
    batches = list(whole.batches(batch_size))
    assert torch.equal(torch.cat([batch.labels for batch in batches]), whole.labels)
    assert torch.equal(torch.cat([batch.indices for batch in batches]), torch.arange(30))
    images = torch.cat([batch.images for batch in batches])
    torch.testing.assert_close(images, (whole.images / 255 - 0.5) / 0.25)
    shuffled = list(whole.batches(batch_size, seed=0))
    order = torch.cat([batch.indices for batch in shuffled])
    assert not torch.equal(order, torch.arange(30))
    assert sorted(order.tolist()) == list(range(30))
    assert torch.equal(torch.cat([batch.images for batch in shuffled]), images[order])
    assert torch.equal(torch.cat([batch.labels for batch in shuffled]), whole.labels[order])


@pytest.mark.parametrize(
    ("images", "batch_size", "sizes"),
    [
        (129, 64, [43, 43, 43]), (128, 64, [64, 64]), (130, 64, [44, 43, 43]), (30, 64, [30]),
        (3, 1, [1, 1, 1]),
    ],
)  # fmt: skip
def test_batches_are_of_near_equal_size(images, batch_size, sizes):
    """No image has a step to itself that is as large as the steps of a whole batch."""
    whole = split(images)
    assert whole.batch_sizes(batch_size) == sizes
    assert [len(batch.labels) for batch in whole.batches(batch_size, seed=0)] == sizes


def test_the_batches_of_several_processes_are_those_of_one():
    alone = [batch.indices for batch in split(129).batches(64, seed=1)]
    shared = [split(129).batches(64, seed=1, part=(number, 3)) for number in range(3)]
    for whole, *parts in zip(alone, *shared, strict=True):
        assert torch.equal(torch.cat([part.indices for part in parts]), whole)


def test_a_batch_of_no_images_is_refused():
    for size in (0, 2.5):
        with pytest.raises(ValueError, match=rf"batch_size is {size}; give 1 or more"):
            split(3).batch_sizes(size)


def views(whole, **options):
    """What each image looks like, in the order of the split."""
    batches = list(whole.batches(**({"seed": 3, "augment": True} | options)))
    order = torch.cat([batch.indices for batch in batches])
    return torch.cat([batch.images for batch in batches])[order.argsort()]


@pytest.mark.parametrize("batch_size", [1, 4, 29, 30])
def test_an_image_is_augmented_alike_in_every_batch_size(batch_size):
    whole = split(augmentation=AUGMENTED)
    assert torch.equal(views(whole, batch_size=batch_size), views(whole, batch_size=7))


def test_views_change_with_the_epoch_and_with_the_seed():
    whole = split(augmentation=AUGMENTED)
    first = views(whole, batch_size=7)
    assert torch.equal(first, views(whole, batch_size=7))
    for change in ({"epoch": 1}, {"seed": 4}):
        other = views(whole, batch_size=7, **change)
        assert (first != other).flatten(1).any(dim=1).float().mean() > 0.5


def test_seed_zero_shuffles_and_augments():
    whole = split(augmentation=AUGMENTED)
    assert not torch.equal(views(whole, batch_size=7, seed=0), views(whole, batch_size=7, augment=False))


def test_images_that_are_not_trained_on_are_not_augmented():
    whole = split(augmentation=AUGMENTED)
    plain = torch.cat([batch.images for batch in whole.batches(7, augment=True)])
    torch.testing.assert_close(plain, (whole.images / 255 - 0.5) / 0.25)


@pytest.mark.parametrize("start", [0, 1, 3, 4, 5])
def test_a_pass_can_be_taken_up_in_the_middle(start):
    whole = split(augmentation=AUGMENTED)
    options = {"seed": 1, "epoch": 2, "augment": True}
    rest = list(whole.batches(7, start=start, **options))
    expected = list(whole.batches(7, **options))[start:]
    assert len(rest) == len(expected)
    for ours, theirs in zip(rest, expected, strict=True):
        assert all(torch.equal(*pair) for pair in zip(ours, theirs, strict=True))


def test_a_fingerprint_is_of_every_pixel_every_label_and_the_shape():
    whole = split()
    assert split().fingerprint() == whole.fingerprint() == whole.subset(range(30)).fingerprint()
    brighter, labels = whole.images.clone(), whole.labels.clone()
    brighter[29, 0, 3, 4] ^= 1
    labels[29] = 0
    others = (
        {"images": brighter},
        {"labels": labels},
        {"images": whole.images.reshape(30, 1, 5, 4)},
        {"images": whole.images.flip(0)},
    )
    found = {split(**changes).fingerprint() for changes in others}
    assert len(found | {whole.fingerprint()}) == 5


def test_stratify_keeps_the_share_of_each_class():
    labels = torch.cat([torch.full((100,), 0), torch.full((40,), 1), torch.full((3,), 2)])
    parts = stratify(labels, (0.7, 0.15, 0.15), seed=0)
    assert sorted(torch.cat(parts).tolist()) == list(range(143))
    assert [labels[part].bincount(minlength=3).tolist() for part in parts] == [
        [70, 28, 1],
        [15, 6, 1],
        [15, 6, 1],
    ]
    assert not torch.equal(parts[0], stratify(labels, (0.7, 0.15, 0.15), seed=1)[0])


def test_channel_statistics_are_per_channel():
    images = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    images[:, 1] = 255
    images[0, 2] = 255
    mean, std = channel_statistics(images)
    assert mean == pytest.approx((0, 1, 0.5))
    assert std[2] == pytest.approx(0.5)
    assert min(std) > 0, "a constant channel must not divide by zero"


def test_channel_statistics_of_many_images():
    images = torch.randint(
        0, 256, (2500, 2, 3, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    values = images.numpy() / 255
    mean, std = channel_statistics(images)
    assert mean == pytest.approx(values.mean(axis=(0, 2, 3)))
    assert std == pytest.approx(values.std(axis=(0, 2, 3)))


@pytest.mark.parametrize("show", [str, repr, pretty], ids=["print", "prompt", "notebook"])
def test_a_data_set_is_shown_in_a_few_lines(show):
    whole = split(1200, classes=8, source="made up, train (by hand)")
    data = ImageData("made up", whole, split(4, classes=8), split(30, classes=8), "by hand")
    assert show(data).splitlines() == [
        "ImageData: made up, pictures of 1×4×5, 8 classes: a, b, c, d, e, …",
        "  train   1,200 images",
        "  val         4 images",
        "  test       30 images",
        "  division: by hand",
    ]
    assert show(whole).splitlines() == [
        "Split: made up, train (by hand)", "  1,200 images of 1×4×5", "  8 classes: a, b, c, d, e, …"
    ]  # fmt: skip


def test_the_size_that_is_shown_is_that_of_what_networks_get():
    cropped = split(augmentation=Augmentation(test=(CentreCrop(3),)))
    assert "30 images of 1×3×3" in repr(cropped)
    assert next(cropped.batches(2)).images.shape[1:] == (1, 3, 3)
    assert repr(cropped).endswith("3 classes: a, b, c"), "all of them, where they are few"


def test_a_data_set_is_no_split():
    """In one sentence wherever images are given: for training, for a test, for an export."""
    from kdlib import create_model, evaluate, fit, predict
    from kdlib.deploy.export import FromPixels, pixels

    part, network = split(), create_model("convnet", 3, in_channels=1, width=2)
    data = ImageData("made up", part, part, part)
    uses = [
        ("train", lambda images: fit(network, images)),
        ("test", lambda images: fit(network, part, test=images)),
        ("data", lambda images: predict(network, images)),
        ("data", lambda images: evaluate(network, images)),
        ("split", lambda images: FromPixels(network, images)),
        ("split", lambda images: pixels(images, 2)),
    ]
    for name, use in uses:
        with pytest.raises(
            ValueError, match=rf"{name} is a whole data set, 'made up'; give .*: \.train, \.val"
        ):
            use(data)
        with pytest.raises(ValueError, match=rf"{name} is a TensorDataset; give a split of load_data"):
            use(torch.utils.data.TensorDataset(torch.zeros(3)))


@pytest.mark.parametrize("seed", [-1, 0.5])
def test_fit_takes_the_same_seeds(seed):
    from kdlib import create_model, fit

    with pytest.raises(ValueError, match=rf"seed is {seed}; give a whole number"):
        fit(create_model("convnet", 3, in_channels=1, width=2), split(), seed=seed)
