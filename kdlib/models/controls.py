"""Teachers that know less about the picture, or nothing: the negative controls of an experiment."""

import math

import torch
from torch import Tensor, nn


class ShuffledTeacher(nn.Module):
    """A teacher whose answers are handed to the wrong images, at random within each batch.

    The answers keep their confidence and their classes keep their share; only the tie between image and
    answer is cut. What a student gains from it is not knowledge about the images.

    Args:
        teacher: the network whose logits are shuffled.
        seed: of the permutations.
    """

    def __init__(self, teacher: nn.Module, seed: int = 0) -> None:
        super().__init__()
        self.teacher = teacher
        self._generator = torch.Generator().manual_seed(seed)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.teacher(images)
        order = torch.randperm(len(logits), generator=self._generator)
        return logits[order.to(logits.device)]


class NoisyTeacher(nn.Module):
    """A teacher whose logits carry independent Gaussian noise, drawn anew for every batch.

    A little noise asks how exact the teacher's answers must be; much of it drowns them, and what a student
    then gains is not knowledge about the images.

    Args:
        teacher: the network whose logits are disturbed.
        std: standard deviation of the noise, in units of the logits.
        seed: of the noise.

    Raises:
        ValueError: the standard deviation is negative or not finite.
    """

    def __init__(self, teacher: nn.Module, std: float, seed: int = 0) -> None:
        super().__init__()
        if not (math.isfinite(std) and std >= 0):
            raise ValueError(f"std is {std}; give a finite number, 0 or more.")
        self.teacher = teacher
        self.std = std
        self._generator = torch.Generator().manual_seed(seed)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.teacher(images)
        # Drawn on the CPU, so that one seed gives one noise on every device.
        noise = torch.randn(logits.shape, generator=self._generator)
        return logits + self.std * noise.to(logits)
