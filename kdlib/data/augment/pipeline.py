"""What is done to images on their way into a network, in order: transforms, and normalisation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from kdlib.data.transfer import send


class Transform(Protocol):
    """One step of the way, for a whole batch.

    Attributes:
        numbers: how many random numbers it needs for each image.
        is_last: it comes after normalisation, where 0 is the mean colour.
    """

    @property
    def numbers(self) -> int: ...

    @property
    def is_last(self) -> bool: ...

    def __call__(self, images: Tensor, numbers: Tensor) -> Tensor:
        """Images (N, C, H, W), anywhere, changed by numbers (N, k) between 0 and 1, on the CPU."""
        ...


@dataclass(frozen=True)
class Augmentation:
    """The transforms of a data set.

    Attributes:
        train: for training images, in order; those that come after normalisation are last.
        test: for all other images; they use no random numbers.
    """

    train: tuple[Transform, ...] = ()
    test: tuple[Transform, ...] = ()

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """The random numbers of an epoch for `count` images, (count, k), on the CPU."""
        return torch.rand(count, sum(step.numbers for step in self.train), generator=generator)

    def __call__(
        self, images: Tensor, mean: Sequence[float], std: Sequence[float], numbers: Tensor | None = None
    ) -> Tensor:
        """Normalised float32 images from uint8 ones.

        Args:
            images: shape (N, C, H, W).
            mean, std: of each channel, in units of 0 to 1.
            numbers: rows of what `draw` gave, on the CPU: a GPU would have to be waited for where they decide
                what is done. None for images that are not trained on.
        """
        steps = self.test if numbers is None else self.train
        columns = iter(() if numbers is None else numbers.split([step.numbers for step in steps], dim=1))
        drawn = [torch.empty(len(images), 0) if numbers is None else next(columns) for _ in steps]
        for step, row in zip(steps, drawn, strict=True):
            images = images if step.is_last else step(images, row)
        images = normalize(images, mean, std)
        for step, row in zip(steps, drawn, strict=True):
            images = step(images, row) if step.is_last else images
        return images


def normalize(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """uint8 (N, C, H, W) to float32 with the given mean and standard deviation of each channel removed."""
    deviation = torch.tensor(std)
    scales = torch.stack([-torch.tensor(mean) / deviation, 1 / (255 * deviation)])[..., None, None]
    offset, scale = send(scales, images.device)
    return torch.addcmul(offset, images.float(), scale)
