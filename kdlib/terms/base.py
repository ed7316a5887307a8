"""What a term of the loss is, and what it may look at."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from kdlib.losses.inputs import check_reduction, check_weights
from kdlib.plain import plain_repr
from kdlib.terms.weights import Weight, weight_of


class Embedding(Enum):
    """In the place of a module's path, and no text, because a module may be called so."""

    EMBEDDING = "embedding"

    def __repr__(self) -> str:
        return repr(self.value)


# Instead of a module's path: what enters the linear layer that gives the logits, (N, D). So does the text
# "embedding", where no module is called so.
EMBEDDING = Embedding.EMBEDDING

Layer = str | Embedding
Layers = Layer | Sequence[Layer | tuple[Layer, Layer]] | Mapping[str, Layer] | Mapping[Layer, Layer]
Maps = Mapping[Any, Tensor]  # by Layer; a Mapping[Layer, Tensor] would refuse a dict by text alone

LossFunction = Callable[[Tensor, Tensor], Tensor]

_NO_MAPS: Maps = MappingProxyType({})


class Outputs(NamedTuple):
    """What the terms may use of one batch: both networks' answers, the labels, tapped layers, positions.

    Attributes:
        student_logits: shape (N, C).
        teacher_logits: shape (N, C_t); None where there is no teacher.
        labels: class indices, shape (N,).
        student_maps: what the student's tapped layers gave out, by their paths.
        teacher_maps: the teacher's.
        indices: which images of the training set these are, shape (N,); None where nobody said.
    """

    student_logits: Tensor
    teacher_logits: Tensor | None
    labels: Tensor
    student_maps: Maps = _NO_MAPS
    teacher_maps: Maps = _NO_MAPS
    indices: Tensor | None = None

    def taught(self) -> Tensor:
        """The teacher's logits, for a term that cannot do without."""
        assert self.teacher_logits is not None, "Distiller refuses such a term without a teacher"
        return self.teacher_logits


class Example(NamedTuple):
    """Both networks and what they give out for a few images: what connectors are built for.

    Attributes:
        student: the network that is trained.
        teacher: None where there is none.
        student_maps: what the student's tapped layers gave out, by their paths.
        teacher_maps: the teacher's.
        student_logits: shape (N, C).
        teacher_logits: shape (N, C_t); None where there is no teacher.
        train_labels: the class of every training image, in their order; None where nobody said.
    """

    student: nn.Module
    teacher: nn.Module | None
    student_maps: Maps
    teacher_maps: Maps
    student_logits: Tensor
    teacher_logits: Tensor | None
    train_labels: Tensor | None = None


class Term(nn.Module):
    """One summand of the loss: a name, a weight, and how it is computed from `Outputs`.

    Args:
        weight: factor in the total, 0 or more; or a function from the progress of the run, 0 to 1, to it,
            such as `LinearWarmUp`.
        name: what records and curves call the term; its kind's name if not given.
        options: the term's settings, shown in its repr and kept in run records.

    Attributes:
        compares_images: images with one another, so that the loss of a batch is no mean over its images.
        least_images: a batch of fewer teaches nothing: the term is the same whatever the student says.

    Raises:
        ValueError: the weight, or what its function gives at 0 or 1, is negative, not finite or no number.
    """

    name: str
    needs_teacher = True
    # The term trains modules of its own, which `Distiller.connect` builds.
    has_connectors = False
    compares_images = False
    least_images = 1
    # Arguments that came when runs of the term were already recorded. At its default none of them is in a
    # repr or in the digest of a recipe, so that those runs are still found.
    added: ClassVar[frozenset[str]] = frozenset({"name"})

    def __init__(self, weight: Weight, *, name: str | None = None, **options: object) -> None:
        super().__init__()
        if name is not None:
            self.name = name
        self.weight = weight
        if callable(weight):
            for progress in (0.0, 1.0):  # so that not the last step of a run finds out
                self.weight_at(progress)
        else:
            check_weights(**{f"the weight of {self.maker}": weight})
        self.options = self.recorded({**options, "name": name})

    @classmethod
    def recorded(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options as records have them: without those of `added` that have their default."""
        arguments = inspect.signature(cls).parameters
        defaults = {name: arguments[name].default if name in arguments else None for name in cls.added}
        return {
            name: value for name, value in options.items() if name not in cls.added or value != defaults[name]
        }

    @property
    def maker(self) -> str:
        """What makes such a term, as it is written in Python."""
        return type(self).__name__

    @property
    def needs_whole_batch(self) -> bool:
        """Whether the loss is more than a mean over images, of which shares of a batch give parts."""
        return self.compares_images or self.options.get("reduction") == "sum"

    @staticmethod
    def of(
        function: LossFunction,
        weight: Weight = 1.0,
        layers: Layers | None = None,
        *,
        weights: Sequence[float] | None = None,
        name: str | None = None,
    ) -> "Term":
        """A term from a loss function.

        .. code-block:: python

            Term.of(torch.nn.functional.l1_loss, 0.5)
            Term.of(torch.nn.functional.mse_loss, 10.0, layers=["layer1", "layer2"])

        Processes that train together each call it for the whole batch, because it may compare images.

        Args:
            function: called with both networks' logits, the student's first, and gives a tensor of one
                number; with `layers`, called for each pair of them, with what they gave out. The weights of
                a module are trained with the student.
            weight: as of every term.
            layers, weights: as of every `LayerTerm`; None for logits.
            name: as of every term; the function's own if not given.

        Raises:
            ValueError: it is no function, there are weights and no layers, or what `LayerTerm` refuses. At a
                step: the function gives something else than a tensor of one number.
        """
        if not callable(function):
            raise ValueError(
                f"function is {function!r}; give a function of what student and teacher give, such as "
                "torch.nn.functional.mse_loss."
            )
        if layers is not None:
            return _FunctionOfLayers(function, weight, layers, weights=weights, name=name)
        if weights is not None:
            raise ValueError(f"weights is {weights!r}, one for each pair of layers; name the layers, too.")
        return _FunctionOfLogits(function, weight, name=name)

    def weight_at(self, progress: float) -> float:
        """The weight when so much of the run is done, 0 to 1.

        Raises:
            ValueError: its function gives no finite number of 0 or more.
        """
        return weight_of(self.weight, progress, self.name)

    @property
    def pairs(self) -> tuple[tuple[Layer, Layer], ...]:
        """The layers that the term compares: paths in the student and in the teacher."""
        return ()

    def forward(self, outputs: Outputs) -> Tensor:
        raise NotImplementedError

    def connect(self, example: Example) -> None:
        """Build what the term trains besides the student, once the shapes are known."""

    def __repr__(self) -> str:
        options = "".join(f", {name}={plain_repr(value)}" for name, value in self.options.items())
        weight = plain_repr(self.weight) if callable(self.weight) else f"{self.weight:g}"
        return f"{self.maker}({weight}{options})"


class LayerTerm(Term):
    """A term on what layers inside the two networks give out: a loss for each pair of layers, summed.

    Args:
        weight: as of every `Term`.
        layers: module paths. ``["layer1", "layer2"]`` where they are called the same in both networks,
            ``{"layer1": "stage1"}`` or ``[("layer1", "stage1")]`` where the teacher's are called otherwise;
            in a list of pairs a layer may come more than once. One path may stand alone.
            "layer1.2.relu:input" is what enters that module; `EMBEDDING` what enters the classifier.
        weights: a factor for each pair of layers in the term's sum, besides its weight; 1 if not given. A
            pair of weight 0 is not computed.
        name: as of every `Term`.
        options: the term's other settings.

    Raises:
        ValueError: there is no layer, there are more or fewer weights than pairs, a weight is negative or not
            finite, or all are 0.
    """

    added = Term.added | {"weights"}

    def __init__(
        self,
        weight: Weight,
        layers: Layers,
        *,
        weights: Sequence[float] | None = None,
        name: str | None = None,
        **options: object,
    ) -> None:
        pairs = _as_pairs(layers)
        super().__init__(
            weight,
            name=name,
            layers=list(layers) if isinstance(layers, tuple) else layers,
            weights=list(weights) if isinstance(weights, tuple) else weights,
            **options,
        )
        self._pairs = pairs
        self.weights = _as_weights(weights, self.parts)

    @property
    def pairs(self) -> tuple[tuple[Layer, Layer], ...]:
        return self._pairs

    @property
    def parts(self) -> int:
        """How many losses the term sums, each with a weight of its own: one for each pair of layers."""
        return len(self.pairs)

    def both(self, outputs: Outputs | Example) -> list[tuple[Tensor, Tensor]]:
        """What the student's and the teacher's layers gave out, pair by pair."""
        return [(outputs.student_maps[ours], outputs.teacher_maps[theirs]) for ours, theirs in self.pairs]

    def forward(self, outputs: Outputs) -> Tensor:
        return self.total(self.compare, self.both(outputs))

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The loss of one pair of layers."""
        raise NotImplementedError

    def total(self, loss: Callable[..., Tensor], parts: Iterable[Iterable[Any]]) -> Tensor:
        """The sum of a loss over the arguments of each part, each times the part's weight."""
        weighted = zip(self.weights, parts, strict=True)
        return torch.stack([weight * loss(*part) for weight, part in weighted if weight]).sum()


class _FunctionOfLogits(Term):
    """`Term.of` a function of both networks' logits."""

    compares_images = True
    maker = "Term.of"

    def __init__(self, function: LossFunction, weight: Weight, *, name: str | None) -> None:
        super().__init__(weight, name=_name_of(function) if name is None else name, function=function)
        self.function = function

    def forward(self, outputs: Outputs) -> Tensor:
        return _as_scalar(self.function(outputs.student_logits, outputs.taught()), self)


class _FunctionOfLayers(LayerTerm):
    """`Term.of` a function of what a layer of each network gave out."""

    compares_images = True
    maker = "Term.of"

    def __init__(
        self,
        function: LossFunction,
        weight: Weight,
        layers: Layers,
        *,
        weights: Sequence[float] | None,
        name: str | None,
    ) -> None:
        name = _name_of(function) if name is None else name
        super().__init__(weight, layers, weights=weights, name=name, function=function)
        self.function = function

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        return _as_scalar(self.function(student, teacher), self)


def _name_of(function: Any) -> str:
    while isinstance(function, partial):
        function = function.func
    name: str = getattr(function, "__name__", type(function).__name__)
    return name


def _as_scalar(value: object, term: Term) -> Tensor:
    if isinstance(value, Tensor) and value.ndim == 0:
        return value
    gave = f"tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
    raise ValueError(
        f"the function of {term.name!r} gives a {gave}; have it return a tensor of one number, such as the "
        "mean over the images."
    )


def check_scalar(reduction: str) -> None:
    """Raise ValueError unless the reduction gives a term one number."""
    check_reduction(reduction)
    if reduction == "none":
        raise ValueError(
            "reduction is 'none', which gives a value per image, and a term is one number; choose batchmean, "
            "mean or sum."
        )


def _as_pairs(layers: Layers) -> tuple[tuple[Layer, Layer], ...]:
    if isinstance(layers, str | Embedding):
        return ((layers, layers),)
    pairs = tuple(_as_pair(item) for item in (layers.items() if isinstance(layers, Mapping) else layers))
    if not pairs:
        raise ValueError("layers is empty; name at least one module, such as layers=['layer1'].")
    return pairs


def _as_pair(item: object) -> tuple[Layer, Layer]:
    match item:
        case str() | Embedding():
            return item, item
        case [str() | Embedding() as ours, str() | Embedding() as theirs]:
            return ours, theirs
    raise ValueError(
        f"layers has {item!r}; write a path, or a pair of one in the student and one in the teacher, such as "
        "('layer1', 'stage1')."
    )


def _as_weights(weights: Sequence[float] | None, parts: int) -> tuple[float, ...]:
    if weights is None:
        return (1.0,) * parts
    if not isinstance(weights, Sequence) or len(weights) != parts:
        raise ValueError(f"weights is {weights!r} for {parts} pairs of layers; give a list, one for each.")
    check_weights(**{f"weights[{place}]": weight for place, weight in enumerate(weights)})
    if not any(weights):
        raise ValueError("weights are all 0; weight=0 switches the term off.")
    return tuple(weights)
