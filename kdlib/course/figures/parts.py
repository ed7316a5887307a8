"""The live figure of chapter 8: the two questions inside soft targets, and how a sure teacher drops one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from kdlib.course.figures import inputs, stills
from kdlib.course.figures.live import LiveFigure, module

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLDEST, HOTTEST = 1.0, 10.0
LEAST_SURER, MOST_SURER = -10.0, 20.0


class PartsFigure(LiveFigure):
    r"""One image's soft-target loss in two parts, T² KL(bᵗ ‖ bˢ) + T² (1 − pᵗ_y) KL(p̂ᵗ ‖ p̂ˢ).

    The reader moves the temperature, and adds a number to the teacher's logit of the label, which makes the
    teacher surer and leaves p̂ᵗ, its answer about the other classes, as it is. The gradient's two parts are,
    times T, pˢ_y − pᵗ_y and 0 for the label's logit, and p̂ˢ_c (pᵗ_y − pˢ_y) and (1 − pᵗ_y)(p̂ˢ_c − p̂ᵗ_c) for
    that of another class c.

    Args:
        student_logits: (K, C), C ≥ 3.
        teacher_logits: (K, C).
        images: (K, H, W) or (K, 1 or 3, H, W), uint8.
        labels: true classes, (K,).
        classes: C names.
        temperature: where its slider stands at first, from 1 to 10.

    `figure.example`, `figure.temperature` and `figure.surer` follow the reader's choice in a notebook.

    Raises:
        ValueError: for shapes that do not fit together, values that are not finite, labels out of range.
    """

    _esm = module("parts")
    controls = ("example", "temperature", "surer")

    example = traitlets.Int(0).tag(sync=True)
    temperature = traitlets.Float(4.0).tag(sync=True)
    surer = traitlets.Float(0.0).tag(sync=True)

    def __init__(
        self,
        student_logits: Any,
        teacher_logits: Any,
        images: Any,
        labels: Any,
        classes: Sequence[Any],
        temperature: float = 4.0,
    ) -> None:
        student = inputs.array("student_logits", student_logits, "K C")
        teacher = inputs.array("teacher_logits", teacher_logits, "K C")
        examples, num_classes = teacher.shape
        if student.shape != teacher.shape or num_classes < 3:
            raise ValueError(
                "student_logits and teacher_logits must have one shape (K, C) with 3 classes or more, but "
                f"have {student.shape} and {teacher.shape}"
            )
        state = {
            "student": student.round(6).tolist(),
            "teacher": teacher.round(6).tolist(),
            "images": inputs.images(images, examples),
            "labels": inputs.class_numbers("labels", labels, examples, num_classes),
            "classes": inputs.class_names(classes, num_classes),
        }
        super().__init__(state=state, temperature=temperature)

    @traitlets.validate("temperature")
    def _check_temperature(self, proposal: Any) -> float:
        return inputs.between("temperature", proposal.value, COLDEST, HOTTEST)

    @traitlets.validate("surer")
    def _check_surer(self, proposal: Any) -> float:
        return inputs.between("surer", proposal.value, LEAST_SURER, MOST_SURER)

    @traitlets.validate("example")
    def _check_example(self, proposal: Any) -> int:
        return int(inputs.between("example", proposal.value, 0, len(self.state["labels"]) - 1))

    def others(self) -> dict[str, np.ndarray]:
        """What student and teacher say of the other classes among themselves, p̂; 0 for the label."""
        student, teacher, label = self._now()
        return {
            name: _others(z, label, self.temperature)
            for name, z in zip("st", (student, teacher), strict=True)
        }

    def others_weight(self, surer: float | None = None) -> float:
        """1 − pᵗ_y: the weight that soft targets give to the other classes' part."""
        _, teacher, label = self._now(surer)
        return float(1 - stills.softmax(teacher, self.temperature)[label])

    def gradients(self) -> dict[str, np.ndarray]:
        """Of the soft-target loss for the student's logits: the label's part, the others', and the total."""
        student, teacher, label = self._now()
        p, q = (stills.softmax(z, self.temperature) for z in (student, teacher))
        asked, told = self.others()["s"], self.others()["t"]
        mark = np.eye(len(p))[label]
        label_part = self.temperature * (mark * (p - q) + asked * (q[label] - p[label]))
        others_part = self.temperature * (1 - q[label]) * (asked - told)
        return {"label": label_part, "others": others_part, "total": label_part + others_part}

    def _now(self, surer: float | None = None) -> tuple[np.ndarray, np.ndarray, int]:
        label = self.state["labels"][self.example]
        teacher = np.array(self.state["teacher"][self.example])
        teacher[label] += self.surer if surer is None else surer
        return np.array(self.state["student"][self.example]), teacher, label

    def alt_text(self) -> str:
        classes, label = self.state["classes"], self.state["labels"][self.example]
        told = self.others()["t"]
        return (
            f"A teacher's answer to an image labelled {classes[label]}, in two parts, at temperature "
            f"{self.temperature:g}. Of the other classes among themselves it says "
            f"{stills.top_classes(told, classes)}. Soft targets give that part the weight "
            f"{self.others_weight():.2f}. When the teacher's logit of the label rises by 10, the answer "
            "about the other classes stays the same, and its weight falls to "
            f"{self.others_weight(self.surer + 10):.3f}."
        )

    def draw(self, figure: Figure) -> None:
        classes, temperature = self.state["classes"], self.temperature
        left, middle, right = figure.subplots(1, 3)
        both = {"teacher": (stills.ACCENT, self.others()["t"]), "student": (stills.PLAIN, self.others()["s"])}
        stills.bars(left, "The other classes among themselves", classes, both)
        surer = np.linspace(LEAST_SURER, MOST_SURER, 121)
        middle.plot(surer, [self.others_weight(a) for a in surer], color=stills.ACCENT)
        middle.plot(self.surer, self.others_weight(), "o", color=stills.ACCENT)
        middle.set(ylim=(0, 1.05), xlabel="added to the teacher's logit of the label")
        middle.set_title("Weight of the others' part", fontsize=10, loc="left")
        gradients = self.gradients()
        colours = {"label": stills.PLAIN, "others": stills.ACCENT, "total": stills.STRONG}
        parts = {name: (colour, gradients[name]) for name, colour in colours.items()}
        stills.bars(right, f"Gradient at T = {temperature:g}", classes, parts)


def _others(logits: np.ndarray, label: int, temperature: float) -> np.ndarray:
    rest = np.where(np.arange(len(logits)) == label, -np.inf, logits)
    return stills.softmax(rest, temperature)
