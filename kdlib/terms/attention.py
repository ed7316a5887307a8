"""The term on attention: where in the image layers are active."""

from torch import Tensor

from kdlib import losses
from kdlib.terms.base import Layers, LayerTerm, Outputs


class Attention(LayerTerm):
    """Attention transfer, `kdlib.losses.attention_transfer_loss`, summed over the layers.

    Args:
        weight: factor in the total; the literature's 1000 belongs to ``form="code"``.
        layers: one for each stage, as a rule.
        p: exponent of the attention map.
        form: "code" or "paper".
    """

    name = "attention"

    def __init__(self, weight: float = 1000.0, *, layers: Layers, p: float = 2.0, form: str = "code") -> None:
        super().__init__(weight, layers, p=p, form=form)
        self.p, self.form = p, form

    def forward(self, outputs: Outputs) -> Tensor:
        student, teacher = zip(*self.both(outputs), strict=True)
        return losses.attention_transfer_loss(student, teacher, self.p, self.form)
