"""`Distiller`: a student, a frozen teacher, and the weighted terms of the loss."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from kdlib import losses
from kdlib.losses.inputs import check_temperature, check_weights


class Outputs(NamedTuple):
    """What the terms of a loss may use: the answers of both networks, and the labels."""

    student_logits: Tensor
    teacher_logits: Tensor | None
    labels: Tensor

    def taught(self) -> Tensor:
        """The teacher's logits, for a term that cannot do without."""
        assert self.teacher_logits is not None, "Distiller refuses such a term without a teacher"
        return self.teacher_logits


class Term(nn.Module):
    """One summand of the loss: a name, a weight, and how it is computed from `Outputs`.

    Args:
        weight: factor in the total, 0 or more.
        options: the term's settings, shown in its repr and kept in run records.

    Raises:
        ValueError: the weight is negative or not finite.
    """

    name: str
    needs_teacher = True

    def __init__(self, weight: float, **options: float | str) -> None:
        super().__init__()
        check_weights(**{f"the weight of {type(self).__name__}": weight})
        self.weight = weight
        self.options = options

    def forward(self, outputs: Outputs) -> Tensor:
        raise NotImplementedError

    def __repr__(self) -> str:
        options = "".join(f", {name}={value!r}" for name, value in self.options.items())
        return f"{type(self).__name__}({self.weight:g}{options})"


class HardLabels(Term):
    """Cross-entropy with the labels, `kdlib.losses.hard_label_loss`."""

    name = "hard labels"
    needs_teacher = False

    def __init__(self, weight: float = 1.0, label_smoothing: float = 0.0) -> None:
        super().__init__(weight, **({"label_smoothing": label_smoothing} if label_smoothing else {}))
        self.label_smoothing = label_smoothing

    def forward(self, outputs: Outputs) -> Tensor:
        return losses.hard_label_loss(outputs.student_logits, outputs.labels, self.label_smoothing)


class SoftTargets(Term):
    """The teacher's softened answer, `kdlib.losses.soft_target_loss` with T² inside."""

    name = "soft targets"

    def __init__(self, weight: float = 1.0, temperature: float = 4.0) -> None:
        super().__init__(weight, temperature=temperature)
        check_temperature(temperature)
        self.temperature = temperature

    def forward(self, outputs: Outputs) -> Tensor:
        return losses.soft_target_loss(outputs.student_logits, outputs.taught(), self.temperature)


class LogitMatching(Term):
    """The teacher's logits themselves, `kdlib.losses.logit_mse_loss`."""

    name = "logit matching"

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__(weight)

    def forward(self, outputs: Outputs) -> Tensor:
        return losses.logit_mse_loss(outputs.student_logits, outputs.taught())


class Distiller(nn.Module):
    """A student that learns from labels, from a frozen teacher, or from both.

    .. code-block:: python

        distiller = Distiller(student, teacher, [HardLabels(0.1), SoftTargets(0.9, temperature=4)])
        loss, terms = distiller(images, labels)

    The teacher is in evaluation mode at every step, records no gradient, follows the student to its device,
    and is neither among `parameters()` nor in `state_dict()`: a checkpoint holds what was trained.

    Args:
        student: the network that is trained.
        teacher: the network that is not; None for training on labels alone.
        terms: the summands of the loss; names must differ.

    Raises:
        ValueError: there is no term, two have one name, a term needs the teacher that is missing, or
            student and teacher share weights.
    """

    def __init__(self, student: nn.Module, teacher: nn.Module | None, terms: Sequence[Term]) -> None:
        super().__init__()
        _check_terms(terms, teacher)
        if teacher is not None:
            _check_apart(student, teacher)
        self.student = student
        # In a tuple, so that torch does not count the teacher among the trained modules.
        self._teacher = (teacher,)
        self.terms = nn.ModuleList(terms)
        self.train()

    @property
    def teacher(self) -> nn.Module | None:
        return self._teacher[0]

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted total, and every term by name, before its weight.

        Args:
            images: what both networks take, (N, in_channels, H, W).
            labels: class indices, (N,).
        """
        outputs = Outputs(self.student(images), self.teach(images), labels)
        terms = {term.name: term(outputs) for term in self._terms()}
        total = torch.stack([term.weight * terms[term.name] for term in self._terms()]).sum()
        return total, terms

    def teach(self, images: Tensor) -> Tensor | None:
        """The teacher's logits for these images, in evaluation mode and without gradient."""
        if self.teacher is None:
            return None
        # At every step, because anyone who holds the teacher may have put it back into training mode.
        self.teacher.eval()
        with torch.no_grad():
            logits: Tensor = self.teacher(images)
        return logits

    def describe(self) -> list[str]:
        """The terms as they are written, for a run record."""
        return [repr(term) for term in self._terms()]

    def _terms(self) -> list[Term]:
        return list(self.terms)  # type: ignore[arg-type]  # a ModuleList forgets what it holds

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        if self.teacher is not None:
            self.teacher._apply(fn, recurse)
        super()._apply(fn, recurse)
        return self


def _check_terms(terms: Sequence[Term], teacher: nn.Module | None) -> None:
    if not terms:
        raise ValueError("a Distiller needs at least one term, such as HardLabels().")
    names = [term.name for term in terms]
    if len(set(names)) < len(names):
        raise ValueError(f"two terms have one name ({', '.join(names)}); give each kind of term once.")
    taught = [term for term in terms if term.needs_teacher]
    if taught and teacher is None:
        raise ValueError(f"{taught[0]!r} needs a teacher, and none was given.")


def _check_apart(student: nn.Module, teacher: nn.Module) -> None:
    shared = {id(weight) for weight in teacher.parameters()} & {id(weight) for weight in student.parameters()}
    if shared:
        raise ValueError(
            f"student and teacher share {len(shared)} weight tensors, so training would move the teacher; "
            "give the teacher as copy.deepcopy(teacher)."
        )
