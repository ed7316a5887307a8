"""Terms on features: what layers compute, compared value by value through small trained connectors."""

from collections.abc import Sequence

from torch import Tensor, nn

from kdlib import losses
from kdlib.losses.inputs import check_above_zero, check_form
from kdlib.losses.maps import aligned, as_maps
from kdlib.models.connectors import Regressor, ReviewFusion, Size, VIDRegressor
from kdlib.models.taps import find_module
from kdlib.terms.base import Example, Layers, LayerTerm, Outputs, check_scalar
from kdlib.terms.weights import Weight


class Hints(LayerTerm):
    """FitNets' hints, `kdlib.losses.hint_loss`, summed over the layers.

    Where the student's maps have other channels or another size than the teacher's, a `Regressor` takes them
    there and is trained with the student; tokens (N, L, D) and vectors (N, D) of another width go through a
    linear layer. Of tokens both networks have as many. Where one has tokens and the other maps, the tokens
    are laid out as maps, without those of the class and of distillation.

    Args:
        weight: factor in the total.
        layers, weights: as of every `LayerTerm`.
        reduction: "mean", "batchmean" or "sum".
        name: as of every `Term`.
    """

    name = "hints"
    has_connectors = True
    added = LayerTerm.added | {"reduction"}

    def __init__(
        self,
        weight: Weight = 1.0,
        *,
        layers: Layers,
        reduction: str = "mean",
        weights: Sequence[float] | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(weight, layers, reduction=reduction, weights=weights, name=name)
        check_scalar(reduction)
        self.reduction = reduction
        self.connectors = nn.ModuleList()

    def connect(self, example: Example) -> None:
        for student, teacher in _aligned(self, example):
            _check_features(self, student)
            self.connectors.append(_hint_connector(student, teacher))

    def forward(self, outputs: Outputs) -> Tensor:
        return self.total(self._hint, zip(self.connectors, _aligned(self, outputs), strict=True))

    def _hint(self, connector: nn.Module, pair: tuple[Tensor, Tensor]) -> Tensor:
        return losses.hint_loss(_regress(connector, *pair), pair[1], self.reduction)


class VID(LayerTerm):
    """Variational information distillation, `kdlib.losses.vid_loss` through a `VIDRegressor` a layer.

    Maps, tokens and vectors as for `Hints`; each feature of tokens and vectors has a variance, as a channel.

    Args:
        weight: factor in the total.
        layers, weights: as of every `LayerTerm`.
        minimum_variance: above 0.
        reduction: "mean", "batchmean" or "sum".
        name: as of every `Term`.
    """

    name = "vid"
    has_connectors = True
    added = LayerTerm.added | {"minimum_variance", "reduction"}

    def __init__(
        self,
        weight: Weight = 1.0,
        *,
        layers: Layers,
        minimum_variance: float = 1e-5,
        reduction: str = "mean",
        weights: Sequence[float] | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(
            weight,
            layers,
            minimum_variance=minimum_variance,
            reduction=reduction,
            weights=weights,
            name=name,
        )
        check_above_zero(minimum_variance=minimum_variance)
        check_scalar(reduction)
        self.minimum_variance, self.reduction = minimum_variance, reduction
        self.connectors: list[VIDRegressor] = nn.ModuleList()  # type: ignore[assignment]  # what it holds

    def connect(self, example: Example) -> None:
        for student, teacher in _aligned(self, example):
            _check_features(self, student)
            self.connectors.append(VIDRegressor(as_maps(student).shape[1], as_maps(teacher).shape[1]))

    def forward(self, outputs: Outputs) -> Tensor:
        return self.total(self._likelihood, zip(self.connectors, _aligned(self, outputs), strict=True))

    def _likelihood(self, connector: VIDRegressor, pair: tuple[Tensor, Tensor]) -> Tensor:
        student, teacher = map(as_maps, pair)
        mean = connector(student, _size(teacher))
        return losses.vid_loss(mean, teacher, connector.log_scale, self.minimum_variance, self.reduction)


class OFD(LayerTerm):
    """Overhaul of feature distillation, `kdlib.losses.ofd_loss` through a `Regressor` a layer.

    The margins are `kdlib.losses.ofd_margin` of the teacher's batch norms.

    Args:
        weight: factor in the total; the authors' training script has 0.001.
        layers: maps before the ReLU, "layer1.2.relu:input" for instance.
        norms: the paths of the teacher's batch norms that the margins are read off, one for each layer: those
            whose output goes into the ReLU, "layer1.2.bn2" for instance.
        form: of the margins, "paper" or "code".
        reduction: "batchmean", "mean" or "sum".
        weights: a factor for each layer; the authors' script halves it for each earlier stage, [0.25, 0.5, 1]
            for three.
        name: as of every `Term`.
    """

    name = "ofd"
    has_connectors = True
    added = LayerTerm.added | {"form", "reduction"}

    def __init__(
        self,
        weight: Weight = 0.001,
        *,
        layers: Layers,
        norms: Sequence[str],
        form: str = "paper",
        reduction: str = "batchmean",
        weights: Sequence[float] | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(
            weight,
            layers,
            norms=list(norms),
            form=form,
            reduction=reduction,
            weights=weights,
            name=name,
        )
        if len(norms) != len(self.pairs):
            raise ValueError(
                f"there are {len(norms)} norms for {len(self.pairs)} layers; name one batch norm of the "
                "teacher per layer."
            )
        check_form(form)
        check_scalar(reduction)
        self.norms, self.form, self.reduction = tuple(norms), form, reduction
        self.connectors = nn.ModuleList()

    def connect(self, example: Example) -> None:
        assert example.teacher is not None, "Distiller refuses this term without a teacher"
        for level, (path, (student, teacher)) in enumerate(
            zip(self.norms, _aligned(self, example), strict=True)
        ):
            _check_maps(self, student)
            norm = find_module(example.teacher, path)
            if not isinstance(norm, nn.BatchNorm2d) or norm.num_features != teacher.shape[1]:
                raise ValueError(
                    f"{path!r} is {norm} and not a batch norm of {teacher.shape[1]} channels; name the "
                    "teacher's last batch norm before the tapped ReLU."
                )
            margin = losses.ofd_margin(norm.weight.detach(), norm.bias.detach(), self.form)
            self.connectors.append(Regressor(student.shape[1], teacher.shape[1]))
            self.register_buffer(f"margin{level}", margin)

    def forward(self, outputs: Outputs) -> Tensor:
        margins = [self.get_buffer(f"margin{level}") for level in range(len(self.pairs))]
        return self.total(self._distance, zip(self.connectors, _aligned(self, outputs), margins, strict=True))

    def _distance(self, connector: nn.Module, pair: tuple[Tensor, Tensor], margin: Tensor) -> Tensor:
        student, teacher = pair
        return losses.ofd_loss(connector(student, _size(teacher)), teacher, margin, self.reduction)


class Review(LayerTerm):
    """Knowledge review (ReviewKD), `kdlib.losses.review_loss` of maps that `ReviewFusion` has joined.

    The authors' code raises the weight from 0 over the first 20 of 240 epochs:
    ``Review(LinearWarmUp(1, 20 / 240), layers=…)``.

    Args:
        weight: factor in the total.
        layers: the shallowest first.
        channels: of the joined maps; see `ReviewFusion`.
        weights: as of every `LayerTerm`.
        name: as of every `Term`.
    """

    name = "review"
    has_connectors = True

    def __init__(
        self,
        weight: Weight = 1.0,
        *,
        layers: Layers,
        channels: int | None = None,
        weights: Sequence[float] | None = None,
        name: str | None = None,
    ) -> None:
        options = {} if channels is None else {"channels": channels}
        super().__init__(weight, layers, weights=weights, name=name, **options)
        self.channels = channels
        self.fusion: ReviewFusion | None = None

    def connect(self, example: Example) -> None:
        pairs = _aligned(self, example)
        for student, _ in pairs:
            _check_maps(self, student)
        self.fusion = ReviewFusion(
            [student.shape[1] for student, _ in pairs],
            [teacher.shape[1] for _, teacher in pairs],
            self.channels,
        )

    def forward(self, outputs: Outputs) -> Tensor:
        assert self.fusion is not None, "Distiller connects a term before it calls it"
        student, teacher = zip(*_aligned(self, outputs), strict=True)
        fused = self.fusion(student, [_size(maps) for maps in teacher])
        return self.total(losses.review_loss, zip(fused, teacher, strict=True))


def _aligned(term: LayerTerm, outputs: Outputs | Example) -> list[tuple[Tensor, Tensor]]:
    """What the student's and the teacher's layers gave out, with as many axes pair by pair."""
    try:
        return [aligned(*pair) for pair in term.both(outputs)]
    except ValueError as error:
        raise ValueError(f"{term!r}: {error}") from error


def _hint_connector(student: Tensor, teacher: Tensor) -> nn.Module:
    if student.shape[1:] == teacher.shape[1:]:
        return nn.Identity()
    if student.ndim == 4:
        return Regressor(student.shape[1], teacher.shape[1])
    return nn.Linear(student.shape[-1], teacher.shape[-1])


def _regress(connector: nn.Module, student: Tensor, teacher: Tensor) -> Tensor:
    is_regressor = isinstance(connector, Regressor)
    regressed: Tensor = connector(student, _size(teacher)) if is_regressor else connector(student)
    return regressed


def _size(maps: Tensor) -> Size:
    return maps.shape[-2], maps.shape[-1]


def _check_features(term: LayerTerm, features: Tensor) -> None:
    if features.ndim not in (2, 3, 4):
        raise ValueError(
            f"{term!r} needs maps (N, C, H, W), tokens (N, L, D) or vectors (N, D), and the student gives "
            f"{tuple(features.shape)} there; tap another layer."
        )


def _check_maps(term: LayerTerm, features: Tensor) -> None:
    if features.ndim != 4:
        raise ValueError(
            f"{term!r} needs maps (N, C, H, W), and the student gives {tuple(features.shape)} there; tap "
            "a convolution, a batch norm or a stage."
        )
