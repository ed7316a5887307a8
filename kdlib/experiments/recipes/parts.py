"""From a table of a family's file to the parts of a recipe."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from kdlib.data import Augmentation, augment
from kdlib.data.augment import Transform
from kdlib.data.catalogue import sources
from kdlib.data.folder import SIZE
from kdlib.experiments.recipes.reading import Options, arguments, as_seeds, as_table, check, read
from kdlib.experiments.recipes.schema import DataSpec, NetworkSpec, Stage, TermSpec, TrainingSpec
from kdlib.names import near

TRANSFORMS: dict[str, type[Transform]] = {
    name: getattr(augment, name)
    for name in augment.__all__
    if name not in ("Augmentation", "Transform", "normalize")
}


@dataclass(frozen=True)
class RecipeParts:
    """A whole recipe as its file has it."""

    data: Options
    student: Options
    training: Options
    terms: list[Options]
    seeds: list[int]
    teacher: str = ""
    augmentation: dict[str, list[Options]] = field(default_factory=dict)
    first_stage: Options | None = None


RECIPE_KEYS = [part.name for part in fields(RecipeParts)]


def read_parts(table: RecipeParts) -> dict[str, Any]:
    """What a recipe's table says, but for the names of other recipes.

    Raises:
        ValueError: something is not as it should be; the message says at which key.
    """
    data = read(DataSpec, table.data, "data")
    return {
        "seeds": as_seeds(table.seeds, "seeds"),
        "data": data,
        "student": read(NetworkSpec, table.student, "student"),
        "training": read(TrainingSpec, table.training, "training"),
        "augmentation": _augmentation(table.augmentation, data),
        "terms": _terms(table.terms, "terms"),
        "first_stage": None if table.first_stage is None else _first_stage(table.first_stage),
    }


def _terms(value: object, key: str) -> tuple[TermSpec, ...]:
    tables: list[Options] = check(list[Options], value, key)
    if not tables:
        raise ValueError(f'{key} is empty; write at least one, such as {{kind = "HardLabels"}}.')
    return tuple(TermSpec(str(table.pop("kind", "")), table) for table in tables)


def _first_stage(table: Options) -> Stage:
    terms = _terms(table.get("terms", []), "first_stage.terms")
    return read(Stage, {**table, "terms": terms}, "first_stage")


def _augmentation(table: Mapping[str, list[Options]], data: DataSpec) -> Augmentation:
    as_table(table, "augmentation", ("train", "test"))
    size = _own_size(data.name) if data.size is None else data.size
    return Augmentation(
        **{
            part: tuple(_transform(step, size, f"augmentation.{part}") for step in steps)
            for part, steps in table.items()
        }
    )


def _own_size(name: str) -> int | None:
    """Of the pictures of a data set; None where only the function that was registered knows it."""
    if name.startswith("folder:"):
        return SIZE
    return 8 if name == "digits" else sources()[name].size if name in sources() else None


def _transform(table: Mapping[str, Any], size: int | None, key: str) -> Transform:
    """A transform from a table with its kind and its arguments; a crop's `size` may be left to the data.

    Raises:
        ValueError: there is no such transform or argument, or it refuses a value.
    """
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in table.items()}
    kind = options.pop("kind", None)
    if kind not in TRANSFORMS:
        raise ValueError(f"{key} has the kind {kind!r}; {near(str(kind), TRANSFORMS)}")
    if size is not None and "size" in inspect.signature(TRANSFORMS[kind]).parameters:
        options.setdefault("size", size)
    # Checked, and left as they are: in digests a whole number here has no point.
    arguments(TRANSFORMS[kind], options, f"{key}: {kind}")
    return TRANSFORMS[kind](**options)
