"""RandAugment: torchvision's pixels for every operation and strength, and every operation equally often."""

import pytest
import torch
from torchvision.transforms import v2

from kdlib.data.augment import RandAugment
from kdlib.data.augment.randaugment import _OPERATIONS, apply_operation


def pictures(count=4, channels=3):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, channels, 24, 20), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("magnitude", [0, 5, 9, 30])
@pytest.mark.parametrize(("name", "highest", "signed"), _OPERATIONS)
def test_operations_have_torchvisions_pixels(name, highest, signed, magnitude):
    theirs = v2.RandAugment()
    space, is_signed = theirs._AUGMENTATION_SPACE[name]
    strengths = space(31, 24, 20)
    strength = 0.0 if strengths is None else float(strengths[magnitude])
    assert is_signed == signed
    for sign in (1, -1) if signed else (1,):
        expected = theirs._apply_image_or_video_transform(
            pictures(), name, sign * strength, theirs.interpolation, theirs._fill
        )
        actual = apply_operation(pictures(), name, sign * highest * magnitude / 30)
        # Strengths are rounded to float32 there, so that a pixel may be one level off.
        assert (actual.int() - expected.int()).abs().max() <= 1


def test_names_are_torchvisions():
    assert [name for name, _, _ in _OPERATIONS] == list(v2.RandAugment()._AUGMENTATION_SPACE)


def test_every_operation_and_sign_is_drawn_as_often_as_another(monkeypatch):
    """28,000 draws of 14 operations, half of them negative."""
    seen = torch.zeros(28)

    def count(_self, images, drawn):
        seen.add_(drawn.bincount(minlength=28))
        return images

    monkeypatch.setattr(RandAugment, "_apply", count)
    augment = RandAugment(num_ops=1, magnitude=9)
    drawn = torch.rand(28_000, augment.numbers, generator=torch.Generator().manual_seed(0))
    augment(torch.zeros(28_000, 1, 1, 1, dtype=torch.uint8), drawn)
    # Chi-squared with 27 degrees of freedom is below 55.5 with probability 0.999.
    assert ((seen - 1000) ** 2 / 1000).sum() < 55.5


@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_one_batch_do_not_touch_each_other(channels):
    augment = RandAugment(num_ops=2, magnitude=15)
    images = pictures(30, channels)
    drawn = torch.rand(30, augment.numbers, generator=torch.Generator().manual_seed(1))
    together = augment(images, drawn)
    alone = torch.cat([augment(images[i : i + 1], drawn[i : i + 1]) for i in range(30)])
    assert torch.equal(together, alone)
    assert not torch.equal(together, images)


@pytest.mark.parametrize(
    ("options", "message"), [({"num_ops": -1}, "num_ops is -1"), ({"magnitude": 31}, "magnitude is 31")]
)
def test_settings_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        RandAugment(**options)
