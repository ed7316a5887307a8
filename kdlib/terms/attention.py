"""The term on attention: where in the image layers are active."""

from collections.abc import Sequence

from torch import Tensor

from kdlib import losses
from kdlib.losses.inputs import check_exponent, check_form
from kdlib.terms.base import Layers, LayerTerm
from kdlib.terms.weights import Weight


class Attention(LayerTerm):
    """Attention transfer, `kdlib.losses.attention_transfer_loss`, summed over the layers.

    Args:
        weight: factor in the total; the literature's 1000 belongs to ``form="code"``.
        layers: one for each stage, as a rule.
        p: exponent of the attention map.
        form: "code" or "paper".
        weights: as of every `LayerTerm`.
        name: as of every `Term`.
    """

    name = "attention"

    def __init__(
        self,
        weight: Weight = 1000.0,
        *,
        layers: Layers,
        p: float = 2.0,
        form: str = "code",
        weights: Sequence[float] | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(weight, layers, p=p, form=form, weights=weights, name=name)
        check_exponent(p)
        check_form(form)
        self.p, self.form = p, form

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        return losses.attention_transfer_loss(student, teacher, self.p, self.form)
