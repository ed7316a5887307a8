"""Splits: what may be in them, how they are divided, and how they become batches."""

import pytest
import torch

from kdlib.data import Augmentation, Split
from kdlib.data.augment import random_crop, random_flip
from kdlib.data.split import channel_statistics, stratify


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


@pytest.mark.parametrize("size", [2, 31])
def test_balanced_subsets_that_cannot_be(size):
    with pytest.raises(ValueError, match=rf"size is {size}; choose from 3 .* to 30"):
        split().balanced(size)


def test_classes_left_out_and_kept():
    whole = split()
    assert set(whole.without(1).labels.tolist()) == {0, 2}
    assert set(whole.only(1).labels.tolist()) == {1}
    assert whole.without(1).classes == whole.classes
    with pytest.raises(ValueError, match="no class 3; classes run from 0 to 2"):
        whole.without(3)


@pytest.mark.parametrize("batch_size", [1, 7, 30, 100])
def test_batches_hold_every_image_once(batch_size):
    whole = split()
    batches = list(whole.batches(batch_size))
    assert torch.equal(torch.cat([labels for _, labels in batches]), whole.labels)
    images = torch.cat([images for images, _ in batches])
    torch.testing.assert_close(images, (whole.images / 255 - 0.5) / 0.25)
    shuffled = list(whole.batches(batch_size, generator=torch.Generator().manual_seed(0)))
    order = torch.cat([images for images, _ in shuffled]).flatten(1)
    assert not torch.equal(order, images.flatten(1))
    assert sorted(order.tolist()) == sorted(images.flatten(1).tolist())


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


def test_random_crop_is_a_shift_with_zeros_and_every_shift_is_as_likely():
    """One bright pixel in the middle: it lands on each of the nine places of a shift by up to one pixel."""
    images = torch.zeros(9000, 2, 5, 5)
    images[:, :, 2, 2] = 1
    moved = random_crop(images, 1, torch.Generator().manual_seed(0))
    assert moved.shape == images.shape
    assert torch.equal(moved.sum(dim=(2, 3)), torch.ones(9000, 2))
    assert torch.equal(moved[:, 0], moved[:, 1]), "all channels of an image move together"
    counts = moved[:, 0].sum(dim=0)[1:4, 1:4]
    # Nine cells of 1,000 expected; chi-squared with 8 degrees of freedom is below 26 with probability 0.999.
    assert counts.sum() == 9000
    assert ((counts - 1000) ** 2 / 1000).sum() < 26


def test_random_flip_mirrors_half_of_the_images():
    images = torch.arange(12.0).reshape(1, 1, 3, 4).repeat(4000, 1, 1, 1)
    flipped = random_flip(images, torch.Generator().manual_seed(0))
    same = (flipped == images).flatten(1).all(dim=1)
    assert torch.equal(flipped[~same], images[~same].flip(-1))
    assert abs(same.sum() - 2000) < 4 * 4000**0.5 / 2


def test_augmentation_repeats_with_its_generator():
    images = split().images
    augmentation = Augmentation(padding=1, flip=True)
    first, again, other = (augmentation(images, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(Augmentation()(images, torch.Generator()), images)
