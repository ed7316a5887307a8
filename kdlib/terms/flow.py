"""The term on flow: how one layer's features go over into the next one's."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from kdlib import losses
from kdlib.losses.maps import check_pooling
from kdlib.terms.base import Layers, LayerTerm, Outputs, check_scalar
from kdlib.terms.weights import Weight


class FSP(LayerTerm):
    """Flow of the solution procedure, `kdlib.losses.fsp_loss` between each layer and the next.

    Beside `HardLabels` it is trained jointly. As its paper does it, it comes first and alone, and the labels
    after (`kdlib.schemes.stages`).

    Args:
        weight: factor in the total.
        layers: two or more in order; each has as many channels in the student as in the teacher.
        pooling: "max" or "average".
        reduction: "batchmean", "mean" or "sum".
        weights: the paper's λ, one for each layer and the next. Where 0 stands, there is a gap:
            ``layers=["layer1:input", "layer1", "layer2:input", "layer2"], weights=[1, 0, 1]`` is each stage
            by itself.
        name: as of every `Term`.

    Raises:
        ValueError: there is one layer only, or what `LayerTerm` refuses.
    """

    name = "fsp"

    def __init__(
        self,
        weight: Weight = 1.0,
        *,
        layers: Layers,
        pooling: str = "max",
        reduction: str = "batchmean",
        weights: Sequence[float] | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(weight, layers, pooling=pooling, reduction=reduction, weights=weights, name=name)
        if not self.parts:
            raise ValueError("FSP got 1 layer; give two or more, it compares what happens between layers.")
        check_pooling(pooling)
        check_scalar(reduction)
        self.pooling, self.reduction = pooling, reduction

    @property
    def parts(self) -> int:
        return len(self.pairs) - 1

    def forward(self, outputs: Outputs) -> Tensor:
        return self.total(self._flow, pairwise(self.both(outputs)))

    def _flow(self, first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> Tensor:
        student, teacher = zip(first, second, strict=True)
        return losses.fsp_loss(student, teacher, self.pooling, self.reduction)
