"""What a term of the loss is, and what it may look at."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from torch import Tensor, nn

from kdlib.losses.inputs import check_weights

# Instead of a module's path: what enters the network's last linear layer, (N, D).
EMBEDDING = "embedding"

Layers = str | Sequence[str] | Mapping[str, str]
Maps = Mapping[str, Tensor]

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
    """Both networks and what their tapped layers give out for a few images: what connectors are built for."""

    student: nn.Module
    teacher: nn.Module | None
    student_maps: Maps
    teacher_maps: Maps


class Term(nn.Module):
    """One summand of the loss: a name, a weight, and how it is computed from `Outputs`.

    Args:
        weight: factor in the total, 0 or more.
        options: the term's settings, shown in its repr and kept in run records.

    Raises:
        ValueError: the weight is negative or not finite.
    """

    name: str
    needs_teacher = True
    # The term trains modules of its own, which `Distiller.connect` builds.
    has_connectors = False

    def __init__(self, weight: float, **options: object) -> None:
        super().__init__()
        check_weights(**{f"the weight of {type(self).__name__}": weight})
        self.weight = weight
        self.options = options

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The layers that the term compares: paths in the student and in the teacher."""
        return ()

    def forward(self, outputs: Outputs) -> Tensor:
        raise NotImplementedError

    def connect(self, example: Example) -> None:
        """Build what the term trains besides the student, once the shapes are known."""

    def __repr__(self) -> str:
        options = "".join(f", {name}={value!r}" for name, value in self.options.items())
        return f"{type(self).__name__}({self.weight:g}{options})"


class LayerTerm(Term):
    """A term on what layers inside the two networks give out.

    Args:
        weight: factor in the total, 0 or more.
        layers: module paths. ``["layer1", "layer2"]`` where they are called the same in both networks,
            ``{"layer1": "stage1"}`` where the teacher's are called otherwise; one path may stand alone.
            "layer1.2.relu:input" is what enters that module; `EMBEDDING` what enters the classifier.
        options: the term's other settings.

    Raises:
        ValueError: there is no layer, or the weight is negative or not finite.
    """

    def __init__(self, weight: float, layers: Layers, **options: object) -> None:
        pairs = _as_pairs(layers)
        super().__init__(weight, layers=list(layers) if isinstance(layers, tuple) else layers, **options)
        self._pairs = pairs

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        return self._pairs

    def both(self, outputs: Outputs | Example) -> list[tuple[Tensor, Tensor]]:
        """What the student's and the teacher's layers gave out, pair by pair."""
        return [(outputs.student_maps[ours], outputs.teacher_maps[theirs]) for ours, theirs in self.pairs]


def _as_pairs(layers: Layers) -> tuple[tuple[str, str], ...]:
    if isinstance(layers, str):
        pairs = [(layers, layers)]
    elif isinstance(layers, Mapping):
        pairs = list(layers.items())
    else:
        pairs = [(path, path) for path in layers]
    if not pairs:
        raise ValueError("layers is empty; name at least one module, such as layers=['layer1'].")
    return tuple(pairs)
