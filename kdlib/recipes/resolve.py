"""`find_recipes`: recipes by name or pattern, with their teachers and whatever they start from."""

import tomllib
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from kdlib.data import Augmentation
from kdlib.recipes.checks import build_transform, picture_size
from kdlib.recipes.family import PROFILES, Family, families, load_family, merge
from kdlib.recipes.reading import as_list, as_seeds, as_table, check_keys, check_no_dates, near, read, typed
from kdlib.recipes.schema import (
    IMAGENET,
    DataSpec,
    NetworkSpec,
    Recipe,
    RunName,
    Stage,
    TermSpec,
    TrainingSpec,
)


def find_recipes(
    pattern: str, profile: str = "full", settings: Mapping[str, str] | None = None
) -> list[Recipe]:
    """The recipes whose names fit a pattern, in the order of their files.

    .. code-block:: python

        find_recipes("cifar/methods/cifar10/20-20/*", "short", {"training.epochs": "3"})

    Args:
        pattern: a name, or one with ``*``, ``?`` and ``[…]`` as a shell has them; ``*`` goes across "/".
        profile: "full" is what the source did; "short" and "quick" have a smaller schedule and size.
        settings: changes by hand, a key such as "training.epochs" or "terms.1.temperature" with its value as
            TOML would have it. They hold for the recipes found and not for their teachers.

    Raises:
        ValueError: nothing fits, the profile is unknown, or a recipe is not as it should be; the message
            says in which file, at which key, and what to do.
    """
    if profile not in PROFILES:
        raise ValueError(f"there is no profile {profile!r}; {near(profile, PROFILES)}")
    resolver = _Resolver(profile)
    return [resolver.resolve(name, settings or {}) for name in _matching(pattern)]


def recorded_recipe(fields: Mapping[str, Any]) -> Recipe:
    """The recipe that a record was made with, whatever the recipe of that name has become.

    Its teacher, and the run that it starts from, are today's of their names: where these have changed, the
    recipe's digest is another than the recorded one.

    Args:
        fields: as `Recipe.as_dict` gave them to the record.

    Raises:
        ValueError: they make no recipe of this version of kdlib; the message names the recipe.
    """
    name = fields.get("name")
    try:
        resolver = _Resolver(fields["profile"])
        runs = {
            key: fields[key] and RunName(resolver.resolve(fields[key]["recipe"]), fields[key]["seed"])
            for key in ("teacher", "start")
        }
        return Recipe(
            name=fields["name"],
            profile=fields["profile"],
            seeds=tuple(fields["seeds"]),
            data=read(DataSpec, fields["data"], "data"),
            student=read(NetworkSpec, fields["student"], "student"),
            training=read(TrainingSpec, fields["training"], "training"),
            augmentation=_augmentation(fields["augmentation"], None),
            terms=_terms(fields["terms"], "terms"),
            first_stage=_first_stage(fields["first_stage"]),
            settings=fields["settings"],
            **runs,
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"the recorded recipe of {name} lacks {error}; run the recipe again.") from error
    except ValueError as error:
        raise ValueError(f"the recorded recipe of {name} cannot be run any more: {error}") from error


def _matching(pattern: str) -> list[str]:
    family = pattern.partition("/")[0]
    wanted = [name for name in families() if fnmatchcase(name, family)]
    if not wanted:
        raise ValueError(f"there is no family of recipes {family!r}; {near(family, families())}")
    names = [name for found in wanted for name in load_family(found).cells]
    matching = [name for name in names if fnmatchcase(name, pattern)]
    if not matching:
        raise ValueError(f"no recipe is called {pattern!r}; {near(pattern, names)} `kd list` shows them all.")
    return matching


class _PlacedError(ValueError):
    """An error whose message names the recipe already."""


class _Resolver:
    """Recipes of one profile, each resolved once."""

    def __init__(self, profile: str) -> None:
        self.profile = profile
        self.families: dict[str, Family] = {}
        self.resolved: dict[str, Recipe] = {}
        self.under_way: list[str] = []

    def resolve(self, name: str, settings: Mapping[str, str] | None = None) -> Recipe:
        """The recipe of this name, with these changes by hand."""
        if not settings and name in self.resolved:
            return self.resolved[name]
        if name in self.under_way:
            circle = " → ".join([*self.under_way[self.under_way.index(name) :], name])
            raise ValueError(f"teachers go round in a circle, {circle}; give one of them no teacher.")
        family = self._family(name)
        self.under_way.append(name)
        try:
            table = family.table(name, self.profile)
            changes = {key: _value(text) for key, text in (settings or {}).items()}
            for key, value in changes.items():
                table = _changed(table, key.split("."), value, key)
            recipe = self._recipe(name, table, changes)
        except _PlacedError:  # of a teacher, which is the one to mend
            raise
        except ValueError as error:
            raise _PlacedError(f"{family.file}, {name} ({self.profile}): {error}") from error
        finally:
            self.under_way.pop()
        if not settings:
            self.resolved[name] = recipe
        return recipe

    def _recipe(self, name: str, table: Mapping[str, Any], settings: Mapping[str, Any]) -> Recipe:
        parts = ("data", "student", "teacher", "augmentation", "terms", "first_stage", "training", "seeds")
        check_keys(table, parts, "the recipe")
        for part in parts:
            check_no_dates(table.get(part), part)
        for part in ("data", "student", "terms", "training"):
            if part not in table:
                raise ValueError(f"it has no {part!r}; add it.")
        data = read(DataSpec, table["data"], "data")
        student = read(NetworkSpec, table["student"], "student")
        recipe = Recipe(
            name=name,
            profile=self.profile,
            seeds=as_seeds(table["seeds"], "seeds"),
            data=data,
            student=student,
            training=read(TrainingSpec, table["training"], "training"),
            augmentation=_augmentation(table.get("augmentation", {}), picture_size(data.name, data.size)),
            terms=_terms(table["terms"], "terms"),
            first_stage=_first_stage(table.get("first_stage")),
            teacher=self._run(typed(table.get("teacher", ""), str, "teacher"), "teacher"),
            start=None if student.start == IMAGENET else self._run(student.start, "student.start"),
            settings=settings,
        )
        _check_teacher(recipe)
        return recipe

    def _run(self, text: str, key: str) -> RunName | None:
        if not text:
            return None
        name, _, seed = text.rpartition("@")
        if not name or not seed.isdecimal():
            raise ValueError(f'{key} is {text!r}; write a recipe and a seed, "family/name@100".')
        return RunName(self.resolve(name), int(seed))

    def _family(self, name: str) -> Family:
        family = name.partition("/")[0]
        if family not in self.families:
            self.families[family] = load_family(family)
        cells = self.families[family].cells
        if name not in cells:
            raise ValueError(f"no recipe is called {name!r}; {near(name, cells)}")
        return self.families[family]


def _augmentation(table: object, size: int | None) -> Augmentation:
    parts = as_table(table, "augmentation")
    check_keys(parts, ("train", "test"), "augmentation")
    steps = {
        part: tuple(
            build_transform(as_table(step, f"augmentation.{part}"), size, f"augmentation.{part}")
            for step in as_list(parts[part], f"augmentation.{part}")
        )
        for part in parts
    }
    return Augmentation(**steps)


def _terms(value: object, key: str) -> tuple[TermSpec, ...]:
    tables = [dict(as_table(term, key)) for term in as_list(value, key)]
    if not tables:
        raise ValueError(f'{key} is empty; write at least one, such as {{kind = "HardLabels"}}.')
    return tuple(TermSpec(str(table.pop("kind", "")), table) for table in tables)


def _first_stage(value: object) -> Stage | None:
    if value is None:
        return None
    table = as_table(value, "first_stage")
    check_keys(table, ("terms", "epochs"), "first_stage")
    terms = _terms(table.get("terms", []), "first_stage.terms")
    return Stage(terms, typed(table.get("epochs"), int, "first_stage.epochs"))


def _check_teacher(recipe: Recipe) -> None:
    stages = [*recipe.terms, *(recipe.first_stage.terms if recipe.first_stage else ())]
    taught = [term.kind for term in stages if term.build().needs_teacher]
    if taught and recipe.teacher is None:
        raise ValueError(f'terms has {taught[0]}, which needs a teacher; write teacher = "recipe@seed".')
    if recipe.teacher is not None and not taught:
        raise ValueError(
            f'teacher is "{recipe.teacher}", and no term listens to it; write teacher = "" or add a term.'
        )


def _value(text: str) -> Any:
    """A value as TOML would have it, or the text itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _changed(table: Any, path: list[str], value: Any, key: str) -> Any:
    """The table with another value at a path; a number in the path counts the items of a list from 0."""
    first, *rest = path
    if isinstance(table, list):
        if not first.isdecimal() or int(first) >= len(table):
            raise ValueError(f"{key} leads nowhere; the list has {len(table)} items, counted from 0.")
        new = _changed(table[int(first)], rest, value, key) if rest else value
        return [new if place == int(first) else item for place, item in enumerate(table)]
    if not isinstance(table, Mapping):
        raise ValueError(f"{key} leads nowhere; {first!r} is asked of {table!r}, which has no keys.")
    if not rest:
        return merge(table, {first: value})
    return {**table, first: _changed(table.get(first, {}), rest, value, key)}
