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
        labels: true classes, (K,); or what each image shows, in words, where that is not one of the classes.
        classes: C names.
        temperature: where the slider stands at first, from 0.1 to 50.
        likeliest: how many classes have bars of their own, those of an image's largest logits; all others
            share one bar. None shows every class.

    `figure.temperature` and `figure.example` follow the reader's choice in a notebook.

    Raises:
        ValueError: for shapes that do not fit together, values that are not finite, labels out of range.
    """

    _esm = module("temperature")
    controls = ("example", "temperature")
    size = (9.6, 3.2)

    example = traitlets.Int(0).tag(sync=True)
    temperature = traitlets.Float(4.0).tag(sync=True)

    def __init__(
        self,
        logits: Any,
        images: Any,
        labels: Any,
        classes: Sequence[Any],
        temperature: float = 4.0,
        likeliest: int | None = None,
    ) -> None:
        logits = inputs.array("logits", logits, "K C")
        examples, num_classes = logits.shape
        names = inputs.class_names(classes, num_classes, likeliest)
        in_words = len(labels) == examples and all(isinstance(label, str) for label in labels)
        numbers = [] if in_words else inputs.class_numbers("labels", labels, examples, num_classes)
        state = {
            "logits": logits.round(6).tolist(),
            "images": inputs.images(images, examples),
            "names": list(labels) if in_words else [names[number] for number in numbers],
            "labels": numbers,
            "classes": names,
            "likeliest": likeliest or num_classes,
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

    def _rows(self) -> list[int]:
        """The classes with bars of their own, from above."""
        likeliest = self.state["likeliest"]
        if likeliest == len(self.state["classes"]):
            return list(range(likeliest))
        return [int(c) for c in np.argsort(-self._logits(), kind="stable")[:likeliest]]

    def _in_rows(self, values: np.ndarray) -> np.ndarray:
        """A value for each bar: those of the rows, and the sum of all others where there are any."""
        own = values[self._rows()]
        return own if len(own) == len(values) else np.append(own, values.sum() - own.sum())

    def _row_names(self) -> list[str]:
        classes, rows = self.state["classes"], self._rows()
        others = len(classes) - len(rows)
        names = [classes[c] for c in rows] + ([f"{others} others"] if others else [])
        return [f"{name[:13]}…" if len(name) > 14 else name for name in names]

    def alt_text(self) -> str:
        classes, logits = self.state["classes"], self._logits()
        shows = f"{'labelled' if self.state['labels'] else 'of'} {self.state['names'][self.example]}"
        entropies = [entropy(stills.softmax(logits, t)) for t in (COLDEST, self.temperature, HOTTEST)]
        probabilities = stills.softmax(logits, self.temperature)
        return (
            f"A teacher's answer to an image {shows}, at temperature {self.temperature:g}: "
            f"{stills.top_classes(probabilities, classes)}. Its entropy grows with the temperature, "
            f"from {entropies[0]:.2f} nats at {COLDEST:g} over {entropies[1]:.2f} here to {entropies[2]:.2f} "
            f"at {HOTTEST:g} ({np.log(len(classes)):.2f} if all classes were equal). The gradient of the KL "
            "divergence alone shrinks with the temperature; times T squared it keeps its size."
        )

    def draw(self, figure: Figure) -> None:
        classes, logits, temperature = self._row_names(), self._logits(), self.temperature
        probabilities = stills.softmax(logits, temperature)
        gradient = self._in_rows((1 / len(logits) - probabilities) / temperature)
        left, middle, right = figure.subplots(1, 3)
        stills.bars(
            left,
            f"Probabilities at T = {temperature:g}",
            classes,
            {"": (stills.ACCENT, self._in_rows(probabilities))},
        )
        both = {"KL alone": (stills.PLAIN, gradient), "T² · KL": (stills.ACCENT, temperature**2 * gradient)}
        stills.bars(middle, "Gradient for an untrained student", classes, both)
        temperatures = np.geomspace(COLDEST, HOTTEST, 200)
        right.plot(
            temperatures, [entropy(stills.softmax(logits, t)) for t in temperatures], color=stills.ACCENT
        )
        right.plot(temperature, entropy(probabilities), "o", color=stills.ACCENT)
        right.axhline(np.log(len(logits)), color=stills.LINE, linestyle=":", linewidth=1)
        right.set_title("Entropy (nats)", fontsize=10, loc="left")
        stills.temperature_axis(right, COLDEST, HOTTEST)


def entropy(probabilities: np.ndarray) -> float:
    """Entropy in nats; a probability of zero adds nothing."""
    some = probabilities[probabilities > 0]
    return float(-(some * np.log(some)).sum())
