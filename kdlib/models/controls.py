"""Teachers that know nothing about the picture: the negative controls of an experiment."""

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
