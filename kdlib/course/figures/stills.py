"""The still pictures that stand in for live figures where no script runs, and the numbers they show."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The light values of live.css.
ACCENT, PLAIN, STRONG, LINE = "#0b62b5", "#808c9b", "#1d2530", "#8b95a3"


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """softmax(logits / temperature) over the last axis, in float64."""
    return np.asarray(np.exp(log_softmax(logits, temperature)))


def log_softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """log softmax(logits / temperature) over the last axis, in float64."""
    shifted = (logits - logits.max(axis=-1, keepdims=True)) / temperature
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def top_classes(probabilities: np.ndarray, classes: Sequence[str], count: int = 3) -> str:
    """The most probable classes in words: "3 at 62.1 %, 8 at 20.3 %, 9 at 4.0 %"."""
    order = np.argsort(-probabilities)[:count]
    return ", ".join(f"{classes[c]} at {probabilities[c]:.1%}".replace("%", " %") for c in order)


def bars(axes: Axes, title: str, classes: Sequence[str], series: dict[str, tuple[str, np.ndarray]]) -> None:
    """Horizontal bars: a row for each class, and in it a bar for each series {name: (colour, values)}."""
    rows, height = np.arange(len(classes)), 0.8 / len(series)
    for i, (name, (colour, values)) in enumerate(series.items()):
        axes.barh(rows + (i - (len(series) - 1) / 2) * height, values, height * 0.9, color=colour, label=name)
    axes.set_yticks(rows, classes)
    axes.invert_yaxis()
    axes.axvline(0, color=LINE, linewidth=0.8)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_title(title, fontsize=10, loc="left")
    if len(series) > 1:
        axes.legend(frameon=False, fontsize=8)


def image(axes: Axes, images: dict[str, Any], example: int) -> None:
    """One of the images that `inputs.images` packed."""
    pixels = np.frombuffer(base64.b64decode(images["bytes"]), dtype=np.uint8).reshape(images["shape"])[
        example
    ]
    axes.imshow(pixels if pixels.shape[-1] == 3 else pixels[..., 0], cmap="gray", vmin=0, vmax=255)
    axes.set_axis_off()


def temperature_axis(axes: Axes, low: float, high: float) -> None:
    """A logarithmic axis with temperatures as a person writes them."""
    ticks = [t for t in (0.1, 0.3, 1, 3, 10, 50) if low <= t <= high]
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.minorticks_off()
    axes.set_xlabel("temperature")
