"""Augmentation of a whole batch at once, on the device that trains."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Augmentation:
    """What is done to training images: a random shift, and a random mirror image.

    Attributes:
        padding: the largest shift in pixels, in each direction; the border is filled with zeros.
        flip: mirror left and right, for one image in two.
    """

    padding: int = 0
    flip: bool = False

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Augmented images, (N, C, H, W) of any type; random numbers are drawn on the CPU."""
        if self.padding:
            images = random_crop(images, self.padding, generator)
        return random_flip(images, generator) if self.flip else images


def random_crop(images: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    """Pad (N, C, H, W) with zeros on all sides and cut each image out again at a place of its own."""
    count, channels, height, width = images.shape
    padded = F.pad(images, (padding,) * 4)
    top, left = torch.randint(0, 2 * padding + 1, (2, count), generator=generator).to(images.device)
    rows = top[:, None] + torch.arange(height, device=images.device)
    columns = left[:, None] + torch.arange(width, device=images.device)
    image = torch.arange(count, device=images.device)[:, None, None, None]
    channel = torch.arange(channels, device=images.device)[None, :, None, None]
    return padded[image, channel, rows[:, None, :, None], columns[:, None, None, :]]


def random_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image of (N, C, H, W) left and right with probability one half."""
    flipped = torch.rand(len(images), generator=generator).to(images.device) < 0.5
    return torch.where(flipped[:, None, None, None], images.flip(-1), images)


def normalize(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """uint8 (N, C, H, W) to float32 with the given mean and standard deviation of each channel removed."""
    scale = 1 / (255 * torch.tensor(std, device=images.device))
    offset = torch.tensor(mean, device=images.device) / torch.tensor(std, device=images.device)
    return images.float() * scale[:, None, None] - offset[:, None, None]
