"""The live figure of chapter 5: a regressor learns to write a student's maps in the teacher's channels."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from kdlib.course.figures import inputs, stills
from kdlib.course.figures.live import LiveFigure, module

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_IMAGES, MOST_CHANNELS, MOST_MOMENTS = 8, 16, 12


class FeatureFigure(LiveFigure):
    r"""A teacher's channels beside a regressor's attempts at them, at M moments of its training.

    The reader chooses an image, a channel and a moment. The curve is the hint loss of all channels and images
    shown, the mean of :math:`(f^s - f^t)^2`.

    Args:
        teacher: maps after the ReLU, (K, C, H, W).
        regressed: the student's maps through the regressor, (M, K, C, H, W).
        images: (K, H, W) or (K, 1 or 3, H, W), uint8.
        labels: the true class of each image, in words or numbers.
        steps: how many steps of training each moment comes after, rising.

    `figure.example`, `figure.channel` and `figure.moment` follow the reader's choice in a notebook.

    Raises:
        ValueError: shapes do not fit together, there is too much to show, or a map is not finite.
    """

    _esm = module("feature")
    controls = ("example", "channel", "moment")
    size = (8.4, 3.0)

    example = traitlets.Int(0).tag(sync=True)
    channel = traitlets.Int(0).tag(sync=True)
    moment = traitlets.Int(0).tag(sync=True)

    def __init__(
        self,
        teacher: Any,
        regressed: Any,
        images: Any,
        labels: Sequence[Any],
        steps: Sequence[int],
        moment: int = 0,
    ) -> None:
        teacher = inputs.array("teacher", teacher, "K C H W")
        regressed = inputs.array("regressed", regressed, "M K C H W")
        _check_sizes(teacher, regressed, len(labels), len(steps))
        state = {
            "images": inputs.images(images, len(labels)),
            "names": [str(int(label) if hasattr(label, "item") else label) for label in labels],
            "steps": [int(step) for step in steps],
            "losses": np.square(regressed - teacher).mean(axis=(1, 2, 3, 4)).round(5).tolist(),
            "maps": _packed(np.concatenate([teacher[None], regressed])),
        }
        super().__init__(state=state, moment=moment)

    @traitlets.validate("example", "channel", "moment")
    def _check_choice(self, proposal: Any) -> int:
        moments, examples, channels, *_ = self.state["maps"]["shape"]
        count = {"example": examples, "channel": channels, "moment": moments - 1}[proposal.trait.name]
        return int(inputs.between(proposal.trait.name, proposal.value, 0, count - 1))

    def alt_text(self) -> str:
        steps, losses = self.state["steps"], self.state["losses"]
        return (
            "A channel of the teacher's, and the student's attempt at it through a regressor. The "
            f"hint loss over all channels falls from {losses[0]:.3f} at step {steps[0]} of the regressor's "
            f"training to {losses[-1]:.3f} at step {steps[-1]}."
        )

    def draw(self, figure: Figure) -> None:
        axes = figure.subplots(1, 4)
        stills.image(axes[0], self.state["images"], self.example)
        axes[0].set_title(f"A {self.state['names'][self.example]}", fontsize=10, loc="left")
        packed = self.state["maps"]
        maps = np.frombuffer(base64.b64decode(packed["bytes"]), dtype=np.uint8).reshape(packed["shape"])
        shown = (("Teacher", 0), (f"Student, step {self.state['steps'][self.moment]}", 1 + self.moment))
        for axis, (title, place) in zip(axes[1:3], shown, strict=True):
            axis.imshow(maps[place, self.example, self.channel], cmap="gray", vmin=0, vmax=255)
            axis.set_axis_off()
            axis.set_title(title, fontsize=10, loc="left")
        axes[3].plot(range(len(self.state["losses"])), self.state["losses"], color=stills.ACCENT)
        axes[3].plot(self.moment, self.state["losses"][self.moment], "o", color=stills.ACCENT)
        axes[3].set_xticks(range(len(self.state["steps"])), self.state["steps"], fontsize=7)
        axes[3].set_ylim(bottom=0)
        axes[3].set_xlabel("step")
        axes[3].set_title("Hint loss", fontsize=10, loc="left")


def _check_sizes(teacher: np.ndarray, regressed: np.ndarray, labels: int, steps: int) -> None:
    if regressed.shape != (steps, *teacher.shape) or len(teacher) != labels:
        raise ValueError(
            f"regressed must have the shape (M, K, C, H, W) for {steps} steps and teacher's {teacher.shape}, "
            f"and there must be {len(teacher)} labels; there are {regressed.shape} and {labels}"
        )
    most = (MOST_IMAGES, MOST_CHANNELS, MOST_MOMENTS)
    if teacher.shape[0] > most[0] or teacher.shape[1] > most[1] or not 2 <= steps <= most[2]:
        raise ValueError(
            f"the figure shows up to {most[0]} images, {most[1]} channels and 2 to {most[2]} moments; there "
            f"are {teacher.shape[0]}, {teacher.shape[1]} and {steps}: pass fewer"
        )


def _packed(maps: np.ndarray) -> dict[str, Any]:
    """Maps (1 + M, K, C, H, W) as bytes: 255 is the teacher's largest value in each channel, 0 is 0."""
    top = np.maximum(maps[:1].max(axis=(1, 3, 4), keepdims=True), 1e-6)
    scaled = (255 * np.clip(maps / top, 0, 1)).round().astype(np.uint8)
    return {"shape": list(maps.shape), "bytes": base64.b64encode(scaled.tobytes()).decode("ascii")}
