"""`Mutual`: two students and no teacher."""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from kdlib.distiller import Objective, check_classes, check_names, shared_weights
from kdlib.terms import Outputs, Term


class Mutual(Objective):
    """Two students that learn from the labels and from each other (deep mutual learning).

    .. code-block:: python

        pair = Mutual(student, peer, [HardLabels(1.0), SoftTargets(1.0, temperature=1)])
        fit(pair, data.train, test=data.test)

    Each term is computed twice, with one network as the student and the other in the teacher's place,
    through which no gradient passes; the total is the sum of both. Both networks take their step together, on
    the same answers. The paper moves the first, asks it again, and then moves the second.

    Args:
        student: one network; what `kdlib.fit` evaluates.
        peer: the other, with weights of its own. Equal weights at the start would stay equal.
        terms: on labels and logits; the paper's are ``HardLabels(1)`` and ``SoftTargets(1, temperature=1)``.

    Raises:
        ValueError: there is no term, two have one name, a term taps layers, or the two share weights.

    Reference:
        Zhang, Xiang, Hospedales and Lu, "Deep Mutual Learning", 2018, equations 2 to 8.
    """

    def __init__(self, student: nn.Module, peer: nn.Module, terms: Sequence[Term]) -> None:
        super().__init__()
        if not terms:
            raise ValueError("Mutual needs at least one term, such as HardLabels().")
        tapping = [term for term in terms if term.pairs]
        if tapping:
            raise ValueError(f"{tapping[0]!r} taps layers; mutual learning here is on labels and logits.")
        check_names(terms)
        if shared_weights(student, peer):
            raise ValueError("student and peer share weights; give two networks, each with its own seed.")
        self.student = student
        self.peer = peer
        self._terms = tuple(terms)
        self.train()

    @property
    def learners(self) -> Sequence[nn.Module]:
        return [self.student, self.peer]

    def connect(self, images: Tensor, seed: int = 0) -> Self:  # noqa: ARG002  # as every Objective has it
        """Nothing is to be built: the terms are on logits."""
        return self

    def forward(
        self, images: Tensor, labels: Tensor, indices: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum of both students' weighted totals, and the mean of every term over the two, by name."""
        first, second = self.student(images), self.peer(images)
        check_classes(first)
        views = [
            self.collected(Outputs(first, second.detach(), labels, indices=indices)),
            self.collected(Outputs(second, first.detach(), labels, indices=indices)),
        ]
        values = {term.name: torch.stack([term(view) for view in views]) for term in self._terms}
        total = torch.stack([term.weight * values[term.name].sum() for term in self._terms]).sum()
        return total, {name: value.mean() for name, value in values.items()}

    def describe(self) -> list[str]:
        return [repr(term) for term in self._terms]
