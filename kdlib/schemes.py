"""Schemes: several trainings, one after another.

Each is a few lines over `kdlib.fit`, whose options they pass on. Two students at once are `kdlib.mutual`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from kdlib.data import Split
from kdlib.distiller import Distiller
from kdlib.results import RunRecord
from kdlib.terms import Term
from kdlib.training import fit


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

        stages(student, teacher, [([FSP(layers=…)], 20), ([HardLabels()], 40)], data.train)

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


def _numbered(options: dict[str, Any], number: int) -> dict[str, Any]:
    """The options of one training of several: run.safetensors becomes run-1.safetensors."""
    if options.get("checkpoint") is None:
        return options
    path = Path(options["checkpoint"])
    return options | {"checkpoint": path.with_name(f"{path.stem}-{number}{path.suffix}")}
