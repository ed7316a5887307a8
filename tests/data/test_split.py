"""Splits: what may be in them, how they are divided, and how they become batches."""

import pytest
import torch

from kdlib.data import Augmentation, Split
from kdlib.data.augment import RandomCrop, RandomFlip
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
