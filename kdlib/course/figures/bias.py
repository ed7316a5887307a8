"""The live figure of chapter 4: one bias gives a student the class that it never saw."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from kdlib.course.figures import inputs, stills
from kdlib.course.figures.live import LiveFigure, module

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_IMAGES = 6000


class BiasFigure(LiveFigure):
    r"""How a student that never saw one class k recognises it once a bias b is added to that class's logit.

    An image is recognised as k when b > max_{j≠k} z_j − z_k. The figure shows the share of k's images
    recognised, the accuracy on the others and on all, against b, and what the student calls k's images.

    Args:
        logits: the student's on test images, (N, C).
        labels: true classes, (N,).
        held_out_class: k.
        classes: C names.

    `figure.bias` follows the reader's choice in a notebook.

    Raises:
        ValueError: for shapes that do not fit together, logits that are not finite, labels out of range, no
            image of the held-out class, or none of the others.
    """

    _esm = module("bias")
    controls = ("bias",)
    size = (9.0, 3.0)

    bias = traitlets.Float(0.0).tag(sync=True)

    def __init__(self, logits: Any, labels: Any, held_out_class: int, classes: Sequence[Any]) -> None:
        logits = inputs.array("logits", logits, "N C")
        count, num_classes = logits.shape
        if count > MOST_IMAGES:
            raise ValueError(
                f"the figure holds at most {MOST_IMAGES} images, but logits have {count}: pass a sample"
            )
        names = inputs.class_names(classes, num_classes)
        labels = np.array(inputs.class_numbers("labels", labels, count, num_classes))
        missing = inputs.class_number("held_out_class", held_out_class, num_classes)
        if not 0 < (labels == missing).sum() < count:
            raise ValueError(
                f"labels must hold images of the held-out class {names[missing]} and of others, "
                f"but {(labels == missing).sum()} of {count} are of it"
            )
        state = margins(logits, labels, missing)
        super().__init__(state=state | {"held_out_class": missing, "classes": names})

    @traitlets.validate("bias")
    def _check_bias(self, proposal: Any) -> float:
        return inputs.between("bias", proposal.value, self.state["biases"][0], self.state["biases"][-1])

    def shares(self, bias: float) -> tuple[float, float, float]:
        """The recall of the held-out class, the accuracy on the other classes, and on all, with this bias."""
        recognised = sum(bias > margin for margin, _ in self.state["held_out"])
        kept = sum(bias <= margin for margin in self.state["others"])
        held_out, others = len(self.state["held_out"]), self.state["other_count"]
        return recognised / held_out, kept / others, (recognised + kept) / (held_out + others)

    def _best(self) -> float:
        return float(max(self.state["biases"], key=lambda bias: self.shares(bias)[2]))

    def alt_text(self) -> str:
        name, best = self.state["classes"][self.state["held_out_class"]], self._best()
        (before, others_before, _), (after, others_after, _) = self.shares(0.0), self.shares(best)
        return (
            f"A student that never saw class {name} recognises {before:.1%} of its images. "
            f"With {best:.1f} added to that one logit it recognises {after:.1%}, "
            f"while its accuracy on the other classes goes from {others_before:.1%} to {others_after:.1%}."
        ).replace("%", " %")

    def draw(self, figure: Figure) -> None:
        classes, missing = self.state["classes"], self.state["held_out_class"]
        left, right = figure.subplots(1, 2)
        called = np.zeros(len(classes))
        for margin, rival in self.state["held_out"]:
            called[missing if self.bias > margin else rival] += 1 / len(self.state["held_out"])
        title = f"What it calls the images of {classes[missing]}"
        stills.bars(left, title, classes, {"": (stills.PLAIN, called)})
        left.patches[missing].set_color(stills.ACCENT)
        left.set_xlim(0, 1)
        shares = np.array([self.shares(bias) for bias in self.state["biases"]])
        kinds = [(classes[missing], stills.ACCENT), ("others", stills.PLAIN), ("all", stills.STRONG)]
        for (name, colour), line in zip(kinds, shares.T, strict=True):
            right.plot(self.state["biases"], line, color=colour, label=name)
        right.axvline(self.bias, color=stills.LINE, linestyle=":", linewidth=1)
        right.set_title(f"Recognised, against the bias of {classes[missing]}", fontsize=10, loc="left")
        right.legend(frameon=False, fontsize=8)
        right.set_xlabel(f"bias added to the logit of {classes[missing]}")


def margins(logits: np.ndarray, labels: np.ndarray, missing: int) -> dict[str, Any]:
    """All the figure needs of N images: the bias that turns each into the held-out class, and its rival."""
    rivals = np.delete(logits, missing, axis=1)
    best_rival = np.delete(np.arange(logits.shape[1]), missing)[rivals.argmax(axis=1)]
    margin = (rivals.max(axis=1) - logits[:, missing]).round(4)
    held_out = labels == missing
    right_without = margin[~held_out & (best_rival == labels)]
    return {
        "held_out": [[float(m), int(r)] for m, r in zip(margin[held_out], best_rival[held_out], strict=True)],
        "others": right_without.tolist(),
        "other_count": int((~held_out).sum()),
        "biases": slider_stops(margin[held_out], margin[~held_out]),
    }


def slider_stops(held_out: np.ndarray, others: np.ndarray) -> list[float]:
    """About 240 round biases, 0 among them: from no held-out image won to half of the others lost."""
    low = min(0.0, np.percentile(held_out, 1))
    high = 1.2 * max(np.percentile(held_out, 99), np.median(others), 1e-3)
    decade = 10.0 ** math.floor(math.log10((high - low) / 240))
    step = decade * next(m for m in (1, 2, 5, 10) if m * decade >= (high - low) / 240)
    return [round(i * step, 10) for i in range(math.floor(low / step), math.ceil(high / step) + 1)]
