"""The live figure of chapter 1: the label of an image beside the teacher's answer to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from kdlib.course.figures import inputs, stills
from kdlib.course.figures.live import LiveFigure, module

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class SoftLabelFigure(LiveFigure):
    r"""For one of K images, the hard label beside the teacher's probabilities, which a temperature softens.

    At temperature T it shows p^{1/T} / Σ p^{1/T}, which is the teacher's softmax at T when
    `teacher_probabilities` is its softmax at 1. A probability of 0 counts as the least normal float32.

    Args:
        images: (K, H, W) or (K, 1 or 3, H, W), uint8.
        labels: true classes, (K,).
        teacher_probabilities: (K, C), each row summing to 1.
        classes: C names; by default the class numbers.
        temperature: where the slider stands at first, from 1 to 10.

    `figure.temperature` and `figure.example` follow the reader's choice in a notebook.

    Raises:
        ValueError: for shapes that do not fit together, rows that are no probabilities, labels out of range.
    """

    _esm = module("soft_label")
    controls = ("example", "temperature")

    example = traitlets.Int(0).tag(sync=True)
    temperature = traitlets.Float(1.0).tag(sync=True)

    def __init__(
        self,
        images: Any,
        labels: Any,
        teacher_probabilities: Any,
        classes: Sequence[Any] | None = None,
        temperature: float = 1.0,
    ) -> None:
        probabilities = inputs.probabilities("teacher_probabilities", teacher_probabilities)
        examples, num_classes = probabilities.shape
        state = {
            "logits": np.log(np.maximum(probabilities, np.finfo(np.float32).tiny)).round(6).tolist(),
            "images": inputs.images(images, examples),
            "labels": inputs.class_numbers("labels", labels, examples, num_classes),
            "classes": inputs.class_names(classes, num_classes),
        }
        super().__init__(state=state, temperature=temperature)

    @traitlets.validate("temperature")
    def _check_temperature(self, proposal: Any) -> float:
        return inputs.between("temperature", proposal.value, 1, 10)

    @traitlets.validate("example")
    def _check_example(self, proposal: Any) -> int:
        return int(inputs.between("example", proposal.value, 0, len(self.state["logits"]) - 1))

    def _now(self) -> tuple[list[str], int, np.ndarray]:
        logits, label = np.array(self.state["logits"][self.example]), self.state["labels"][self.example]
        return self.state["classes"], label, stills.softmax(logits, self.temperature)

    def alt_text(self) -> str:
        classes, label, probabilities = self._now()
        return (
            f"The label of an image says {classes[label]} and nothing else. The teacher, at temperature "
            f"{self.temperature:g}, says {stills.top_classes(probabilities, classes)}: "
            "its answer also tells which other classes the image looks like."
        )

    def draw(self, figure: Figure) -> None:
        classes, label, probabilities = self._now()
        image, left, right = figure.subplots(1, 3, width_ratios=[0.7, 1, 1])
        stills.image(image, self.state["images"], self.example)
        stills.bars(left, "The label", classes, {"": (stills.STRONG, np.eye(len(classes))[label])})
        stills.bars(right, "The teacher's answer", classes, {"": (stills.ACCENT, probabilities)})
        for axes in (left, right):
            axes.set_xlim(0, 1)
