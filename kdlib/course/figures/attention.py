"""The live figure of chapter 6: attention maps of student and teacher over one image, and the loss."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import traitlets

from kdlib import losses
from kdlib.course.figures import inputs, stills
from kdlib.course.figures.live import LiveFigure, module

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

EXPONENTS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)
MOST_IMAGES, MOST_LAYERS = 8, 4
# The map's colour in attention.js: it stands out from black paper and from white ink.
HEAT = (255, 122, 0)


class AttentionFigure(LiveFigure):
    r"""Where a student's and a teacher's layer are active on one of K images, and the loss between the maps.

    The maps are :math:`\hat Q`, shown as colour over the image, each from 0 to its own largest value. The
    reader chooses image, layer and exponent; the loss is `kdlib.losses.attention_transfer_loss` of this image
    and layer, in both forms.

    Args:
        student_features: for each layer by name, activations (K, C, H, W).
        teacher_features: the same layers, of equal H and W; the number of channels may differ.
        images: (K, H, W) or (K, 1 or 3, H, W), uint8.
        labels: the true class of each image, in words or numbers.
        layer: which layer stands chosen at first, from 0.
        p: where the exponent's slider stands at first, one of `EXPONENTS`.

    `figure.example`, `figure.layer` and `figure.p` follow the reader's choice in a notebook.

    Raises:
        ValueError: the networks' layers, images or map sizes differ, there are too many of them, an
            activation is not finite, or a control is out of range.
    """

    _esm = module("attention")
    controls = ("example", "layer", "p")
    size = (8.4, 3.0)

    example = traitlets.Int(0).tag(sync=True)
    layer = traitlets.Int(0).tag(sync=True)
    p = traitlets.Float(2.0).tag(sync=True)

    def __init__(
        self,
        student_features: Mapping[str, Any],
        teacher_features: Mapping[str, Any],
        images: Any,
        labels: Sequence[Any],
        layer: int = 0,
        p: float = 2.0,
    ) -> None:
        pairs = _checked(student_features, teacher_features, len(labels))
        state = {
            "images": inputs.images(images, len(labels)),
            "names": [str(int(label) if hasattr(label, "item") else label) for label in labels],
            "layers": list(pairs),
            "exponents": list(EXPONENTS),
            "maps": [[_packed(features) for features in pair] for pair in pairs.values()],
            "losses": {form: [_losses(*pair, form) for pair in pairs.values()] for form in ("code", "paper")},
        }
        super().__init__(state=state, layer=layer, p=p)

    @traitlets.validate("example")
    def _check_example(self, proposal: Any) -> int:
        return int(inputs.between("example", proposal.value, 0, len(self.state["names"]) - 1))

    @traitlets.validate("layer")
    def _check_layer(self, proposal: Any) -> int:
        return int(inputs.between("layer", proposal.value, 0, len(self.state["layers"]) - 1))

    @traitlets.validate("p")
    def _check_exponent(self, proposal: Any) -> float:
        if proposal.value not in EXPONENTS:
            raise ValueError(f"p must be one of {', '.join(map(str, EXPONENTS))}, but is {proposal.value:g}")
        return float(proposal.value)

    def loss(self, form: str) -> float:
        """The loss of the chosen image, layer and exponent."""
        values = self.state["losses"][form][self.layer][EXPONENTS.index(self.p)]
        return float(values[self.example])

    def alt_text(self) -> str:
        name, layer = self.state["names"][self.example], self.state["layers"][self.layer]
        return (
            f"Attention maps of {layer} at p = {self.p:g} over an image of a {name}, the student's beside "
            f"the teacher's. The loss between the two is {self.loss('code'):.4f} in the form of the code and "
            f"{self.loss('paper'):.3f} in that of the paper."
        )

    def draw(self, figure: Figure) -> None:
        axes = figure.subplots(1, 4)
        stills.image(axes[0], self.state["images"], self.example)
        axes[0].set_title(f"A {self.state['names'][self.example]}", fontsize=10, loc="left")
        for axis, network, title in zip(axes[1:3], (0, 1), ("Student", "Teacher"), strict=True):
            self._draw_map(axis, network)
            axis.set_title(f"{title}, {self.state['layers'][self.layer]}", fontsize=10, loc="left")
        place = EXPONENTS.index(self.p)
        for i, values in enumerate(self.state["losses"]["paper"]):
            line = [row[self.example] for row in values]
            chosen = i == self.layer
            colour = stills.ACCENT if chosen else stills.PLAIN
            axes[3].plot(EXPONENTS, line, color=colour, label=self.state["layers"][i])
            if chosen:
                axes[3].plot(self.p, line[place], "o", color=colour)
        axes[3].set_ylim(bottom=0)
        axes[3].set_xlabel("exponent p")
        axes[3].set_title("Loss (paper's form)", fontsize=10, loc="left")

    def _draw_map(self, axes: Axes, network: int) -> None:
        stills.image(axes, self.state["images"], self.example)
        packed = self.state["maps"][self.layer][network]
        values = np.frombuffer(base64.b64decode(packed["bytes"]), dtype=np.uint8).reshape(packed["shape"])
        heat = values[EXPONENTS.index(self.p), self.example] / 255
        height, width = self.state["images"]["shape"][1:3]
        coloured = np.dstack([np.full((*heat.shape, 3), np.array(HEAT) / 255), 0.85 * heat])
        axes.imshow(coloured, extent=(-0.5, width - 0.5, height - 0.5, -0.5))


def _checked(
    student: Mapping[str, Any], teacher: Mapping[str, Any], count: int
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """The features of both networks, layer by layer."""
    if list(student) != list(teacher) or not 1 <= len(student) <= MOST_LAYERS:
        raise ValueError(
            f"give 1 to {MOST_LAYERS} layers, the same of both networks; there are {', '.join(student)} of "
            f"the student and {', '.join(teacher)} of the teacher"
        )
    if not 1 <= count <= MOST_IMAGES:
        raise ValueError(f"the figure shows 1 to {MOST_IMAGES} images, but there are {count} labels")
    return {name: _pair(name, student[name], teacher[name], count) for name in student}


def _pair(name: str, student: Any, teacher: Any, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    found = {
        who: inputs.array(f"{name} of the {who}", features, "K C H W")
        for who, features in (("student", student), ("teacher", teacher))
    }
    for who, features in found.items():
        if len(features) != count:
            raise ValueError(f"{name} of the {who} must hold {count} images, but holds {len(features)}")
    ours, theirs = found.values()
    if ours.shape[2:] != theirs.shape[2:]:
        raise ValueError(
            f"{name} has maps of {ours.shape[2:]} in the student and {theirs.shape[2:]} in the teacher; "
            "choose layers whose maps are of one size"
        )
    return torch.from_numpy(ours), torch.from_numpy(theirs)


def _packed(features: torch.Tensor) -> dict[str, Any]:
    """The maps at all exponents, each from 0 to 255 at its largest value, (exponents, K, H, W)."""
    maps = torch.stack([losses.attention_map(features, p) for p in EXPONENTS])
    largest = maps.amax(dim=(2, 3), keepdim=True).clamp_min(1e-30)
    pixels = (255 * maps / largest).round().to(torch.uint8).numpy()
    return {"shape": list(pixels.shape), "bytes": base64.b64encode(pixels.tobytes()).decode("ascii")}


def _losses(student: torch.Tensor, teacher: torch.Tensor, form: str) -> list[list[float]]:
    """For each exponent the loss of each image."""
    images = list(zip(student.split(1), teacher.split(1), strict=True))
    return [
        [round(losses.attention_transfer_loss(*pair, p, form).item(), 6) for pair in images]
        for p in EXPONENTS
    ]
