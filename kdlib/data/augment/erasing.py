"""Random erasing: a rectangle of the picture is blanked."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kdlib.data.augment.crops import ATTEMPTS, check_range
from kdlib.data.transfer import send


@dataclass(frozen=True)
class RandomErasing:
    """Blank a rectangle of random area, shape and place, in a share of the images.

    It comes after normalisation, so that 0 is the mean colour. The rectangles are those of torchvision's
    transform of this name.

    Args:
        p: probability that an image loses a rectangle.
        scale: smallest and largest area of it, as a share of the picture's.
        ratio: smallest and largest height over width.
        value: what it is filled with, in units of the standard deviation.

    Raises:
        ValueError: the probability is not between 0 and 1, or a range is empty or not above 0.

    Reference:
        Zhong, Zheng, Kang, Li and Yang, "Random Erasing Data Augmentation", 2020.
    """

    p: float = 0.5
    scale: tuple[float, float] = (0.02, 0.33)
    ratio: tuple[float, float] = (0.3, 3.3)
    value: float = 0.0

    numbers = 1 + 4 * ATTEMPTS
    is_last = True

    def __post_init__(self) -> None:
        if not 0 <= self.p <= 1:
            raise ValueError(f"p is {self.p}; give a probability from 0 to 1.")
        check_range("scale", self.scale)
        check_range("ratio", self.ratio)

    def __call__(self, images: Tensor, numbers: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        top, left, rows, columns = send(self.boxes(numbers, height, width), images.device).unbind(dim=1)
        down = torch.arange(height, device=images.device)
        across = torch.arange(width, device=images.device)
        inside_rows = (down >= top[:, None]) & (down < (top + rows)[:, None])
        inside_columns = (across >= left[:, None]) & (across < (left + columns)[:, None])
        return images.masked_fill(
            inside_rows[:, None, :, None] & inside_columns[:, None, None, :], self.value
        )

    def boxes(self, numbers: Tensor, height: int, width: int) -> Tensor:
        """Top, left, height and width of each rectangle, (N, 4); all 0 where nothing is erased."""
        chosen = numbers[:, :1] < self.p
        area, shape, down, across = numbers[:, 1:].double().view(-1, ATTEMPTS, 4).unbind(dim=2)
        area = height * width * (self.scale[0] + (self.scale[1] - self.scale[0]) * area)
        low, high = (math.log(end) for end in self.ratio)
        shape = (low + (high - low) * shape).exp()
        rows, columns = (area * shape).sqrt().round().long(), (area / shape).sqrt().round().long()
        fits = (rows < height) & (columns < width)
        top = (down * (height - rows + 1)).long()
        left = (across * (width - columns + 1)).long()
        first = fits.int().argmax(dim=1, keepdim=True)
        found = torch.cat([value.gather(1, first) for value in (top, left, rows, columns)], dim=1)
        return found * (chosen & fits.any(dim=1, keepdim=True))
