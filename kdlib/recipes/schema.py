"""`Recipe` and its parts: everything that decides what a training run computes, except the seed."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple

from kdlib.data import Augmentation, ImageData, load_data
from kdlib.data.augment import Transform
from kdlib.recipes.checks import (
    build_term,
    check_above_zero,
    check_data,
    check_network,
    check_training,
    complete_term,
)
from kdlib.results.identity import digest_of
from kdlib.terms import Term

IMAGENET = "imagenet"


@dataclass(frozen=True)
class DataSpec:
    """Which images.

    Attributes:
        name: as `kdlib.load_data` takes it.
        size: side in pixels; None leaves the data set's own.
        division: "published" or "honest"; the digits have one of their own.
        train_images: train on so many, as many of each class (drawn with seed 0); None on all.
        normalize: mean and standard deviation of every channel; None takes the data set's own.
    """

    name: str
    size: int | None = None
    division: Literal["published", "honest"] = "published"
    train_images: int | None = None
    normalize: float | None = None

    def __post_init__(self) -> None:
        check_data(self.name)
        check_above_zero("data", size=self.size, train_images=self.train_images, normalize=self.normalize)

    def load(self) -> ImageData:
        """The images, with the data set's own augmentation.

        Raises:
            ValueError, FileNotFoundError: as `kdlib.load_data`.
        """
        options: dict[str, Any] = {} if self.size is None else {"size": self.size}
        if self.name != "digits":
            options["division"] = self.division
        data = load_data(self.name, **options)
        if self.train_images is not None:
            data = replace(data, train=data.train.balanced(self.train_images))
        if self.normalize is None:
            return data
        values = (self.normalize,) * data.in_channels
        parts = {
            part: replace(getattr(data, part), mean=values, std=values) for part in ("train", "val", "test")
        }
        return replace(data, **parts)


@dataclass(frozen=True)
class NetworkSpec:
    """Which network, and from which weights it starts.

    Attributes:
        name, options: as `kdlib.create_model` takes them.
        initial: "default", the network's own random weights; "kaiming-xavier" gives those of
            `kdlib.models.initialise` to any network.
        start: "" for random weights, "imagenet" for torchvision's, or a run, "recipe@seed". The last layer
            is new where the number of classes differs.
        head_only: train the last linear layer only, and leave all other weights as they are; batch norm still
            follows the statistics of the images, as it does in the programs of the sources.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    initial: Literal["default", "kaiming-xavier"] = "default"
    start: str = ""
    head_only: bool = False

    def __post_init__(self) -> None:
        check_network(self.name, self.options)


@dataclass(frozen=True)
class TrainingSpec:
    """How it is trained: arguments of `kdlib.fit`, under the same names."""

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    optimizer: str
    optimizer_options: dict[str, Any] = field(default_factory=dict)
    scheduler: str | None = None
    scheduler_options: dict[str, Any] = field(default_factory=dict)
    scheduler_step: Literal["step", "epoch"] = "step"
    test_every: int | None = 1
    precision: str = "auto"

    def __post_init__(self) -> None:
        check_above_zero(
            "training",
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            test_every=self.test_every,
        )
        check_training(
            self.optimizer,
            self.learning_rate,
            self.weight_decay,
            self.optimizer_options,
            self.scheduler,
            self.scheduler_options,
            self.precision,
        )


@dataclass(frozen=True)
class TermSpec:
    """A term of the loss: a class of `kdlib.terms` and its arguments.

    What is not given is filled in, so that two recipes that mean the same are the same.
    """

    kind: str
    options: dict[str, Any]

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", complete_term(self.kind, self.options))

    def build(self) -> Term:
        """The term itself."""
        return build_term(self.kind, self.options)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"kind": self.kind, **self.options}


@dataclass(frozen=True)
class Stage:
    """A stage before the main one, with terms and epochs of its own (`kdlib.schemes.stages`)."""

    terms: tuple[TermSpec, ...]
    epochs: int

    def __post_init__(self) -> None:
        check_above_zero("first_stage", epochs=self.epochs)

    def build_terms(self) -> list[Term]:
        """The terms of the loss, new objects."""
        return [term.build() for term in self.terms]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"terms": [term.as_dict() for term in self.terms], "epochs": self.epochs}


class RunName(NamedTuple):
    """A run: a recipe and a seed."""

    recipe: "Recipe"
    seed: int

    def __str__(self) -> str:
        return f"{self.recipe.name}@{self.seed}"

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"recipe": self.recipe.name, "digest": self.recipe.digest, "seed": self.seed}


@dataclass(frozen=True)
class Recipe:
    """A training run but for its seed: data, networks, loss and schedule.

    Attributes:
        name: "family/name" or "family/grid/option/…".
        profile: "full", "short" or "quick".
        seeds: the seeds that the recipe is run with unless others are asked for.
        data, student, training: see their classes.
        augmentation: of the images.
        terms: of the loss.
        first_stage: what is done before; None for nothing.
        teacher: the run whose network teaches; None for none.
        start: the run that the student's weights come from; None for none.
        settings: what was changed by hand; empty for a recipe as its file has it.
    """

    name: str
    profile: str
    seeds: tuple[int, ...]
    data: DataSpec
    student: NetworkSpec
    training: TrainingSpec
    augmentation: Augmentation
    terms: tuple[TermSpec, ...]
    first_stage: Stage | None = None
    teacher: RunName | None = None
    start: RunName | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def family(self) -> str:
        """The first part of the name."""
        return self.name.partition("/")[0]

    def build_terms(self) -> list[Term]:
        """The terms of the loss, new objects."""
        return [term.build() for term in self.terms]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON; teacher and start as name, digest and seed."""
        return {
            "name": self.name, "family": self.family, "profile": self.profile, "seeds": list(self.seeds),
            "settings": dict(self.settings), "digest": self.digest, **self._content(),
            "teacher": None if self.teacher is None else self.teacher.as_dict(),
            "start": None if self.start is None else self.start.as_dict(),
        }  # fmt: skip

    @cached_property
    def digest(self) -> str:
        """12 hexadecimal digits of what is computed: names, profile and seeds do not count.

        Two names of one content are one run. Teacher and start count by their digests and seeds.
        """
        return digest_of(self._content())

    def _content(self) -> dict[str, Any]:
        student = asdict(self.student)
        if self.start is not None:
            student.pop("start")  # a name; the run itself is below
        return {
            "data": asdict(self.data),
            "student": student,
            "training": asdict(self.training),
            "augmentation": {
                "train": _steps(self.augmentation.train),
                "test": _steps(self.augmentation.test),
            },
            "terms": [term.as_dict() for term in self.terms],
            "first_stage": None if self.first_stage is None else self.first_stage.as_dict(),
            "teacher": _which(self.teacher),
            "start": _which(self.start),
        }


def _steps(transforms: Sequence[Transform]) -> list[dict[str, Any]]:
    return [{"kind": type(step).__name__, **vars(step)} for step in transforms]


def _which(run: RunName | None) -> dict[str, Any] | None:
    return None if run is None else {"digest": run.recipe.digest, "seed": run.seed}
