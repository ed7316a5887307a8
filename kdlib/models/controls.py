"""Teachers that know less about the picture, or nothing: the negative controls of an experiment.

Each keeps the network under the name ``module``, through which `tap` looks.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from kdlib.models.answers import Network, as_network, compute_logits


class ShuffledTeacher(nn.Module):
    """A teacher who looks at another image of the batch, at random, and answers for that one.

    The answers keep their confidence and their classes keep their share, and so do the maps inside; only the
    tie between image and answer is cut. What a student gains from it is not knowledge about the images.

    Args:
        teacher: the network that sees the images in another order.
        seed: of the permutations.
    """

    def __init__(self, teacher: Network, seed: int = 0) -> None:
        super().__init__()
        self.module = as_network(teacher, "teacher")
        self._generator = torch.Generator().manual_seed(seed)

    def forward(self, images: Tensor) -> Tensor:
        # The images and not the logits change places, so that tapped layers are shuffled as the answers are.
        order = torch.randperm(len(images), generator=self._generator)
        return compute_logits(self.module, images[order.to(images.device)])


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

    def __init__(self, teacher: Network, std: float, seed: int = 0) -> None:
        super().__init__()
        if not (math.isfinite(std) and std >= 0):
            raise ValueError(f"std is {std}; give a finite number, 0 or more.")
        self.module = as_network(teacher, "teacher")
        self.std = std
        self._generator = torch.Generator().manual_seed(seed)

    def forward(self, images: Tensor) -> Tensor:
        logits = compute_logits(self.module, images)
        # Drawn on the CPU, so that one seed gives one noise on every device.
        noise = torch.randn(logits.shape, generator=self._generator)
        return logits + self.std * noise.to(logits)


class MissingTeacher(nn.Module):
    """A teacher who is absent for some of the images, drawn anew for every batch: then all logits are 0.

    Equal logits say that every class is as likely as any other. A teacher who is always absent is therefore
    label smoothing: it holds the student back from certainty, and says nothing about the picture.

    Args:
        teacher: the network that answers for the other images.
        share: probability that the answer to an image is missing.
        seed: of the absences.

    Raises:
        ValueError: the share is not between 0 and 1.
    """

    def __init__(self, teacher: Network, share: float = 1.0, seed: int = 0) -> None:
        super().__init__()
        if not 0 <= share <= 1:
            raise ValueError(f"share is {share}; give a number from 0 to 1.")
        self.module = as_network(teacher, "teacher")
        self.share = share
        self._generator = torch.Generator().manual_seed(seed)

    def forward(self, images: Tensor) -> Tensor:
        logits = compute_logits(self.module, images)
        absent = torch.rand(len(logits), 1, generator=self._generator) < self.share
        return logits.masked_fill(absent.to(logits.device), 0.0)


def generators(network: nn.Module) -> Iterator[tuple[str, torch.Generator]]:
    """The sources of random numbers that a network's modules hold, by path."""
    for path, module in network.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, torch.Generator):
                yield f"{path}.{name}", value
