"""A family of recipes: one TOML file, in which every recipe is a few changes to one base."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import reduce
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import Any

from kdlib.data.load import is_own_data
from kdlib.experiments.recipes.parts import RECIPE_KEYS
from kdlib.experiments.recipes.reading import as_seeds, as_table, read
from kdlib.names import near
from kdlib.own import import_modules
from kdlib.paths import folder_from, given_path

PROFILES = ("full", "short", "quick")

# What a profile may change: schedule and size. The method stays what it is, so that of the terms it is the
# layers alone, which belong to the networks.
_PROFILE_MAY = (
    "seeds", "data", "student.name", "student.options", "student.start", "student.size", "augmentation",
    "terms", "first_stage.epochs", "training.epochs", "training.batch_size", "training.scheduler_options",
    "training.scheduler_step", "training.precision", "training.test_every",
)  # fmt: skip

# These describe what another key names, and go with it: the options of one network are not another's.
BELONGS_TO = {
    "name": ("options", "size", "train_images", "draw", "normalize", "batch_norm"),
    "optimizer": ("optimizer_options",),
    "scheduler": ("scheduler_options",),
}

Table = Mapping[str, Any]

_FAMILIES = Path(str(files("kdlib.experiments.recipes") / "families"))


@dataclass(frozen=True)
class _Contents:
    """A family's file.

    Attributes:
        title: one line, for its readers.
        source: the document that the experiments come from, and its address; for its readers, too.
        modules: what is imported first, because it registers terms, networks or data sets.
    """

    title: str
    source: str
    seeds: list[int]
    base: dict[str, Any]
    modules: list[str] = field(default_factory=list)
    singles: dict[str, Any] = field(default_factory=dict)
    grids: dict[str, dict[str, Any]] = field(default_factory=dict)
    profiles: dict[str, Any] = field(default_factory=dict)


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
        folder: of the file.
        base: a whole recipe.
        cells: every recipe by its name.
        profiles: for each profile but "full" its changes.
    """

    name: str
    folder: Path
    base: Table
    cells: dict[str, Cell]
    profiles: dict[str, Table]

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
        return with_whole_path(filled, self.folder)

    def _profile_changes(self, cell: Cell, profile: str) -> Iterator[Table]:
        changes = self.profiles.get(profile, {})
        yield {key: value for key, value in changes.items() if key != "only"}
        for axis, options in changes.get("only", {}).items():
            if cell.options.get(axis) in options:
                yield options[cell.options[axis]]


def families() -> list[str]:
    """The names of all families: the package's, and those in the folder that KDLIB_RECIPES names."""
    return sorted(_files())


def in_file(pattern: str) -> tuple[Path | None, str]:
    """The file that a pattern of recipes names, "FILE.toml" or "FILE.toml:PATTERN", and the pattern in it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: as `given_path`.
    """
    found = re.fullmatch(r"(.+?\.toml)(?::(.+))?", pattern, re.DOTALL)
    if found is None:
        return None, pattern
    file = given_path(found[1], "file").absolute()
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {found[1]!r}; give one of recipes, or a recipe's name.")
    return file, found[2] or "*"


def load_family(name: str, file: Path | None = None) -> Family:
    """A family of recipes.

    Args:
        name: of the family.
        file: one that is not among `families`, which the name may be of.

    Raises:
        ValueError: there is no such family, or its file is not as it should be; the message says where.
    """
    paths = _files(file)
    if name not in paths:
        raise ValueError(f"there is no family of recipes {name!r}; {near(name, paths)}")
    try:
        contents = tomllib.loads(paths[name].read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{name}.toml is not TOML: {error}.") from error
    try:
        return _family(name, paths[name].parent.absolute(), contents)
    except ValueError as error:
        raise ValueError(f"{name}.toml: {error}") from error


def merge(old: Table, new: Table) -> dict[str, Any]:
    """The old table changed by the new one: tables key by key, everything else whole.

    Where a network, a data set, an optimiser or a scheduler gives way to another, its options go with it.
    """
    merged = dict(old)
    for key, belongings in BELONGS_TO.items():
        if key in new and key in old and new[key] != old[key]:
            for belonging in belongings:
                merged.pop(belonging, None)
    if is_own_data(str(new.get("name", ""))):
        merged.pop("division", None)  # the published one is of a published data set
    for key, value in new.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def is_own(name: str, file: Path | None = None) -> bool:
    """Whether a family is the user's, so that it may have modules to import; `file` as for `load_family`."""
    paths = _files(file)
    return name in paths and paths[name].parent != _FAMILIES


def with_whole_path(table: Table, folder: Path) -> dict[str, Any]:
    """A recipe whose images, if they are a folder's, are those of this path, wherever it is run."""
    data = table.get("data")
    name = data.get("name") if isinstance(data, Mapping) else None
    kind, _, path = name.partition(":") if isinstance(name, str) else ("", "", "")
    if kind != "folder" or not path:
        return dict(table)
    return {**table, "data": {**table["data"], "name": f"folder:{folder / given_path(path, 'folder')}"}}


def _files(file: Path | None = None) -> dict[str, Path]:
    ours = {path.stem: path for path in _FAMILIES.glob("*.toml")}
    named = folder_from("KDLIB_RECIPES")
    own = {path.stem: path for path in named.glob("*.toml")} if named else {}
    if file is not None:
        own[file.stem] = file
    for name in own:
        if name in ours and not own[name].samefile(ours[name]):
            raise ValueError(f"{own[name]} has the name of a family of kdlib; rename it.")
    return own | ours


def _family(name: str, folder: Path, table: object) -> Family:
    contents = read(_Contents, table, "")
    import_modules(contents.modules, folder)
    as_seeds(contents.seeds, "seeds")
    base = {"seeds": contents.seeds, **as_table(contents.base, "base", RECIPE_KEYS)}
    cells = {**_singles(name, contents.singles), **_grids(name, contents.grids)}
    profiles = as_table(contents.profiles, "profiles", PROFILES[1:])
    for profile, changes in profiles.items():
        _check_profile(f"profiles.{profile}", changes, cells)
    return Family(name, folder, base, cells, dict(profiles))


def _singles(family: str, singles: Table) -> dict[str, Cell]:
    return {
        f"{family}/{name}": Cell((as_table(changes, f"singles.{name}", RECIPE_KEYS),), {"singles": name})
        for name, changes in singles.items()
    }


def _grids(family: str, grids: Mapping[str, Table]) -> dict[str, Cell]:
    """Every combination of one option from each axis; a grid's own `base` comes before all of them."""
    cells = {}
    for grid, contents in grids.items():
        axes = dict(contents)
        first = as_table(axes.pop("base", {}), f"grids.{grid}.base", RECIPE_KEYS)
        for axis, options in axes.items():
            for option, changes in as_table(options, f"grids.{grid}.{axis}").items():
                as_table(changes, f"grids.{grid}.{axis}.{option}", RECIPE_KEYS)
        for chosen in product(*axes.values()):
            options = dict(zip(axes, chosen, strict=True))
            changes = (first, *(axes[axis][option] for axis, option in options.items()))
            cells["/".join((family, grid, *chosen))] = Cell(changes, {"grid": grid, **options})
    return cells


def _check_profile(key: str, changes: object, cells: dict[str, Cell]) -> None:
    table = dict(as_table(changes, key))
    only = table.pop("only", {})
    _check_modest(key, table)
    known: dict[str, set[str]] = {}
    for cell in cells.values():
        for axis, option in cell.options.items():
            known.setdefault(axis, set()).add(option)
    for axis, options in as_table(only, f"{key}.only", known).items():
        for option, change in as_table(options, f"{key}.only.{axis}", sorted(known[axis])).items():
            _check_modest(f"{key}.only.{axis}.{option}", as_table(change, f"{key}.only.{axis}.{option}"))


def _check_modest(key: str, changes: Table) -> None:
    """Raise ValueError at a change that is none of schedule or size."""
    for path in _paths(changes):
        if path not in _PROFILE_MAY:
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
