"""Terms on relations: how the images of a batch lie to one another, or a layer's channels to one another.

Widths may differ, so nothing connects the networks.
"""

from collections.abc import Sequence

from torch import Tensor

from kdlib import losses
from kdlib.losses.inputs import check_above_zero, check_form, check_order
from kdlib.terms.base import EMBEDDING, Layers, LayerTerm
from kdlib.terms.weights import Weight


class RKDDistance(LayerTerm):
    """Distances between images, `kdlib.losses.rkd_distance_loss`; 25 in its authors' code.

    Args:
        weight: factor in the total.
        layers, weights: as of every `LayerTerm`.
        form: "paper" or "code".
        name: as of every `Term`.
    """

    name = "rkd distance"
    compares_images = True
    least_images = 3  # the one distance of two images is its own unit
    added = LayerTerm.added | {"form"}

    def __init__(
        self,
        weight: Weight = 25.0,
        *,
        layers: Layers = EMBEDDING,
        form: str = "paper",
        weights: Sequence[float] | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(weight, layers, form=form, weights=weights, name=name)
        check_form(form)
        self.form = form

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        return losses.rkd_distance_loss(student, teacher, self.form)


class RKDAngle(LayerTerm):
    """Angles in triangles of images, `kdlib.losses.rkd_angle_loss`; 50 in its authors' code.

    Args:
        weight: factor in the total.
        layers, weights: as of every `LayerTerm`.
        form: "paper" or "code".
        name: as of every `Term`.
    """

    name = "rkd angle"
    compares_images = True
    least_images = 3
    added = LayerTerm.added | {"form"}

    def __init__(
        self,
        weight: Weight = 50.0,
        *,
        layers: Layers = EMBEDDING,
        form: str = "paper",
        weights: Sequence[float] | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(weight, layers, form=form, weights=weights, name=name)
        check_form(form)
        self.form = form

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        return losses.rkd_angle_loss(student, teacher, self.form)


class SimilarityPreserving(LayerTerm):
    """Similarities between images, `kdlib.losses.similarity_preserving_loss`; 3000 in its paper.

    Args:
        weight: factor in the total.
        layers, weights: as of every `LayerTerm`.
        name: as of every `Term`.
    """

    name = "similarity"
    compares_images = True
    least_images = 2

    def __init__(
        self,
        weight: Weight = 3000.0,
        *,
        layers: Layers,
        weights: Sequence[float] | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(weight, layers, weights=weights, name=name)

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        return losses.similarity_preserving_loss(student, teacher)


class CorrelationCongruence(LayerTerm):
    """Correlations between images, `kdlib.losses.correlation_congruence_loss`.

    The weight 300 was the best of those tried in the course's chapter on relations. RepDistiller's 0.02
    belongs to ``form="code"``.

    Args:
        weight: factor in the total.
        layers, weights: as of every `LayerTerm`.
        form: "paper" or "code".
        gamma: of the Gaussian kernel, above 0; not used by "code".
        order: of the kernel's expansion, 1 or more; not used by "code".
        name: as of every `Term`.
    """

    name = "correlation congruence"
    compares_images = True
    least_images = 2
    added = LayerTerm.added | {"gamma", "order"}

    def __init__(
        self,
        weight: Weight = 300.0,
        *,
        layers: Layers = EMBEDDING,
        form: str = "paper",
        gamma: float = 0.4,
        order: int = 2,
        weights: Sequence[float] | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(weight, layers, form=form, gamma=gamma, order=order, weights=weights, name=name)
        check_form(form)
        check_above_zero(gamma=gamma)
        check_order(order)
        self.form, self.gamma, self.order = form, gamma, order

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        return losses.correlation_congruence_loss(student, teacher, self.gamma, self.order, self.form)


class PKT(LayerTerm):
    """Probabilities of being neighbours, `kdlib.losses.pkt_loss`.

    The weight 300 was the best of those tried in the course's chapter on relations. RepDistiller's 30000
    belongs to ``form="code"``.

    Args:
        weight: factor in the total.
        layers, weights: as of every `LayerTerm`.
        form: "paper" or "code".
        name: as of every `Term`.
    """

    name = "pkt"
    compares_images = True

    def __init__(
        self,
        weight: Weight = 300.0,
        *,
        layers: Layers = EMBEDDING,
        form: str = "paper",
        weights: Sequence[float] | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(weight, layers, form=form, weights=weights, name=name)
        check_form(form)
        self.form = form
        self.least_images = 2 if form == "code" else 3  # two have each other for their one neighbour

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        return losses.pkt_loss(student, teacher, self.form)


class NST(LayerTerm):
    """Patterns of a layer's channels, `kdlib.losses.nst_loss`; maps (N, C, H, W), 50 in RepDistiller.

    Args:
        weight: factor in the total.
        layers, weights: as of every `LayerTerm`.
        name: as of every `Term`.
    """

    name = "nst"

    def __init__(
        self,
        weight: Weight = 50.0,
        *,
        layers: Layers,
        weights: Sequence[float] | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(weight, layers, weights=weights, name=name)

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        return losses.nst_loss(student, teacher)
