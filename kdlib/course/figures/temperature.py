"""The live figure of chapter 2: drag the temperature, watch probabilities, entropy and gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from kdlib.course.figures import inputs, stills
from kdlib.course.figures.live import LiveFigure, module

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLDEST, HOTTEST = 0.1, 50.0


class TemperatureFigure(LiveFigure):
    r"""A teacher's softened probabilities for one of K images, their entropy, and the gradient they give.

    The gradient is that of KL(pᵗ ‖ pˢ) with respect to the logits of a student that says the same of every
    class, (1/C − pᵗ) / T, alone and times T².

    Args:
        logits: the teacher's, (K, C).
        images: (K, H, W) or (K, 1 or 3, H, W), uint8.
        labels: true classes, (K,).
        classes: C names.
        temperature: where the slider stands at first, from 0.1 to 50.

    `figure.temperature` and `figure.example` follow the reader's choice in a notebook.

    Raises:
        ValueError: for shapes that do not fit together, values that are not finite, labels out of range.
    """

    _esm = module("temperature")
    controls = ("example", "temperature")

    example = traitlets.Int(0).tag(sync=True)
    temperature = traitlets.Float(4.0).tag(sync=True)

    def __init__(
        self, logits: Any, images: Any, labels: Any, classes: Sequence[Any], temperature: float = 4.0
    ) -> None:
        logits = inputs.array("logits", logits, "K C")
        examples, num_classes = logits.shape
        state = {
            "logits": logits.round(6).tolist(),
            "images": inputs.images(images, examples),
            "labels": inputs.class_numbers("labels", labels, examples, num_classes),
            "classes": inputs.class_names(classes, num_classes),
        }
        super().__init__(state=state, temperature=temperature)

    @traitlets.validate("temperature")
    def _check_temperature(self, proposal: Any) -> float:
        return inputs.between("temperature", proposal.value, COLDEST, HOTTEST)

    @traitlets.validate("example")
    def _check_example(self, proposal: Any) -> int:
        return int(inputs.between("example", proposal.value, 0, len(self.state["logits"]) - 1))

    def _logits(self) -> np.ndarray:
        return np.array(self.state["logits"][self.example])

    def alt_text(self) -> str:
        classes, logits = self.state["classes"], self._logits()
        name = classes[self.state["labels"][self.example]]
        entropies = [entropy(stills.softmax(logits, t)) for t in (COLDEST, self.temperature, HOTTEST)]
        probabilities = stills.softmax(logits, self.temperature)
        return (
            f"A teacher's answer to an image labelled {name}, at temperature {self.temperature:g}: "
            f"{stills.top_classes(probabilities, classes)}. Its entropy grows with the temperature, "
            f"from {entropies[0]:.2f} nats at {COLDEST:g} over {entropies[1]:.2f} here to {entropies[2]:.2f} "
            f"at {HOTTEST:g} ({np.log(len(classes)):.2f} if all classes were equal). The gradient of the KL "
            "divergence alone shrinks with the temperature; times T squared it keeps its size."
        )

    def draw(self, figure: Figure) -> None:
        classes, logits, temperature = self.state["classes"], self._logits(), self.temperature
        probabilities = stills.softmax(logits, temperature)
        gradient = (1 / len(classes) - probabilities) / temperature
        left, middle, right = figure.subplots(1, 3)
        stills.bars(
            left, f"Probabilities at T = {temperature:g}", classes, {"": (stills.ACCENT, probabilities)}
        )
        both = {"KL alone": (stills.PLAIN, gradient), "T² · KL": (stills.ACCENT, temperature**2 * gradient)}
        stills.bars(middle, "Gradient for an untrained student", classes, both)
        temperatures = np.geomspace(COLDEST, HOTTEST, 200)
        right.plot(
            temperatures, [entropy(stills.softmax(logits, t)) for t in temperatures], color=stills.ACCENT
        )
        right.plot(temperature, entropy(probabilities), "o", color=stills.ACCENT)
        right.axhline(np.log(len(classes)), color=stills.LINE, linestyle=":", linewidth=1)
        right.set_title("Entropy (nats)", fontsize=10, loc="left")
        stills.temperature_axis(right, COLDEST, HOTTEST)


def entropy(probabilities: np.ndarray) -> float:
    """Entropy in nats; a probability of zero adds nothing."""
    some = probabilities[probabilities > 0]
    return float(-(some * np.log(some)).sum())
