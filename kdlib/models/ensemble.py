"""Several teachers as one."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kdlib.models.answers import Network, as_network, compute_logits


class Ensemble(nn.Module):
    r"""Several teachers that answer as one: the weighted mean of their logits.

    .. code-block:: python

        Distiller(student, Ensemble([teacher, lambda images: other(images)]), [SoftTargets()])

    .. math:: z = \sum_k w_k z_k, \qquad \sum_k w_k = 1

    Softened at any temperature, that is the geometric mean of the teachers' softened answers, normalised.

    Args:
        teachers: networks, or functions from images to logits, with the same classes; two or more.
        weights: of each, 0 or more; equal if not given. They need not sum to 1.

    Raises:
        ValueError: there are fewer than two teachers, or the weights are not one number of 0 or more for
            each, or all 0. When it is asked: the teachers answer in different shapes.

    Reference:
        Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015, section 1.
    """

    def __init__(self, teachers: Sequence[Network], weights: Sequence[float] | None = None) -> None:
        super().__init__()
        if not isinstance(teachers, list | tuple) or len(teachers) < 2:
            raise ValueError("an ensemble needs two teachers or more; give them as a list.")
        shares = [1.0] * len(teachers) if weights is None else [float(weight) for weight in weights]
        if len(shares) != len(teachers) or not all(0 <= share < float("inf") for share in shares):
            raise ValueError(f"weights is {weights} for {len(teachers)} teachers; give each 0 or more.")
        if not sum(shares):
            raise ValueError("weights are all 0; give one teacher more.")
        self.teachers = nn.ModuleList(as_network(teacher, "teacher") for teacher in teachers)
        self.weights = [share / sum(shares) for share in shares]

    def forward(self, images: Tensor) -> Tensor:
        answers = [compute_logits(teacher, images) for teacher in self.teachers]
        shapes = {tuple(logits.shape) for logits in answers}
        if len(shapes) > 1:
            raise ValueError(
                f"the teachers answer in shapes {', '.join(map(str, sorted(shapes)))}; give teachers of the "
                "same classes."
            )
        weighted = [weight * logits.float() for weight, logits in zip(self.weights, answers, strict=True)]
        return torch.stack(weighted).sum(0)

    def extra_repr(self) -> str:
        return f"weights={self.weights}"
