"""The live figure of chapter 3: hard, soft and total loss, and what each asks of the student's logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from kdlib.course.figures import inputs, stills
from kdlib.course.figures.live import LiveFigure, module

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLDEST, HOTTEST = 0.5, 50.0


class KLLossFigure(LiveFigure):
    r"""One image's loss w_h · CE + w_s · T² · KL(pᵗ ‖ pˢ), w_h = 1 − w_s, and its gradient, class by class.

    The gradient is (1 − w_s)(softmax(zˢ) − y) for the hard part and w_s · T (pˢ − pᵗ) for the soft part. The
    reader moves the temperature, the soft weight, and the student's logit of any class.

    Args:
        student_logits: (C,).
        teacher_logits: (C,).
        label: the true class.
        classes: C names.
        temperature: where its slider stands at first, from 0.5 to 50.
        soft_weight: where its slider stands at first, from 0 to 1.

    `figure.temperature`, `figure.soft_weight`, `figure.chosen_class` and `figure.student_logits` follow the
    reader's choice in a notebook.

    Raises:
        ValueError: for shapes that do not fit together, logits that are not finite, a label out of range.
    """

    _esm = module("kl_loss")
    controls = ("temperature", "soft_weight", "chosen_class", "student_logits")

    temperature = traitlets.Float(4.0).tag(sync=True)
    soft_weight = traitlets.Float(0.9).tag(sync=True)
    chosen_class = traitlets.Int(0).tag(sync=True)
    student_logits = traitlets.List(traitlets.Float()).tag(sync=True)

    def __init__(
        self,
        student_logits: Any,
        teacher_logits: Any,
        label: int,
        classes: Sequence[Any],
        temperature: float = 4.0,
        soft_weight: float = 0.9,
    ) -> None:
        teacher = inputs.array("teacher_logits", teacher_logits, "C")
        names = inputs.class_names(classes, len(teacher))
        label = inputs.class_number("label", label, len(names))
        super().__init__(
            state={"teacher_logits": teacher.round(6).tolist(), "label": label, "classes": names},
            student_logits=inputs.array("student_logits", student_logits, "C").round(6).tolist(),
            chosen_class=label,
            temperature=temperature,
            soft_weight=soft_weight,
        )

    @traitlets.validate("temperature")
    def _check_temperature(self, proposal: Any) -> float:
        return inputs.between("temperature", proposal.value, COLDEST, HOTTEST)

    @traitlets.validate("soft_weight")
    def _check_soft_weight(self, proposal: Any) -> float:
        return inputs.between("soft_weight", proposal.value, 0, 1)

    @traitlets.validate("chosen_class")
    def _check_chosen_class(self, proposal: Any) -> int:
        return inputs.class_number("chosen_class", proposal.value, len(self.state["classes"]))

    @traitlets.validate("student_logits")
    def _check_student_logits(self, proposal: Any) -> list[float]:
        logits: list[float] = inputs.array("student_logits", proposal.value, "C").tolist()
        if len(logits) != len(self.state["classes"]):
            raise ValueError(
                f"student_logits must hold {len(self.state['classes'])} values, as many as teacher_logits, "
                f"but hold {len(logits)}"
            )
        return logits

    def losses(self) -> dict[str, float]:
        """The hard loss, the soft loss T² · KL, and their weighted sum, as the sliders stand."""
        hard = float(-stills.log_softmax(np.array(self.student_logits))[self.state["label"]])
        soft = self._soft_loss(self.temperature)
        return {"hard": hard, "soft": soft, "total": (1 - self.soft_weight) * hard + self.soft_weight * soft}

    def gradients(self) -> dict[str, np.ndarray]:
        """The weighted gradients for the student's logits: hard, soft and their sum, (C,) each."""
        student, teacher = np.array(self.student_logits), np.array(self.state["teacher_logits"])
        target = np.eye(len(student))[self.state["label"]]
        hard = (1 - self.soft_weight) * (stills.softmax(student) - target)
        difference = stills.softmax(student, self.temperature) - stills.softmax(teacher, self.temperature)
        soft = self.soft_weight * self.temperature * difference
        return {"hard": hard, "soft": soft, "total": hard + soft}

    def _soft_loss(self, temperature: float) -> float:
        teacher, student = np.array(self.state["teacher_logits"]), np.array(self.student_logits)
        log_p, log_q = stills.log_softmax(teacher, temperature), stills.log_softmax(student, temperature)
        return float(temperature**2 * (np.exp(log_p) * (log_p - log_q)).sum())

    def alt_text(self) -> str:
        losses, hottest = self.losses(), self._soft_loss(HOTTEST)
        return (
            f"The loss on one image labelled {self.state['classes'][self.state['label']]}, "
            f"at temperature {self.temperature:g} and soft weight {self.soft_weight:g}: "
            f"hard loss {losses['hard']:.2f}, soft loss {losses['soft']:.2f}, total {losses['total']:.2f}; "
            "beside it the gradient for each logit of the student. As the temperature grows, the KL "
            f"divergence alone falls to nothing; times T squared it settles, {hottest:.2f} at {HOTTEST:g}."
        )

    def draw(self, figure: Figure) -> None:
        classes, temperature, gradients = self.state["classes"], self.temperature, self.gradients()
        left, middle, right = figure.subplots(1, 3)
        both = {
            "teacher": (stills.ACCENT, stills.softmax(np.array(self.state["teacher_logits"]), temperature)),
            "student": (stills.PLAIN, stills.softmax(np.array(self.student_logits), temperature)),
        }
        stills.bars(left, f"Probabilities at T = {temperature:g}", classes, both)
        colours = {"hard": stills.PLAIN, "soft": stills.ACCENT, "total": stills.STRONG}
        terms = {name: (colour, gradients[name]) for name, colour in colours.items()}
        stills.bars(middle, "Gradient for the student's logits", classes, terms)
        temperatures = np.geomspace(COLDEST, HOTTEST, 200)
        scaled = np.array([self._soft_loss(t) for t in temperatures])
        right.plot(temperatures, scaled / temperatures**2, color=stills.PLAIN, label="KL alone")
        right.plot(temperatures, scaled, color=stills.ACCENT, label="T² · KL")
        right.plot(temperature, self._soft_loss(temperature), "o", color=stills.ACCENT)
        right.set_ylim(0, 1.15 * scaled.max() + 0.01)
        right.set_title("Soft loss", fontsize=10, loc="left")
        right.legend(frameon=False, fontsize=8)
        stills.temperature_axis(right, COLDEST, HOTTEST)
