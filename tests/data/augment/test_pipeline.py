"""The whole way of an image into a network: order of the transforms, and normalisation."""

import pytest
import torch

from kdlib.data import Augmentation, Split
from kdlib.data.augment import (
    CentreCrop,
    RandAugment,
    RandomCrop,
    RandomErasing,
    RandomFlip,
    RandomResizedCrop,
    normalize,
)

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def pictures(count=6):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, 20, 20), dtype=torch.uint8, generator=generator)


def test_normalize_is_mean_0_and_standard_deviation_1_of_its_statistics():
    images = pictures()
    expected = (images.double() / 255 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    torch.testing.assert_close(normalize(images, MEAN, STD).double(), expected, rtol=1e-5, atol=1e-6)


def test_transforms_run_in_order_each_on_its_own_numbers_and_erasing_last():
    steps = (RandomResizedCrop(16), RandomErasing(p=1.0), RandomFlip(), RandAugment())
    augmentation = Augmentation(train=steps, test=(CentreCrop(16),))
    drawn = augmentation.draw(6, torch.Generator().manual_seed(1))
    crop, erase, flip, randaugment = drawn.split([step.numbers for step in steps], dim=1)
    expected = steps[3](steps[2](steps[0](pictures(), crop), flip), randaugment)
    expected = steps[1](normalize(expected, MEAN, STD), erase)
    assert torch.equal(augmentation(pictures(), MEAN, STD, drawn), expected)


def test_images_that_are_not_trained_on_take_the_other_way():
    augmentation = Augmentation(train=(RandomFlip(),), test=(CentreCrop(16),))
    expected = normalize(pictures()[..., 2:18, 2:18], MEAN, STD)
    assert torch.equal(augmentation(pictures(), MEAN, STD), expected)


def test_nothing_to_do():
    assert torch.equal(Augmentation()(pictures(), MEAN, STD), normalize(pictures(), MEAN, STD))


def test_it_says_what_it_is_in_a_record():
    text = repr(Augmentation(train=(RandomFlip(), RandAugment(2, 9))))
    assert text == "Augmentation(train=(RandomFlip(), RandAugment(num_ops=2, magnitude=9)), test=())"


@pytest.mark.parametrize(
    "step",
    [
        RandomFlip(), RandomCrop(2), RandomCrop(2, mode="reflect"), CentreCrop(12), RandomResizedCrop(12),
        RandAugment(), RandomErasing(p=0.5),
    ],
    ids=repr,
)  # fmt: skip
def test_a_gpu_is_not_waited_for(step, no_waiting):
    way = Augmentation(train=(step,))
    split = Split(pictures(40), torch.arange(40) % 4, tuple("abcd"), MEAN, STD, augmentation=way)
    batches = split.batches(8, seed=0, augment=True, device="meta")
    first = next(batches)
    with no_waiting():
        rest = list(batches)
    assert [batch.images.device.type for batch in (first, *rest)] == ["meta"] * 5
