"""`find_recipes`: recipes by name or pattern, with their teachers and whatever they start from."""

import tomllib
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from kdlib.experiments.recipes.family import (
    BELONGS_TO,
    PROFILES,
    Family,
    families,
    in_file,
    is_own,
    load_family,
    merge,
    with_whole_path,
)
from kdlib.experiments.recipes.parts import RecipeParts, read_parts
from kdlib.experiments.recipes.reading import read
from kdlib.experiments.recipes.schema import IMAGENET, Needed, Recipe
from kdlib.names import near
from kdlib.paths import given_path

# What the pictures are: a teacher has to be shown the same. How many of them a run trains on is its own.
_PICTURES = ("data.name", "data.size", "data.division", "data.normalize")

# The settings of the runs that a recipe needs stand behind these.
_NEEDED = ("teacher", "start")


def find_recipes(
    pattern: str, profile: str = "full", settings: Mapping[str, str] | None = None
) -> list[Recipe]:
    """The recipes whose names fit a pattern, in the order of their files.

    .. code-block:: python

        find_recipes("cifar/methods/cifar10/20-20/*", "short", {"training.epochs": "3"})

    Args:
        pattern: a name, or one with ``*``, ``?`` and ``[…]`` as a shell has them; ``*`` goes across "/". For
            a file that lies anywhere, "my.toml" are all its recipes, and "my.toml:grid/*" those called
            "my/grid/*".
        profile: "full" is what the source did; "short" and "quick" have a smaller schedule and size.
        settings: changes by hand, a key such as "training.epochs" or "terms.1.temperature" with its value as
            TOML would have it. They hold for the recipes found and not for their teachers; but the name,
            size, division and normalisation of the data do for all runs that these need on the same data
            set. "teacher.training.epochs" is the teacher's own, and "start.training.epochs" that of the run
            with the first weights.

    Raises:
        FileNotFoundError: the pattern names a file that is not there.
        ValueError: nothing fits, the profile is unknown, or a recipe is not as it should be; the message
            says in which file, at which key, and what to do.
    """
    if profile not in PROFILES:
        raise ValueError(f"there is no profile {profile!r}; {near(profile, PROFILES)}")
    file, in_it = in_file(pattern)
    changes = {key: _value(text) for key, text in (settings or {}).items()}
    names = _matching(pattern) if file is None else _matching_in(file, in_it)
    resolver = _Resolver(profile, file)
    return [resolver.resolve(name, changes) for name in names]


def located(settings: Mapping[str, str]) -> dict[str, str]:
    """The settings for another process: folders of images with their whole path."""
    return {key: _located(key, text) for key, text in settings.items()}


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
        file = fields.get("file")
        resolver = _Resolver(fields["profile"], Path(file) if file and Path(file).is_file() else None)
        resolver.import_modules(fields["name"])
        runs: dict[str, Any] = {}
        for key in _NEEDED:
            if run := fields[key]:
                runs[key] = Needed(resolver.resolve(run["recipe"], run.get("settings")), run["seed"])
        parts = ("seeds", "data", "student", "training", "augmentation", "terms", "first_stage")
        return Recipe(
            name=fields["name"],
            profile=fields["profile"],
            settings=fields["settings"],
            file=file,
            **runs,
            **read_parts(read(RecipeParts, {part: fields[part] for part in parts}, "")),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"the recorded recipe of {name} lacks {error}; run the recipe again.") from error
    except ValueError as error:
        raise ValueError(f"the recorded recipe of {name} cannot be run any more: {error}") from error


def _matching_in(file: Path, pattern: str) -> list[str]:
    """Names of recipes in a file, by the part of them that is behind the family's."""
    names = {name.partition("/")[2]: name for name in load_family(file.stem, file).cells}
    if not names:
        raise ValueError(f"{file} has no recipe; add one, such as [singles.mine].")
    matching = [name for rest, name in names.items() if fnmatchcase(rest, pattern)]
    if not matching:
        raise ValueError(f"{file} has no recipe called {pattern!r}; {near(pattern, names)}")
    return matching


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
    """Recipes of one profile, each resolved once.

    Args:
        profile: of them.
        file: a family that has no name elsewhere.
    """

    def __init__(self, profile: str, file: Path | None = None) -> None:
        self.profile = profile
        self.file = file
        self.families: dict[str, Family] = {}
        self.resolved: dict[str, Recipe] = {}
        self.under_way: list[str] = []

    def import_modules(self, name: str) -> None:
        """Of the family of this recipe, which it may have terms from."""
        family = name.partition("/")[0]
        if is_own(family, self.file):
            self._load(family)

    def resolve(self, name: str, settings: Mapping[str, Any] | None = None) -> Recipe:
        """The recipe of this name, with these changes by hand."""
        if not settings and name in self.resolved:
            return self.resolved[name]
        if name in self.under_way:
            circle = " → ".join([*self.under_way[self.under_way.index(name) :], name])
            raise ValueError(f"teachers go round in a circle, {circle}; give one of them no teacher.")
        family = self._family(name)
        self.under_way.append(name)
        try:
            recipe = self._recipe(name, family.table(name, self.profile), settings or {})
        except _PlacedError:  # of a teacher, which is the one to mend
            raise
        except ValueError as error:
            raise _PlacedError(f"{family.name}.toml, {name} ({self.profile}): {error}") from error
        finally:
            self.under_way.pop()
        if not settings:
            self.resolved[name] = recipe
        return recipe

    def _recipe(self, name: str, table: Mapping[str, Any], settings: Mapping[str, Any]) -> Recipe:
        of_needed = [key for key in settings if key.partition(".")[0] in _NEEDED and "." in key]
        own = [key for key in settings if key not in of_needed]
        new = table
        # Names first: what belongs to one would else go with the old.
        for key in sorted(own, key=lambda key: key.rpartition(".")[2] not in BELONGS_TO):
            new = _changed(new, key.split("."), settings[key], key)
        new = with_whole_path(new, Path.cwd())
        given = read(RecipeParts, new, "")
        parts = read_parts(given)
        start = "" if parts["student"].start == IMAGENET else parts["student"].start
        for key, there in (("teacher", given.teacher), ("start", start)):
            for each in of_needed:
                if each.startswith(f"{key}.") and not there:
                    raise ValueError(f"{each} is set, and there is no {key}; leave it out.")
        recipe = Recipe(
            name=name,
            profile=self.profile,
            teacher=self._run(given.teacher, "teacher", table, settings),
            start=self._run(start, "student.start", table, settings),
            settings=settings,
            file=str(self.file) if self._is_in_file(name) else None,
            **parts,
        )
        _check_teacher(recipe)
        return recipe

    def _run(
        self, text: str, key: str, table: Mapping[str, Any], settings: Mapping[str, Any]
    ) -> Needed | None:
        """The run that a recipe names at this key, with those of the recipe's settings that are for it."""
        if not text:
            return None
        name, _, seed = text.rpartition("@")
        if not name or not (seed.isdecimal() or seed == "seed"):
            raise ValueError(
                f'{key} is {text!r}; write a recipe and a seed, "family/name@100", or "family/name@seed" for '
                "the seed of the run itself."
            )
        passed: dict[str, Any] = {}
        pictures = {each: settings[each] for each in _PICTURES if each in settings}
        if pictures and _images(self._family(name).table(name, self.profile)) == _images(table):
            passed = pictures
        before = f"{key.rpartition('.')[2]}."
        passed |= {
            each.removeprefix(before): value for each, value in settings.items() if each.startswith(before)
        }
        return Needed(self.resolve(name, passed), None if seed == "seed" else int(seed))

    def _family(self, name: str) -> Family:
        family = self._load(name.partition("/")[0])
        if name not in family.cells:
            raise ValueError(f"no recipe is called {name!r}; {near(name, family.cells)}")
        return family

    def _load(self, name: str) -> Family:
        if name not in self.families:
            self.families[name] = load_family(name, self.file)
        return self.families[name]

    def _is_in_file(self, name: str) -> bool:
        """Whether it is the file alone that has this recipe's family, which may be the course's own."""
        family = name.partition("/")[0]
        return self.file is not None and family == self.file.stem and is_own(family, self.file)


def _check_teacher(recipe: Recipe) -> None:
    stages = [*recipe.terms, *(recipe.first_stage.terms if recipe.first_stage else ())]
    taught = [term.kind for term in stages if term.build().needs_teacher]
    if taught and recipe.teacher is None:
        raise ValueError(f'terms has {taught[0]}, which needs a teacher; write teacher = "recipe@seed".')
    if recipe.teacher is not None and not taught:
        raise ValueError(
            f'teacher is "{recipe.teacher}", and no term listens to it; write teacher = "" or add a term.'
        )


def _images(table: Mapping[str, Any]) -> Any:
    """Which data set a recipe's table has, of whatever size."""
    data = table.get("data")
    return data.get("name") if isinstance(data, Mapping) else None


def _located(key: str, text: str) -> str:
    value = _value(text)
    if not key.endswith("data.name") or not isinstance(value, str) or not value.startswith("folder:"):
        return text
    return f"folder:{given_path(value.removeprefix('folder:'), 'folder').absolute()}"


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
