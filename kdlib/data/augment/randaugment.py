"""RandAugment: a few random operations of one strength."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from kdlib.data.transfer import send

# Strengths run from 0 to 30, as in torchvision.
_BINS = 31

# Name, strength at the highest bin, and whether it may also be negative.
_OPERATIONS: tuple[tuple[str, float, bool], ...] = (
    ("Identity", 0.0, False),
    ("ShearX", 0.3, True),
    ("ShearY", 0.3, True),
    ("TranslateX", 150 / 331, True),
    ("TranslateY", 150 / 331, True),
    ("Rotate", 30.0, True),
    ("Brightness", 0.9, True),
    ("Color", 0.9, True),
    ("Contrast", 0.9, True),
    ("Sharpness", 0.9, True),
    ("Posterize", 4.0, False),
    ("Solarize", 1.0, False),
    ("AutoContrast", 0.0, False),
    ("Equalize", 0.0, False),
)


@dataclass(frozen=True)
class RandAugment:
    """A few operations on every image, drawn at random from fourteen, all of one strength.

    Operations, strengths and pixels are those of torchvision's transform of this name; the images that have
    drawn the same operation are changed together.

    Args:
        num_ops: operations on each image, one after another.
        magnitude: strength, a whole number from 0 to 30.

    Raises:
        ValueError: a number is out of range.

    Reference:
        Cubuk, Zoph, Shlens and Le, "RandAugment: Practical Automated Data Augmentation", 2020.
    """

    num_ops: int = 2
    magnitude: int = 9

    is_last = False

    def __post_init__(self) -> None:
        if self.num_ops < 0:
            raise ValueError(f"num_ops is {self.num_ops}; give a number of operations, 0 or more.")
        if self.magnitude not in range(_BINS):
            raise ValueError(f"magnitude is {self.magnitude}; give a whole number from 0 to {_BINS - 1}.")

    @property
    def numbers(self) -> int:
        return 2 * self.num_ops

    def __call__(self, images: Tensor, numbers: Tensor) -> Tensor:
        for drawn in numbers.split(2, dim=1):
            operation = (drawn[:, 0] * len(_OPERATIONS)).long()
            negative = (drawn[:, 1] < 0.5).long()
            images = self._apply(images, 2 * operation + negative)
        return images

    def _apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        """One operation on every image: 2 · operation, plus 1 where it is negative."""
        changed = images.clone()
        for which in drawn.unique().tolist():
            members = send((drawn == which).nonzero().flatten(), images.device)
            name, highest, is_signed = _OPERATIONS[which // 2]
            strength = highest * self.magnitude / (_BINS - 1)
            strength = -strength if is_signed and which % 2 else strength
            changed[members] = apply_operation(images[members], name, strength)
        return changed


def apply_operation(images: Tensor, name: str, strength: float) -> Tensor:
    """One of the operations on uint8 images (N, C, H, W), as torchvision does it with black for fill."""
    from torchvision.transforms.v2 import functional

    height, width = images.shape[-2:]
    geometry: dict[str, Callable[[], dict[str, Any]]] = {
        "ShearX": lambda: {"shear": [_degrees(strength), 0.0], "center": [0, 0]},
        "ShearY": lambda: {"shear": [0.0, _degrees(strength)], "center": [0, 0]},
        "TranslateX": lambda: {"translate": [int(strength * width), 0]},
        "TranslateY": lambda: {"translate": [0, int(strength * height)]},
    }
    if name in geometry:
        unmoved = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]}
        moved: Tensor = functional.affine(images, **(unmoved | geometry[name]()))
        return moved
    pixels: dict[str, Callable[[], Any]] = {
        "Identity": lambda: images,
        "Rotate": lambda: functional.rotate(images, angle=strength),
        "Brightness": lambda: functional.adjust_brightness(images, 1.0 + strength),
        "Color": lambda: functional.adjust_saturation(images, 1.0 + strength),
        "Contrast": lambda: functional.adjust_contrast(images, 1.0 + strength),
        "Sharpness": lambda: functional.adjust_sharpness(images, 1.0 + strength),
        "Posterize": lambda: functional.posterize(images, bits=8 - round(strength)),
        "Solarize": lambda: functional.solarize(images, threshold=255 * (1 - strength)),
        "AutoContrast": lambda: functional.autocontrast(images),
        "Equalize": lambda: functional.equalize(images),
    }
    changed: Tensor = pixels[name]()
    return changed


def _degrees(tangent: float) -> float:
    return math.degrees(math.atan(tangent))
