"""Terms on relations: how the images of a batch lie to one another, or a layer's channels to one another."""

import torch
from torch import Tensor

from kdlib import losses
from kdlib.losses.inputs import check_form
from kdlib.terms.base import EMBEDDING, Layers, LayerTerm, Outputs


class RelationTerm(LayerTerm):
    """A term that compares relations, summed over the layers: widths may differ, so nothing connects them."""

    def forward(self, outputs: Outputs) -> Tensor:
        return torch.stack([self.compare(*pair) for pair in self.both(outputs)]).sum()

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The loss of one layer."""
        raise NotImplementedError


class RKDDistance(RelationTerm):
    """Distances between images, `kdlib.losses.rkd_distance_loss`; 25 in its authors' code."""

    name = "rkd distance"

    def __init__(self, weight: float = 25.0, *, layers: Layers = EMBEDDING) -> None:
        super().__init__(weight, layers)

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        return losses.rkd_distance_loss(student, teacher)


class RKDAngle(RelationTerm):
    """Angles in triangles of images, `kdlib.losses.rkd_angle_loss`; 50 in its authors' code."""

    name = "rkd angle"

    def __init__(self, weight: float = 50.0, *, layers: Layers = EMBEDDING) -> None:
        super().__init__(weight, layers)

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        return losses.rkd_angle_loss(student, teacher)


class SimilarityPreserving(RelationTerm):
    """Similarities between images, `kdlib.losses.similarity_preserving_loss`; 3000 in its paper."""

    name = "similarity"

    def __init__(self, weight: float = 3000.0, *, layers: Layers) -> None:
        super().__init__(weight, layers)

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        return losses.similarity_preserving_loss(student, teacher)


class CorrelationCongruence(RelationTerm):
    """Correlations between images, `kdlib.losses.correlation_congruence_loss`.

    The weight 300 was the best of those tried in the course's chapter on relations. RepDistiller's 0.02
    belongs to ``form="code"``.
    """

    name = "correlation congruence"

    def __init__(self, weight: float = 300.0, *, layers: Layers = EMBEDDING, form: str = "paper") -> None:
        check_form(form)
        super().__init__(weight, layers, form=form)
        self.form = form

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        return losses.correlation_congruence_loss(student, teacher, form=self.form)


class PKT(RelationTerm):
    """Probabilities of being neighbours, `kdlib.losses.pkt_loss`.

    The weight 300 was the best of those tried in the course's chapter on relations. RepDistiller's 30000
    belongs to ``form="code"``.
    """

    name = "pkt"

    def __init__(self, weight: float = 300.0, *, layers: Layers = EMBEDDING, form: str = "paper") -> None:
        check_form(form)
        super().__init__(weight, layers, form=form)
        self.form = form

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        return losses.pkt_loss(student, teacher, form=self.form)


class NST(RelationTerm):
    """Patterns of a layer's channels, `kdlib.losses.nst_loss`; maps (N, C, H, W), 50 in RepDistiller."""

    name = "nst"

    def __init__(self, weight: float = 50.0, *, layers: Layers) -> None:
        super().__init__(weight, layers)

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        return losses.nst_loss(student, teacher)
