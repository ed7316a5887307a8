"""Transforms that choose a part of the picture, and the mirror image."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlib.data.transfer import send

# torchvision's RandomResizedCrop and RandomErasing try so often to find a box that fits.
ATTEMPTS = 10


@dataclass(frozen=True)
class RandomFlip:
    """Mirror each image left and right with probability one half."""

    numbers = 1
    is_last = False

    def __call__(self, images: Tensor, numbers: Tensor) -> Tensor:
        # Not by the positions of those that are chosen: a GPU would have to tell how many there are.
        mirrored = send(numbers[:, 0] < 0.5, images.device)
        return torch.where(mirrored[:, None, None, None], images.flip(-1), images)


@dataclass(frozen=True)
class RandomCrop:
    """Pad on all sides and cut each image out again at a place of its own: a random shift.

    Args:
        padding: the largest shift in pixels, in each direction.
        mode: what the border is filled with, "zeros" or "reflect" (the picture mirrored at its edge).

    Raises:
        ValueError: the padding is negative, the mode is unknown, or (when called) the picture is too small to
            be reflected.
    """

    padding: int = 4
    mode: Literal["zeros", "reflect"] = "zeros"

    numbers = 2
    is_last = False

    def __post_init__(self) -> None:
        if self.padding < 0:
            raise ValueError(f"padding is {self.padding}; give a number of pixels, 0 or more.")
        if self.mode not in ("zeros", "reflect"):
            raise ValueError(f"mode is {self.mode!r}; choose 'zeros' or 'reflect'.")

    def __call__(self, images: Tensor, numbers: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        padded = self._padded(images)
        corners = (numbers * (2 * self.padding + 1)).long()
        top, left = send(corners, images.device).unbind(dim=1)
        rows = top[:, None] + torch.arange(height, device=images.device)
        columns = left[:, None] + torch.arange(width, device=images.device)
        # One index into the flattened picture: several times as fast as one index for each dimension.
        pixels = (rows[:, :, None] * padded.shape[-1] + columns[:, None, :]).flatten(1)
        return padded.flatten(2).gather(2, pixels[:, None].expand(-1, images.shape[1], -1)).view_as(images)

    def _padded(self, images: Tensor) -> Tensor:
        sides = (self.padding,) * 4
        if self.mode == "zeros":
            return F.pad(images, sides)
        if self.padding >= min(images.shape[-2:]):
            raise ValueError(
                f"padding is {self.padding}, and a picture of {images.shape[-2]}×{images.shape[-1]} can be "
                f"reflected by {min(images.shape[-2:]) - 1} at most."
            )
        # torch reflects no integers.
        return F.pad(images.float(), sides, mode="reflect").to(images.dtype)


@dataclass(frozen=True)
class CentreCrop:
    """The square in the middle.

    Raises:
        ValueError: when called, the picture is smaller than that.
    """

    size: int

    numbers = 0
    is_last = False

    def __call__(self, images: Tensor, numbers: Tensor) -> Tensor:  # noqa: ARG002  # nothing is random
        height, width = images.shape[-2:]
        if min(height, width) < self.size:
            raise ValueError(f"pictures of {height}×{width} have no square of {self.size} in the middle.")
        top, left = round((height - self.size) / 2), round((width - self.size) / 2)
        return images[..., top : top + self.size, left : left + self.size]


@dataclass(frozen=True)
class RandomResizedCrop:
    """A random part of the picture, of random area and shape, resized to a square.

    The boxes are those of torchvision's transform of this name, and so is the resizing, bilinear with
    antialiasing.

    Args:
        size: side of the result in pixels.
        scale: smallest and largest area of the part, as a share of the picture's.
        ratio: smallest and largest width over height.

    Raises:
        ValueError: the size is below 1, or a range is empty or not above 0.
    """

    size: int
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    numbers = 4 * ATTEMPTS
    is_last = False

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size is {self.size}; give a number of pixels, 1 or more.")
        check_range("scale", self.scale)
        check_range("ratio", self.ratio)

    def __call__(self, images: Tensor, numbers: Tensor) -> Tensor:
        from torchvision.transforms.v2 import functional

        boxes = self.boxes(numbers, images.shape[-2], images.shape[-1]).tolist()
        return torch.stack(
            [
                functional.resized_crop(image, *box, [self.size, self.size], antialias=True)
                for image, box in zip(images, boxes, strict=True)
            ]
        )

    def boxes(self, numbers: Tensor, height: int, width: int) -> Tensor:
        """Top, left, height and width of each part, (N, 4): the first of ten attempts that fits.

        Where none does, it is the largest part in the middle with a shape in the range.
        """
        area, shape, down, across = numbers.double().view(-1, ATTEMPTS, 4).unbind(dim=2)
        area = height * width * _between(area, *self.scale)
        shape = _between(shape, math.log(self.ratio[0]), math.log(self.ratio[1])).exp()
        columns, rows = (area * shape).sqrt().round().long(), (area / shape).sqrt().round().long()
        fits = (columns > 0) & (columns <= width) & (rows > 0) & (rows <= height)
        top = (down * (height - rows + 1)).long()
        left = (across * (width - columns + 1)).long()
        first = fits.int().argmax(dim=1, keepdim=True)
        found = torch.cat([value.gather(1, first) for value in (top, left, rows, columns)], dim=1)
        return torch.where(fits.any(dim=1, keepdim=True), found, self._middle(height, width).to(found))

    def _middle(self, height: int, width: int) -> Tensor:
        rows, columns = height, width
        if width / height < self.ratio[0]:
            rows = round(width / self.ratio[0])
        elif width / height > self.ratio[1]:
            columns = round(height * self.ratio[1])
        return torch.tensor([(height - rows) // 2, (width - columns) // 2, rows, columns])


def check_range(name: str, values: tuple[float, float]) -> None:
    """Raise ValueError unless these are two numbers above 0, the smaller one first."""
    low, high = values
    if not (math.isfinite(high) and 0 < low <= high):
        raise ValueError(f"{name} is {values}; give two numbers above 0, the smaller one first.")


def _between(numbers: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * numbers
