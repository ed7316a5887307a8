"""Terms on features: what layers compute, compared value by value through small trained connectors."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from kdlib import losses
from kdlib.models.connectors import Regressor, ReviewFusion, Size, VIDRegressor
from kdlib.models.taps import find_module
from kdlib.terms.base import Example, Layers, LayerTerm, Outputs


class Hints(LayerTerm):
    """FitNets' hints, `kdlib.losses.hint_loss`, summed over the layers.

    Where the student's maps have other channels or another size than the teacher's, a `Regressor` takes them
    there and is trained with the student.
    """

    name = "hints"
    has_connectors = True

    def __init__(self, weight: float = 1.0, *, layers: Layers) -> None:
        super().__init__(weight, layers)
        self.connectors = nn.ModuleList()

    def connect(self, example: Example) -> None:
        for student, teacher in self.both(example):
            _check_maps(self, student, teacher)
            fits = student.shape[1:] == teacher.shape[1:]
            self.connectors.append(nn.Identity() if fits else Regressor(student.shape[1], teacher.shape[1]))

    def forward(self, outputs: Outputs) -> Tensor:
        pairs = zip(self.connectors, self.both(outputs), strict=True)
        return _total(losses.hint_loss(_regress(connector, *pair), pair[1]) for connector, pair in pairs)


class VID(LayerTerm):
    """Variational information distillation, `kdlib.losses.vid_loss` through a `VIDRegressor` a layer."""

    name = "vid"
    has_connectors = True

    def __init__(self, weight: float = 1.0, *, layers: Layers) -> None:
        super().__init__(weight, layers)
        self.connectors: list[VIDRegressor] = nn.ModuleList()  # type: ignore[assignment]  # what it holds

    def connect(self, example: Example) -> None:
        for student, teacher in self.both(example):
            _check_maps(self, student, teacher)
            self.connectors.append(VIDRegressor(student.shape[1], teacher.shape[1]))

    def forward(self, outputs: Outputs) -> Tensor:
        return _total(
            losses.vid_loss(connector(student, _size(teacher)), teacher, connector.log_scale)
            for connector, (student, teacher) in zip(self.connectors, self.both(outputs), strict=True)
        )


class OFD(LayerTerm):
    """Overhaul of feature distillation, `kdlib.losses.ofd_loss` through a `Regressor` a layer.

    Args:
        weight: factor in the total; the authors' training script has 0.001, halved for each earlier stage.
        layers: maps before the ReLU, "layer1.2.relu:input" for instance.
        norms: the paths of the teacher's batch norms that the margins are read off, one for each layer: those
            whose output goes into the ReLU, "layer1.2.bn2" for instance.
    """

    name = "ofd"
    has_connectors = True

    def __init__(self, weight: float = 0.001, *, layers: Layers, norms: Sequence[str]) -> None:
        super().__init__(weight, layers, norms=list(norms))
        if len(norms) != len(self.pairs):
            raise ValueError(
                f"there are {len(norms)} norms for {len(self.pairs)} layers; name one batch norm of the "
                "teacher per layer."
            )
        self.norms = tuple(norms)
        self.connectors = nn.ModuleList()

    def connect(self, example: Example) -> None:
        assert example.teacher is not None, "Distiller refuses this term without a teacher"
        for level, (path, (student, teacher)) in enumerate(zip(self.norms, self.both(example), strict=True)):
            _check_maps(self, student, teacher)
            norm = find_module(example.teacher, path)
            if not isinstance(norm, nn.BatchNorm2d) or norm.num_features != teacher.shape[1]:
                raise ValueError(
                    f"{path!r} is {norm} and not a batch norm of {teacher.shape[1]} channels; name the "
                    "teacher's last batch norm before the tapped ReLU."
                )
            margin = losses.ofd_margin(norm.weight.detach(), norm.bias.detach())
            self.connectors.append(Regressor(student.shape[1], teacher.shape[1]))
            self.register_buffer(f"margin{level}", margin)

    def forward(self, outputs: Outputs) -> Tensor:
        return _total(
            losses.ofd_loss(connector(student, _size(teacher)), teacher, self.get_buffer(f"margin{level}"))
            for level, (connector, (student, teacher)) in enumerate(
                zip(self.connectors, self.both(outputs), strict=True)
            )
        )


class Review(LayerTerm):
    """Knowledge review (ReviewKD), `kdlib.losses.review_loss` of maps that `ReviewFusion` has joined.

    Args:
        weight: factor in the total.
        layers: the shallowest first.
        channels: of the joined maps; see `ReviewFusion`.
    """

    name = "review"
    has_connectors = True

    def __init__(self, weight: float = 1.0, *, layers: Layers, channels: int | None = None) -> None:
        super().__init__(weight, layers, **({} if channels is None else {"channels": channels}))
        self.channels = channels
        self.fusion: ReviewFusion | None = None

    def connect(self, example: Example) -> None:
        pairs = self.both(example)
        for pair in pairs:
            _check_maps(self, *pair)
        self.fusion = ReviewFusion(
            [student.shape[1] for student, _ in pairs],
            [teacher.shape[1] for _, teacher in pairs],
            self.channels,
        )

    def forward(self, outputs: Outputs) -> Tensor:
        assert self.fusion is not None, "Distiller connects a term before it calls it"
        student, teacher = zip(*self.both(outputs), strict=True)
        return losses.review_loss(self.fusion(student, [_size(maps) for maps in teacher]), teacher)


def _regress(connector: nn.Module, student: Tensor, teacher: Tensor) -> Tensor:
    regressed: Tensor = (
        connector(student) if isinstance(connector, nn.Identity) else connector(student, _size(teacher))
    )
    return regressed


def _size(maps: Tensor) -> Size:
    return maps.shape[-2], maps.shape[-1]


def _total(values: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(values)).sum()


def _check_maps(term: LayerTerm, student: Tensor, teacher: Tensor) -> None:
    for whose, maps in (("student", student), ("teacher", teacher)):
        if maps.ndim != 4:
            raise ValueError(
                f"{term!r} needs maps (N, C, H, W), and the {whose} gives {tuple(maps.shape)} there; tap a "
                "convolution, a batch norm or a stage."
            )
