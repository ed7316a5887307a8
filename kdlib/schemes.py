"""Schemes: several trainings, one after another, by a few lines over `kdlib.fit`; two students at once."""

import copy
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from kdlib.data import Split
from kdlib.distiller import (
    Distiller,
    Objective,
    check_classifier,
    check_names,
    check_nothing_to_connect,
    connect_terms,
    count_shared_weights,
)
from kdlib.models.answers import compute_logits
from kdlib.paths import given_path
from kdlib.terms import Example, Outputs, Term
from kdlib.training import fit
from kdlib.training.record import RunRecord


def chain(
    teacher: nn.Module, students: Sequence[nn.Module], terms: Sequence[Term], train: Split, **options: Any
) -> list[RunRecord]:
    """Train each student on the one before it, and the first on the teacher.

    - Students of sizes between the teacher's and the last one's: the ones before the last are *teacher
      assistants* (TAKD).
    - Students built alike, and like the teacher: *born-again* networks, the generations of
      self-distillation. The first of them is plain self-distillation.

    Args:
        teacher: trained; it stays as it is.
        students: untrained, in the order of their training; all are trained in place.
        terms: of every distillation.
        train: the images.
        options: of `kdlib.fit`, ``epochs=…`` for instance, the same for all; of a checkpoint each training
            has its own, with its number in the name.

    Returns:
        One record for each student.

    Raises:
        ValueError: there is no student, or whatever `kdlib.fit` and `Distiller` refuse.

    Reference:
        Mirzadeh et al., "Improved Knowledge Distillation via Teacher Assistant", 2020; Furlanello et al.,
        "Born-Again Neural Networks", 2018.
    """
    if not students:
        raise ValueError("there is no student; give one network or more.")
    teachers = [teacher, *students[:-1]]
    return [
        fit(Distiller(student, taught_by, terms), train, **_numbered(options, number))
        for number, (student, taught_by) in enumerate(zip(students, teachers, strict=True), 1)
    ]


def stages(
    student: nn.Module,
    teacher: nn.Module | None,
    plan: Sequence[tuple[Sequence[Term], int]],
    train: Split,
    **options: Any,
) -> list[RunRecord]:
    """Train one student in stages, each with its own terms and number of epochs.

    .. code-block:: python

        first, second = [FSP(0.01, layers=["layer1", "layer2"])], [HardLabels()]
        stages(student, teacher, [(first, 20), (second, 40)], data.train)

    So FSP and FitNets were published: knowledge from inside the teacher first, the labels or the soft
    targets after. Each stage has an optimiser and a schedule of its own. A layer that no term of a stage
    reaches stays as it is in that stage.

    Args:
        student: trained in place.
        teacher: stays as it is; None where no term needs it.
        plan: for each stage its terms and its epochs.
        train: the images.
        options: of `kdlib.fit`, except ``epochs``, the same for all stages; of a checkpoint each stage
            has its own, with its number in the name.

    Returns:
        One record for each stage.

    Raises:
        ValueError: the plan is empty, or whatever `kdlib.fit` and `Distiller` refuse.

    Reference:
        Romero et al., "FitNets: Hints for Thin Deep Nets", 2015; Yim et al., "A Gift from Knowledge
        Distillation", 2017.
    """
    if not plan:
        raise ValueError("the plan has no stage; give terms and epochs for one or more.")
    return [
        fit(Distiller(student, teacher, terms), train, epochs=epochs, **_numbered(options, number))
        for number, (terms, epochs) in enumerate(plan, 1)
    ]


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
            They are copied, for either network, so that neither has the other's connectors or memory.

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
        if count_shared_weights(student, peer):
            raise ValueError("student and peer share weights; give two networks, each with its own seed.")
        self.student = student
        self.peer = peer
        self.terms = nn.ModuleList(copy.deepcopy(term) for term in terms)
        self.peer_terms = nn.ModuleList(copy.deepcopy(term) for term in terms)
        self._is_connected = False
        self.train()

    @property
    def students(self) -> Sequence[nn.Module]:
        return [self.student, self.peer]

    def connect(self, images: Tensor, seed: int = 0, train_labels: Tensor | None = None) -> Self:
        """Build what the terms train besides the two networks; see `Distiller.connect`."""
        terms, peer_terms = self._terms()
        if self._is_connected or not any(term.has_connectors for term in terms):
            return self
        was_training = self.training
        self.eval()
        with torch.no_grad():
            first, second = compute_logits(self.student, images), compute_logits(self.peer, images)
        self.train(was_training)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            connect_terms(terms, Example(self.student, self.peer, {}, {}, first, second, train_labels))
            connect_terms(peer_terms, Example(self.peer, self.student, {}, {}, second, first, train_labels))
        self._is_connected = True
        return self

    def forward(
        self, images: Tensor, labels: Tensor, indices: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum of both students' weighted totals, and the mean of every term over the two, by name."""
        terms, peer_terms = self._terms()
        if not self._is_connected:
            check_nothing_to_connect(terms)
        first, second = compute_logits(self.student, images), compute_logits(self.peer, images)
        check_classifier(first)
        views = [
            self.evaluate(terms, Outputs(first, second.detach(), labels, indices=indices)),
            self.evaluate(peer_terms, Outputs(second, first.detach(), labels, indices=indices)),
        ]
        values = {term.name: torch.stack([view[term.name] for view in views]) for term in terms}
        total = torch.stack([term.weight_at(self.progress) * values[term.name].sum() for term in terms]).sum()
        return total, {name: value.mean() for name, value in values.items()}

    def describe(self) -> list[str]:
        return [repr(term) for term in self._terms()[0]]

    def _terms(self) -> tuple[list[Term], list[Term]]:
        return list(self.terms), list(self.peer_terms)  # type: ignore[arg-type]  # as `Distiller._terms`


def _numbered(options: dict[str, Any], number: int) -> dict[str, Any]:
    """The options of one training of several: run.safetensors becomes run-1.safetensors."""
    if options.get("checkpoint") is None:
        return options
    path = given_path(options["checkpoint"], "file")
    return options | {"checkpoint": path.with_name(f"{path.stem}-{number}{path.suffix}")}
