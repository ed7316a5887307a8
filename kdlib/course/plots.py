"""Figures of one look: dark on a white ground, so that they can be read on any page."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

# Okabe and Ito's colours, which stay apart for readers who are colour-blind.
COLORS = {
    "student": "#0072B2",
    "teacher": "#D55E00",
    "control": "#7F7F7F",
    "good": "#009E73",
    "accent": "#CC79A7",
}


def style() -> None:
    """Set the course's look for every figure that follows."""
    mpl.rcParams.update(
        {
            "figure.facecolor": "white",
            "figure.figsize": (7.2, 3.2),
            "figure.dpi": 144,
            "figure.constrained_layout.use": True,
            "font.size": 11,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 11,
            "axes.titlelocation": "left",
            "axes.prop_cycle": cycler(color=list(COLORS.values())),
            "legend.frameon": False,
            "image.cmap": "gray_r",
        }
    )


def show_images(images: Tensor, titles: Sequence[str] | None = None, columns: int = 10) -> Figure:
    """Pictures side by side.

    Args:
        images: uint8, shape (N, 1 or 3, H, W).
        titles: one a picture.
        columns: how many in a row.
    """
    rows = -(-len(images) // columns)
    height = 1.0 if titles is None else 1.25
    figure, axes = plt.subplots(
        rows, columns, figsize=(7.2, height * rows * 7.2 / columns / 1.1), squeeze=False
    )
    for position, axis in enumerate(axes.flat):
        axis.set_axis_off()
        if position < len(images):
            picture(axis, images[position])
            if titles is not None:
                axis.set_title(titles[position], loc="center")
    return figure


def picture(axis: Axes, image: Tensor) -> None:
    """Draw one uint8 image (1 or 3, H, W), without axes."""
    pixels = image.permute(1, 2, 0).numpy()
    axis.imshow(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    axis.set_axis_off()


def probabilities(
    axis: Axes,
    values: Tensor,
    classes: Sequence[str],
    highlight: int | None = None,
    color: str = COLORS["teacher"],
) -> None:
    """Bars of one distribution over the classes; the highlighted class is dark, the others pale.

    Args:
        axis: where to draw.
        values: probabilities, shape (C,).
        classes: C names.
        highlight: index of the class to set off; None treats all alike.
        color: of the bars.
    """
    bars = axis.bar(range(len(classes)), values.tolist(), color=color)
    for index, bar in enumerate(bars):
        bar.set_alpha(1.0 if highlight in (None, index) else 0.45)
    axis.set_xticks(range(len(classes)), classes)
    axis.set_ylim(0, 1)


def seed_dots(axis: Axes, groups: Mapping[str, Sequence[float]], colors: Sequence[str] | None = None) -> None:
    """One dot a seed and a bar at the mean, for each group; values are fractions, shown in per cent.

    Args:
        axis: where to draw.
        groups: for each name, one value per seed.
        colors: one a group.
    """
    palette = list(colors or COLORS.values())
    for position, values in enumerate(groups.values()):
        percent = 100 * np.asarray(values)
        spread = np.linspace(-0.12, 0.12, len(percent)) if len(percent) > 1 else np.zeros(1)
        color = palette[position % len(palette)]
        axis.scatter(position + spread, percent, color=color, s=28, alpha=0.8, linewidths=0, zorder=3)
        axis.hlines(percent.mean(), position - 0.28, position + 0.28, color=color, linewidth=2.5)
        axis.annotate(
            f"{percent.mean():.1f}",
            (position + 0.32, percent.mean()),
            va="center",
            color=color,
            fontweight="bold",
        )
    axis.set_xticks(range(len(groups)), list(groups))
    axis.set_xlim(-0.6, len(groups) - 0.2)
    axis.set_ylabel("accuracy (%)")


def recorded_dots(
    axis: Axes,
    rows: Mapping[str, tuple[str, str]],
    recorded: Mapping[str, Sequence[float]],
    live: Mapping[str, Sequence[float]],
) -> None:
    """A row for each kind of student: pale dots for recorded seeds, strong ones for those of this run.

    The number over a row is the mean of the recorded seeds, or of this run's where none is recorded. Values
    are fractions, shown in per cent.

    Args:
        axis: where to draw.
        rows: for each kind the text at its row and its colour, from above.
        recorded, live: for each kind, one value per seed.
    """
    white = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
    for row, (name, (_, color)) in enumerate(rows.items()):
        past, now = (100 * np.asarray(source.get(name, ())) for source in (recorded, live))
        if not len(past) + len(now):
            continue
        axis.scatter(past, np.full(len(past), row), color=color, s=40, alpha=0.18, linewidths=0)
        axis.scatter(now, np.full(len(now), row), color=color, s=22, linewidths=0, zorder=3)
        mean = float((past if len(past) else now).mean())
        above: dict[str, Any] = {
            "ha": "center",
            "va": "bottom",
            "color": color,
            "weight": "bold",
            "size": 10,
            "bbox": white,
        }
        axis.text(mean, row - 0.2, f"{mean:.1f}", **above)
    axis.set_yticks(range(len(rows)), [text for text, _ in rows.values()])
    axis.set_ylim(len(rows) - 0.6, -0.85)
