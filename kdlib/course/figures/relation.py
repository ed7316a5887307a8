"""The live figure of chapter 7: a student's map of the images, and its distances beside the teacher's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from kdlib.course.figures import inputs, stills
from kdlib.course.figures.live import LiveFigure, module

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FEWEST_IMAGES, MOST_IMAGES = 3, 80
MOST_MAPS = 40
MOST_CLASSES = 5
# The five class colours of relation.js, which stand out from a light ground and from a dark one.
COLOURS = ("#2f7fd0", "#c8650a", "#7d8794", "#1f8f6d", "#b05c97")


class RelationFigure(LiveFigure):
    r"""How the distances among K images in a student's plane come to be those of the teacher's features.

    Each map is drawn about its middle and in its own unit, the mean distance μ between two images. The loss
    is RKD's on distances, the mean of ℓ₁(d_s/μ_s, d_t/μ_t) over all pairs, where ℓ₁ is ½d² up to |d| = 1 and
    |d| − ½ beyond. The reader moves through the training, picks an image, and turns the map, which the loss
    does not notice.

    Args:
        maps: the student's two numbers for each image, at S moments of its training, (S, K, 2).
        teacher_features: the teacher's of the same images, (K, D), in any width.
        images: (K, H, W) or (K, 1, H, W), uint8.
        labels: true classes, (K,), five different ones at most; for colours and words only.
        moments: S names of the moments in rising order, such as epochs.
        classes: the names of the classes.
        moment: where the training's slider stands at first, from 0 to S - 1.

    `figure.moment`, `figure.example` and `figure.turn` follow the reader's choice in a notebook.

    Raises:
        ValueError: for shapes that do not fit together, numbers that are not finite, labels out of range, too
            few or too many images, maps or classes, or a network in which all images are at one place.
    """

    _esm = module("relation")
    controls = ("moment", "example", "turn")
    size = (8.0, 3.7)

    moment = traitlets.Int(0).tag(sync=True)
    example = traitlets.Int(0).tag(sync=True)
    turn = traitlets.Int(0).tag(sync=True)

    def __init__(
        self,
        maps: Any,
        teacher_features: Any,
        images: Any,
        labels: Any,
        moments: Sequence[Any],
        classes: Sequence[Any],
        moment: int = 0,
    ) -> None:
        maps = inputs.array("maps", maps, "S K 2")
        teacher = inputs.array("teacher_features", teacher_features, "K D")
        _check_sizes(maps, teacher, moments)
        names = inputs.class_names(classes, len(classes))
        numbers = inputs.class_numbers("labels", labels, len(teacher), len(names))
        shown = sorted(set(numbers))
        if len(shown) > MOST_CLASSES:
            raise ValueError(
                f"labels must be of at most {MOST_CLASSES} different classes, but are of {len(shown)}"
            )
        state = {
            "maps": [_in_own_unit(f"map {i}", points).round(3).tolist() for i, points in enumerate(maps)],
            "distances": _distances("teacher_features", teacher).round(3).tolist(),
            "images": inputs.images(images, len(teacher)),
            "names": [names[number] for number in numbers],
            "colours": [COLOURS[shown.index(number)] for number in numbers],
            "moments": [str(name) for name in moments],
        }
        super().__init__(state=state, moment=moment)

    @traitlets.validate("moment")
    def _check_moment(self, proposal: Any) -> int:
        return int(inputs.between("moment", proposal.value, 0, len(self.state["maps"]) - 1))

    @traitlets.validate("example")
    def _check_example(self, proposal: Any) -> int:
        return int(inputs.between("example", proposal.value, 0, len(self.state["names"]) - 1))

    @traitlets.validate("turn")
    def _check_turn(self, proposal: Any) -> int:
        return int(inputs.between("turn", proposal.value, -180, 180))

    def loss(self, moment: int) -> float:
        """RKD's loss on distances at one of the moments, in whichever way the map is turned."""
        student = _distances("maps", np.array(self.state["maps"][moment]))
        gap = abs(student - np.array(self.state["distances"]))
        return float(np.where(gap < 1, gap**2 / 2, gap - 0.5).mean())

    def alt_text(self) -> str:
        first, last = (self.state["moments"][i] for i in (0, -1))
        return (
            f"A student's map of {len(self.state['names'])} images in the plane. Its distances come to be "
            f"those of the teacher's features: the RKD loss on distances is {self.loss(0):.3f} at {first} "
            f"and {self.loss(len(self.state['maps']) - 1):.3f} at {last}. Turning the map changes nothing."
        )

    def draw(self, figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        self._draw_map(left)
        student = _distances("maps", np.array(self.state["maps"][self.moment]))
        right.plot([0, 2.6], [0, 2.6], color=stills.LINE, linestyle=":", linewidth=1)
        # Without smoothed edges, thousands of dots make a small picture.
        dots = {"s": 1.5, "color": stills.PLAIN, "linewidths": 0, "antialiased": False}
        right.scatter(self.state["distances"], student, **dots)
        right.set(xlim=(0, 2.6), ylim=(0, 2.6), aspect="equal")
        right.set(xlabel="distance in the teacher's features", ylabel="distance on the map")
        right.set_title(f"All pairs: loss {self.loss(self.moment):.3f}", fontsize=10, loc="left")

    def _draw_map(self, axes: Axes) -> None:
        points = np.array(self.state["maps"][self.moment]) @ _rotation(self.turn)
        for (x, y), name, colour in zip(points, self.state["names"], self.state["colours"], strict=True):
            axes.text(x, y, name, color=colour, ha="center", va="center", fontsize=9)
        reach = 1.05 * max(abs(points).max(), 1.0)
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xticks=[], yticks=[])
        axes.set_title(f"The student's map, {self.state['moments'][self.moment]}", fontsize=10, loc="left")


def _check_sizes(maps: np.ndarray, teacher: np.ndarray, moments: Sequence[Any]) -> None:
    if maps.shape[2] != 2:
        raise ValueError(f"maps must have two numbers an image, but have {maps.shape[2]}")
    if maps.shape[1] != len(teacher):
        raise ValueError(f"maps hold {maps.shape[1]} images, but teacher_features hold {len(teacher)}")
    if not FEWEST_IMAGES <= len(teacher) <= MOST_IMAGES:
        raise ValueError(
            f"the figure shows {FEWEST_IMAGES} to {MOST_IMAGES} images, but there are {len(teacher)}"
        )
    if not 2 <= len(maps) <= MOST_MAPS:
        raise ValueError(f"the figure shows 2 to {MOST_MAPS} maps, but there are {len(maps)}")
    if len(moments) != len(maps):
        raise ValueError(f"moments must name the {len(maps)} maps, but has {len(moments)} names")


def _distances(name: str, features: np.ndarray) -> np.ndarray:
    """All K(K − 1)/2 distances, row by row, divided by their mean."""
    rows, columns = np.triu_indices(len(features), 1)
    found = np.linalg.norm(features[rows] - features[columns], axis=1)
    if found.mean() == 0:
        raise ValueError(f"{name} has all images at one place, so there are no distances to show")
    return np.asarray(found / found.mean())


def _in_own_unit(name: str, points: np.ndarray) -> np.ndarray:
    """Points about their middle, with a mean distance of 1."""
    rows, columns = np.triu_indices(len(points), 1)
    unit = np.linalg.norm(points[rows] - points[columns], axis=1).mean()
    if unit == 0:
        raise ValueError(f"{name} has all images at one place, so there are no distances to show")
    return np.asarray((points - points.mean(axis=0)) / unit)


def _rotation(degrees: int) -> np.ndarray:
    """Turns row vectors anticlockwise."""
    angle = math.radians(degrees)
    return np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
