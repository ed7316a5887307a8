"""Crops and mirror images: torchvision's pixels for the same box, and its boxes in distribution."""

import pytest
import torch
from scipy import stats
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from kdlib.data.augment import CentreCrop, RandomCrop, RandomFlip, RandomResizedCrop


def numbers(count, transform, seed=0):
    return torch.rand(count, transform.numbers, generator=torch.Generator().manual_seed(seed))


def pictures(count, *shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=generator)


def test_random_crop_is_a_shift_with_zeros_and_every_shift_is_as_likely():
    """One bright pixel in the middle: it lands on each of the nine places of a shift by up to one pixel."""
    images = torch.zeros(9000, 2, 5, 5)
    images[:, :, 2, 2] = 1
    crop = RandomCrop(padding=1)
    moved = crop(images, numbers(9000, crop))
    assert moved.shape == images.shape
    assert torch.equal(moved.sum(dim=(2, 3)), torch.ones(9000, 2))
    assert torch.equal(moved[:, 0], moved[:, 1]), "all channels of an image move together"
    counts = moved[:, 0].sum(dim=0)[1:4, 1:4]
    # Nine cells of 1,000 expected; chi-squared with 8 degrees of freedom is below 26 with probability 0.999.
    assert counts.sum() == 9000
    assert ((counts - 1000) ** 2 / 1000).sum() < 26


@pytest.mark.parametrize(("mode", "theirs"), [("zeros", "constant"), ("reflect", "reflect")])
def test_random_crop_has_torchvisions_pixels(mode, theirs):
    images, crop = pictures(40, 3, 6, 8), RandomCrop(padding=3, mode=mode)
    drawn = numbers(40, crop)
    for image, moved, (down, across) in zip(images, crop(images, drawn), drawn, strict=True):
        padded = functional.pad(image, [3, 3, 3, 3], padding_mode=theirs)
        expected = functional.crop(padded, int(down * 7), int(across * 7), 6, 8)
        assert torch.equal(moved, expected)


def test_random_flip_mirrors_half_of_the_images():
    images, flip = torch.arange(12.0).reshape(1, 1, 3, 4).repeat(4000, 1, 1, 1), RandomFlip()
    flipped = flip(images, numbers(4000, flip))
    same = (flipped == images).flatten(1).all(dim=1)
    assert torch.equal(flipped[~same], images[~same].flip(-1))
    assert abs(same.sum() - 2000) < 4 * 4000**0.5 / 2


@pytest.mark.parametrize("shape", [(10, 10), (11, 8)])
def test_centre_crop_is_torchvisions(shape):
    images, crop = pictures(3, 3, *shape), CentreCrop(6)
    assert torch.equal(crop(images, numbers(3, crop)), functional.center_crop(images, [6, 6]))


@pytest.mark.parametrize("shape", [(64, 64), (40, 120)])
def test_boxes_of_random_resized_crop_are_distributed_as_torchvisions(shape):
    """Area, shape and place of 2,000 boxes each; Kolmogorov and Smirnov's test with fixed seeds."""
    crop = RandomResizedCrop(32, scale=(0.2, 0.9), ratio=(0.5, 1.5))
    ours = crop.boxes(numbers(2000, crop), *shape).double()
    theirs_by = v2.RandomResizedCrop(32, scale=(0.2, 0.9), ratio=(0.5, 1.5))
    with torch.random.fork_rng():
        torch.manual_seed(5)
        made = [theirs_by.make_params([torch.empty(3, *shape)]) for _ in range(2000)]
    theirs = torch.tensor([[box["top"], box["left"], box["height"], box["width"]] for box in made]).double()

    def figures(boxes):
        top, left, rows, columns = boxes.unbind(dim=1)
        return {"area": rows * columns, "shape": columns / rows, "top": top, "left": left}

    for name, value in figures(ours).items():
        assert stats.ks_2samp(value, figures(theirs)[name]).pvalue > 0.01, name
    assert (ours[:, 0] + ours[:, 2]).max() <= shape[0]
    assert (ours[:, 1] + ours[:, 3]).max() <= shape[1]


def test_random_resized_crop_has_torchvisions_pixels():
    images, crop = pictures(20, 3, 40, 60), RandomResizedCrop(24)
    drawn = numbers(20, crop)
    for image, resized, box in zip(images, crop(images, drawn), crop.boxes(drawn, 40, 60), strict=True):
        assert torch.equal(resized, functional.resized_crop(image, *box.tolist(), [24, 24], antialias=True))


def test_random_resized_crop_where_no_box_fits():
    """A picture so wide that no attempt fits: the middle, with the widest shape allowed."""
    crop = RandomResizedCrop(8, scale=(1.0, 1.0), ratio=(0.9, 1.1))
    boxes = crop.boxes(numbers(5, crop), 10, 100)
    theirs = v2.RandomResizedCrop(8, scale=(1.0, 1.0), ratio=(0.9, 1.1)).make_params(
        [torch.empty(3, 10, 100)]
    )
    assert boxes.tolist() == [[theirs["top"], theirs["left"], theirs["height"], theirs["width"]]] * 5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomCrop(padding=-1), "padding is -1"),
        (lambda: RandomCrop(mode="edge"), "mode is 'edge'; choose 'zeros' or 'reflect'"),
        (lambda: RandomResizedCrop(0), "size is 0"),
        (lambda: RandomResizedCrop(8, scale=(0.5, 0.2)), r"scale is \(0.5, 0.2\)"),
        (lambda: RandomResizedCrop(8, ratio=(0, 1)), r"ratio is \(0, 1\)"),
    ],
)
def test_settings_that_cannot_be(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_pictures_that_are_too_small():
    crop = RandomCrop(padding=4, mode="reflect")
    with pytest.raises(ValueError, match="padding is 4, and a picture of 4×5 can be reflected by 3"):
        crop(pictures(2, 3, 4, 5), numbers(2, crop))
    with pytest.raises(ValueError, match="pictures of 4×5 have no square of 6"):
        CentreCrop(6)(pictures(2, 3, 4, 5), torch.empty(2, 0))
