"""`Recipe` and its parts: everything that decides what a training run computes, except the seed."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Annotated, Any, Literal, NamedTuple

import torch
from pydantic import Field
from torch import nn

from kdlib import terms
from kdlib.data import Augmentation, ImageData, list_data, load_data
from kdlib.data.augment import Transform
from kdlib.data.load import is_own_data, known_loaders
from kdlib.experiments.identity import digest_of
from kdlib.experiments.recipes.reading import Options, arguments
from kdlib.models import create_model
from kdlib.models.registry import check_own_options
from kdlib.names import near
from kdlib.own import registered, source_of
from kdlib.terms import EMBEDDING, LayerTerm, LinearWarmUp, Term
from kdlib.training.environment import fingerprint_of
from kdlib.training.optim import make_optimizer, make_scheduler
from kdlib.training.precision import PRECISIONS

IMAGENET = "imagenet"

TERMS: dict[str, type[Term]] = {
    name: kind
    for name in terms.__all__
    if isinstance(kind := getattr(terms, name), type)
    and issubclass(kind, Term)
    and kind not in (LayerTerm, Term)
}
WEIGHTS: dict[str, type[LinearWarmUp]] = {"LinearWarmUp": LinearWarmUp}

Count = Annotated[int, Field(gt=0)]
Amount = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class DataSpec:
    """Which images.

    Attributes:
        name: as `kdlib.load_data` takes it.
        size: side in pixels; None leaves the data set's own.
        division: "published" or "honest"; the digits have one of their own. None is "published" of the data
            sets of the course, and "honest" of a folder or of what was registered, which nobody published.
        train_images: train on so many, as many of each class; None on all.
        draw: "once" draws them with seed 0, "per-seed" with each run's own.
        normalize: mean and standard deviation of every channel; None takes the data set's own.
    """

    name: str
    size: Count | None = None
    division: Literal["published", "honest"] | None = None
    train_images: Count | None = None
    draw: Literal["once", "per-seed"] = "once"
    normalize: Amount | None = None

    def __post_init__(self) -> None:
        if self.draw == "per-seed" and self.train_images is None:
            raise ValueError('data.draw is "per-seed", and all images are trained on; add train_images.')
        if self.name not in list_data() and not self.name.startswith("folder:"):
            raise ValueError(
                f"data.name is {self.name!r}, which is no data set; {near(self.name, list_data())}"
            )
        if self.division is None:
            object.__setattr__(self, "division", "honest" if is_own_data(self.name) else "published")

    def load(self, seed: int = 0) -> ImageData:
        """The images of a run, with the data set's own augmentation.

        Args:
            seed: of the run; it counts where the training images are drawn by it.

        Raises:
            ValueError: as `kdlib.load_data`; or there are fewer than `train_images`, or too few classes.
            FileNotFoundError: as `kdlib.load_data`.
        """
        options: dict[str, Any] = {} if self.size is None else {"size": self.size}
        if self.name.startswith("folder:") or "division" in known_loaders()[self.name][1]:
            options["division"] = self.division
        data = load_data(self.name, **options)
        if self.train_images is not None:
            drawn_by = seed if self.draw == "per-seed" else 0
            data = replace(data, train=data.train.balanced(self.train_images, drawn_by))
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
            `kdlib.models.init.init_weights` to any network.
        start: "" for random weights, "imagenet" for those of its library or package, or a run, "recipe@seed".
            The last layer is new where the number of classes differs.
        head_only: train the last linear layer only, and leave all other weights as they are.
        batch_norm: "follows" the statistics of the images also where its weights are left as they are, as it
            does in the programs of the sources; "kept" uses those that it starts with.
        size: side in pixels at which it is shown the pictures; None leaves them as the data has them.
        normalize: mean and standard deviation of every channel that it is shown, those that its first weights
            were trained with; None leaves them as the data has them.
    """

    name: str
    options: Options = field(default_factory=dict)
    initial: Literal["default", "kaiming-xavier"] = "default"
    start: str = ""
    head_only: bool = False
    batch_norm: Literal["follows", "kept"] = "follows"
    size: Count | None = None
    normalize: Amount | None = None

    def __post_init__(self) -> None:
        if "weights" in self.options:
            raise ValueError('student.options has a key "weights"; write start = "imagenet" instead.')
        try:
            if self.name in registered("network"):
                check_own_options(self.name, {"num_classes": 2, "in_channels": 3, **self.options})
            else:
                _try_network(self.name, json.dumps(self.options, sort_keys=True))
        except ValueError as error:
            raise ValueError(f"student.name is {self.name!r}: {error}") from error


@dataclass(frozen=True)
class TrainingSpec:
    """How it is trained: arguments of `kdlib.fit`, under the same names."""

    epochs: Count
    batch_size: Count
    learning_rate: Amount
    weight_decay: float
    optimizer: str
    optimizer_options: Options = field(default_factory=dict)
    scheduler: str | None = None
    scheduler_options: Options = field(default_factory=dict)
    scheduler_step: Literal["step", "epoch"] = "step"
    test_every: Count | None = 1
    precision: str = "auto"

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"training.precision is {self.precision!r}; {near(self.precision, PRECISIONS)}")
        try:
            optimizer = make_optimizer(
                self.optimizer, nn.Linear(1, 1), self.learning_rate, self.weight_decay, self.optimizer_options
            )
            # How many steps there will be is known with the images; for a check two are enough.
            make_scheduler(self.scheduler, optimizer, 2, self.scheduler_options)
            if self.scheduler is None and self.scheduler_options:
                raise ValueError("there are scheduler_options and no scheduler; name one, or leave them out.")
        except ValueError as error:
            raise ValueError(f"training: {error}") from error


@dataclass(frozen=True)
class TermSpec:
    """A term of the loss: a class of `kdlib.terms`, or one that was registered, and its arguments.

    A weight that follows the run is a table, ``{kind = "LinearWarmUp", weight = 1.0, share = 0.0833}``. What
    is not given is filled in, so that two recipes that mean the same are the same.
    """

    kind: str
    options: dict[str, Any]

    def __post_init__(self) -> None:
        given, weight = dict(self.options), {}
        if isinstance(given.get("weight"), Mapping):
            weight = {"weight": _schedule(given.pop("weight"), f"terms: {self.kind}.weight")}
        # A whole number and the same with a point are one value, and one digest.
        options = arguments(self._class, given, f"terms: {self.kind}", complete=True) | weight
        options = {name: value.value if value is EMBEDDING else value for name, value in options.items()}
        object.__setattr__(self, "options", self._class.recorded(options))
        self.build()

    @property
    def _class(self) -> type[Term]:
        known: dict[str, type[Term]] = TERMS | registered("term")
        if self.kind not in known:
            raise ValueError(f"terms: there is no term {self.kind!r}; {near(self.kind, known)}")
        return known[self.kind]

    def build(self) -> Term:
        """The term itself.

        Raises:
            ValueError: it refuses a value.
        """
        options = {name: _with_embedding(value) for name, value in self.options.items()}
        if isinstance(options["weight"], Mapping):
            schedule = dict(options["weight"])
            options["weight"] = WEIGHTS[schedule.pop("kind")](**schedule)
        try:
            return self._class(**options)
        except TypeError as error:
            raise ValueError(f"terms: {self.kind} refuses {self.options}: {error}.") from error

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"kind": self.kind, **self.options}


@dataclass(frozen=True)
class Stage:
    """A stage before the main one, with terms and epochs of its own (`kdlib.schemes.stages`)."""

    terms: tuple[TermSpec, ...]
    epochs: Count

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


class Needed(NamedTuple):
    """A run whose weights another one needs: of one seed, or of the seed of the run that needs it (None)."""

    recipe: "Recipe"
    seed: int | None

    def of(self, seed: int) -> RunName:
        """The run that a run with this seed needs."""
        return RunName(self.recipe, seed if self.seed is None else self.seed)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        changed = {"settings": dict(self.recipe.settings)} if self.recipe.settings else {}
        return {"recipe": self.recipe.name, "digest": self.recipe.digest, "seed": self.seed, **changed}

    def __str__(self) -> str:
        return f"{self.recipe.name}@{'seed' if self.seed is None else self.seed}"


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
        file: the recipe's, where its family is not among those that have names everywhere.
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
    teacher: Needed | None = None
    start: Needed | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    file: str | None = None

    @property
    def family(self) -> str:
        """The first part of the name."""
        return self.name.partition("/")[0]

    def among(self, pattern: str = "") -> str:
        """What `find_recipes` finds this recipe by; or, with a pattern, others of its family."""
        before = f"{self.family}/" if self.file is None else f"{self.file}:"
        return before + (pattern or self.name.partition("/")[2])

    def build_terms(self) -> list[Term]:
        """The terms of the loss, new objects."""
        return [term.build() for term in self.terms]

    def needs(self, seed: int) -> list[RunName]:
        """The runs that come before one with this seed: its teacher's, and that of its first weights."""
        return [needed.of(seed) for needed in (self.teacher, self.start) if needed is not None]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON; teacher and start as name, digest and seed."""
        return {
            "name": self.name, "family": self.family, "profile": self.profile, "seeds": list(self.seeds),
            "settings": dict(self.settings), "digest": self.digest, **self._content(),
            **({} if self.file is None else {"file": self.file}),
            "teacher": None if self.teacher is None else self.teacher.as_dict(),
            "start": None if self.start is None else self.start.as_dict(),
        }  # fmt: skip

    @cached_property
    def digest(self) -> str:
        """12 hexadecimal digits of what is computed: names, profile and seeds do not count.

        Two names of one content are one run. Teacher and start count by their digests and seeds.
        """
        return digest_of(self._content())

    @cached_property
    def own_code(self) -> str:
        """Of the files with the registered things that it, or a run that it needs, is made of; "" if none is.

        Like kdlib's own code it tells one run from another.
        """
        return fingerprint_of(sorted(self._own_files())) if self._own_files() else ""

    def _own_files(self) -> set[tuple[str, bytes]]:
        stages = [*self.terms, *(self.first_stage.terms if self.first_stage else ())]
        things = [registered("term").get(term.kind) for term in stages]
        things += [registered("network").get(self.student.name), registered("data set").get(self.data.name)]
        own = {source_of(thing) for thing in things if thing is not None}
        return own.union(*(each.recipe._own_files() for each in (self.teacher, self.start) if each))

    def _content(self) -> dict[str, Any]:
        # Left out where they change nothing, as in records from before there was such a key.
        data = _without(self.data, draw="once")
        student = _without(self.student, size=None, normalize=None, batch_norm="follows")
        if self.start is not None:
            student.pop("start")  # a name; the run itself is below
        return {
            "data": data,
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


def _without(spec: DataSpec | NetworkSpec, **neutral: Any) -> dict[str, Any]:
    fields = asdict(spec)
    return {key: value for key, value in fields.items() if key not in neutral or value != neutral[key]}


def _which(run: Needed | None) -> dict[str, Any] | None:
    return None if run is None else {"digest": run.recipe.digest, "seed": run.seed}


@lru_cache(maxsize=256)
def _try_network(name: str, options: str) -> None:
    with torch.device("meta"):  # shapes only: no memory, no random numbers
        create_model(name, num_classes=2, **json.loads(options))


def _schedule(table: Mapping[str, Any], key: str) -> dict[str, Any]:
    """A weight that follows the run, as its table has it, checked."""
    given = dict(table)
    kind = str(given.pop("kind", ""))
    if kind not in WEIGHTS:
        raise ValueError(f"{key} has the kind {kind!r}; {near(kind, WEIGHTS)}")
    return {"kind": kind, **arguments(WEIGHTS[kind], given, key, complete=True)}


def _with_embedding(value: Any) -> Any:
    """The value of an argument, with `EMBEDDING` where a recipe has its name: no file can hold it itself."""
    if isinstance(value, Mapping):
        return {_with_embedding(ours): _with_embedding(theirs) for ours, theirs in value.items()}
    if isinstance(value, list):
        return [_with_embedding(item) for item in value]
    return EMBEDDING if value == EMBEDDING.value else value
