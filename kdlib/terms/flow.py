"""The term on flow: how one layer's features go over into the next one's."""

from torch import Tensor

from kdlib import losses
from kdlib.terms.base import Layers, LayerTerm, Outputs


class FSP(LayerTerm):
    """Flow of the solution procedure, `kdlib.losses.fsp_loss` between each layer and the next.

    Beside `HardLabels` it is trained jointly. As its paper does it, it comes first and alone, and the labels
    after (`kdlib.schemes.stages`).

    Args:
        weight: factor in the total.
        layers: two or more in order; each has as many channels in the student as in the teacher.
        pooling: "max" or "average".
        reduction: "batchmean" or "mean".
    """

    name = "fsp"

    def __init__(
        self, weight: float = 1.0, *, layers: Layers, pooling: str = "max", reduction: str = "batchmean"
    ) -> None:
        super().__init__(weight, layers, pooling=pooling, reduction=reduction)
        self.pooling, self.reduction = pooling, reduction

    def forward(self, outputs: Outputs) -> Tensor:
        student, teacher = zip(*self.both(outputs), strict=True)
        return losses.fsp_loss(student, teacher, self.pooling, self.reduction)
