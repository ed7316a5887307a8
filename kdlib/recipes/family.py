"""A family of recipes: one TOML file, in which every recipe is a few changes to one base."""

import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import Any

from kdlib.recipes.reading import as_seeds, as_table, check_keys, near, typed

PROFILES = ("full", "short", "quick")

_RECIPE_KEYS = (
    "data", "student", "teacher", "augmentation", "terms", "first_stage", "training", "seeds"
)  # fmt: skip

# What a profile may change: schedule and size. The method stays what it is, so that of the terms it is the
# layers alone, which belong to the networks.
_PROFILE_MAY = (
    "seeds", "data", "student.name", "student.options", "student.start", "augmentation", "terms",
    "first_stage.epochs", "training.epochs", "training.batch_size", "training.scheduler_options",
    "training.scheduler_step", "training.precision", "training.test_every",
)  # fmt: skip

# These describe what another key names, and go with it: the options of one network are not another's.
_BELONGS_TO = {
    "name": ("options", "size", "train_images", "normalize"),
    "optimizer": ("optimizer_options",),
    "scheduler": ("scheduler_options",),
}

Table = Mapping[str, Any]


@dataclass(frozen=True)
class Cell:
    """A recipe as its file has it: the changes to the base in their order, and its option on each axis."""

    changes: tuple[Table, ...]
    options: dict[str, str]


@dataclass(frozen=True)
class Family:
    """The contents of a family's file.

    Attributes:
        name: of the file, without ".toml".
        title: one line.
        source: the document that the experiments come from, and its address.
        base: a whole recipe.
        cells: every recipe by its name.
        profiles: for each profile but "full" its changes.
    """

    name: str
    title: str
    source: str
    base: Table
    cells: dict[str, Cell]
    profiles: dict[str, Table]

    @property
    def file(self) -> str:
        """What messages call the file."""
        return f"{self.name}.toml"

    def table(self, name: str, profile: str) -> dict[str, Any]:
        """All keys of one recipe: base, then its own changes, then the profile's.

        Args:
            name: one of `cells`.
            profile: one of `PROFILES`.

        Raises:
            ValueError: the profile changes the method.
        """
        cell = self.cells[name]
        own = reduce(merge, cell.changes, self.base)
        table = reduce(merge, self._profile_changes(cell, profile), own)
        if _without_layers(table) != _without_layers(own):
            raise ValueError(
                f"profiles.{profile} changes the terms; a profile may change their layers only, which belong "
                "to the networks."
            )
        filled: dict[str, Any] = _fill_in(table, cell.options)
        return filled

    def _profile_changes(self, cell: Cell, profile: str) -> Iterator[Table]:
        changes = self.profiles.get(profile, {})
        yield {key: value for key, value in changes.items() if key != "only"}
        for axis, options in changes.get("only", {}).items():
            if cell.options.get(axis) in options:
                yield options[cell.options[axis]]


def families() -> list[str]:
    """The names of all families: the package's, and those in the folder that KDLIB_RECIPES names."""
    return sorted(_files())


def load_family(name: str) -> Family:
    """A family of recipes.

    Raises:
        ValueError: there is no such family, or its file is not as it should be; the message says where.
    """
    paths = _files()
    if name not in paths:
        raise ValueError(f"there is no family of recipes {name!r}; {near(name, paths)}")
    try:
        contents = tomllib.loads(paths[name].read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{name}.toml is not TOML: {error}.") from error
    try:
        return _family(name, contents)
    except ValueError as error:
        raise ValueError(f"{name}.toml: {error}") from error


def merge(old: Table, new: Table) -> dict[str, Any]:
    """The old table changed by the new one: tables key by key, everything else whole.

    Where a network, a data set, an optimiser or a scheduler gives way to another, its options go with it.
    """
    merged = dict(old)
    for key, belongings in _BELONGS_TO.items():
        if key in new and key in old and new[key] != old[key]:
            for belonging in belongings:
                merged.pop(belonging, None)
    for key, value in new.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def _files() -> dict[str, Path]:
    ours = {path.stem: path for path in Path(str(files("kdlib.recipes") / "families")).glob("*.toml")}
    named = os.environ.get("KDLIB_RECIPES")
    own = {path.stem: path for path in Path(named).expanduser().glob("*.toml")} if named else {}
    for name in own:
        if name in ours:
            raise ValueError(f"{own[name]} has the name of a family of kdlib; rename it.")
    return ours | own


def _family(name: str, contents: Table) -> Family:
    check_keys(contents, ("title", "source", "seeds", "base", "singles", "grids", "profiles"), "it")
    for key in ("title", "source", "seeds", "base"):
        if key not in contents:
            raise ValueError(f"it has no {key!r}; add it.")
    title, source = (typed(contents[key], str, key) for key in ("title", "source"))
    as_seeds(contents["seeds"], "seeds")
    base = {"seeds": contents["seeds"], **as_table(contents["base"], "base")}
    check_keys(base, _RECIPE_KEYS, "base")
    cells = {
        **_singles(name, as_table(contents.get("singles", {}), "singles")),
        **_grids(name, as_table(contents.get("grids", {}), "grids")),
    }
    profiles = as_table(contents.get("profiles", {}), "profiles")
    check_keys(profiles, PROFILES[1:], "profiles")
    for profile, changes in profiles.items():
        _check_profile(f"profiles.{profile}", as_table(changes, f"profiles.{profile}"), cells)
    return Family(name, title, source, base, cells, dict(profiles))


def _singles(family: str, singles: Table) -> dict[str, Cell]:
    for name, changes in singles.items():
        check_keys(as_table(changes, f"singles.{name}"), _RECIPE_KEYS, f"singles.{name}")
    return {f"{family}/{name}": Cell((changes,), {"singles": name}) for name, changes in singles.items()}


def _grids(family: str, grids: Table) -> dict[str, Cell]:
    """Every combination of one option from each axis; a grid's own `base` comes before all of them."""
    cells = {}
    for grid, contents in grids.items():
        axes = {axis: as_table(options, f"grids.{grid}.{axis}") for axis, options in contents.items()}
        first = axes.pop("base", {})
        check_keys(first, _RECIPE_KEYS, f"grids.{grid}.base")
        for axis, options in axes.items():
            for option, changes in options.items():
                key = f"grids.{grid}.{axis}.{option}"
                check_keys(as_table(changes, key), _RECIPE_KEYS, key)
        for chosen in product(*axes.values()):
            options = dict(zip(axes, chosen, strict=True))
            changes = (first, *(axes[axis][option] for axis, option in options.items()))
            cells["/".join((family, grid, *chosen))] = Cell(changes, {"grid": grid, **options})
    return cells


def _check_profile(key: str, changes: Table, cells: dict[str, Cell]) -> None:
    _check_modest(key, {name: value for name, value in changes.items() if name != "only"})
    known: dict[str, set[str]] = {}
    for cell in cells.values():
        for axis, option in cell.options.items():
            known.setdefault(axis, set()).add(option)
    only = as_table(changes.get("only", {}), f"{key}.only")
    check_keys(only, known, f"{key}.only")
    for axis, options in only.items():
        check_keys(as_table(options, f"{key}.only.{axis}"), sorted(known[axis]), f"{key}.only.{axis}")
        for option, change in options.items():
            _check_modest(f"{key}.only.{axis}.{option}", as_table(change, f"{key}.only.{axis}.{option}"))


def _check_modest(key: str, changes: Table) -> None:
    """Raise ValueError at a change that is none of schedule or size."""
    for path in _paths(changes):
        if not any(path == may or path.startswith(f"{may}.") for may in _PROFILE_MAY):
            raise ValueError(
                f"{key} changes {path!r}; a profile may change schedule and size only: "
                f"{', '.join(_PROFILE_MAY)}."
            )


def _without_layers(table: Table) -> list[Any]:
    terms = table.get("terms")
    return [
        {key: value for key, value in term.items() if key != "layers"} if isinstance(term, Mapping) else term
        for term in (terms if isinstance(terms, list) else [])
    ]


def _paths(table: Table, before: str = "") -> Iterator[str]:
    for key, value in table.items():
        path = f"{before}{key}"
        if isinstance(value, Mapping) and path not in _PROFILE_MAY:
            yield from _paths(value, f"{path}.")
        else:
            yield path


def _fill_in(value: Any, options: Mapping[str, str]) -> Any:
    """The value with the recipe's option in place of each "{axis}"."""
    if isinstance(value, Mapping):
        return {key: _fill_in(item, options) for key, item in value.items()}
    if isinstance(value, list):
        return [_fill_in(item, options) for item in value]
    if isinstance(value, str):
        for axis, option in options.items():
            value = value.replace(f"{{{axis}}}", option)
    return value
