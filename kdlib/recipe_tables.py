"""Recipes below each other: what was published of each, and what our recorded runs say."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from kdlib.measurements import NOT_RUN, figure, interval
from kdlib.published import Cell, published, published_names
from kdlib.results import RunRecord, Shelf, Table, table
from kdlib.tables import (
    HEADINGS,
    NOT_MEASURED,
    Line,
    Ours,
    as_latex,
    as_markdown,
    measured,
    reservations,
    rival,
)

if TYPE_CHECKING:
    from kdlib.recipes import Recipe


@dataclass(frozen=True)
class RecipeLine:
    """A recipe's accuracy: published, and ours for each profile in which it was run.

    Attributes:
        name: of the recipe.
        published: accuracies that the recipe reproduces, by the name of their table.
        against: the recipe that it is measured against; "" for none.
        ours: after the last epoch.
    """

    name: str
    published: tuple[tuple[str, Cell], ...]
    against: str
    ours: Mapping[str, Ours]

    def row(self) -> list[str]:
        """The cells of its line."""
        # Several tables may have one number.
        figures = dict.fromkeys(_printed(cell) for _, cell in self.published)
        ours = [self._figures(profile) for profile in HEADINGS]
        return [self.name, "; ".join(figures) or "none", *ours, self.against]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON, with None for a profile in which nothing was run."""
        return {
            "recipe": self.name,
            "against": self.against,
            "published": [{"table": name, **asdict(cell)} for name, cell in self.published],
            "ours": {
                profile: _as_dict(self.ours[profile]) if profile in self.ours else None
                for profile in HEADINGS
            },
        }

    def csv_lines(self) -> Iterator[list[object]]:
        """One for each profile."""
        cells = [cell for _, cell in self.published]
        known = [
            self.name, " ".join(str(cell.value) for cell in cells),
            " ".join(cell.selection for cell in cells), self.against,
        ]  # fmt: skip
        for profile in HEADINGS:
            ours = self.ours.get(profile)
            if ours is None or ours.last is None:
                yield [*known, profile, self._figures(profile), *[""] * 6]
            else:
                yield [*known, profile, *(_as_dict(ours) | {"records": " ".join(ours.files)}).values()]

    def _figures(self, profile: str) -> str:
        ours = self.ours.get(profile)
        if ours is None or ours.last is None:
            return NOT_RUN if ours is None else NOT_MEASURED
        difference = f"; Δ {interval(ours.difference, 'accuracy')}" if ours.difference else ""
        return figure(ours.last, "accuracy") + difference


@dataclass(frozen=True)
class RecipeTable:
    """Recipes, what was published of them, and our runs.

    Attributes:
        pattern: which recipes.
        lines: one a recipe.
        outdated: records that were left out because their recipe has changed since.
    """

    pattern: str
    lines: tuple[RecipeLine, ...]
    outdated: int = 0

    @property
    def caption(self) -> str:
        """Which recipes these are, and how to read the numbers."""
        sentences = [
            f"Recipes {self.pattern}: accuracy on the test images in per cent.",
            "Ours: the last epoch, mean ± standard deviation (seeds).",
        ]
        if any(line.against for line in self.lines):
            sentences.append(
                "Δ, with a 95 % interval over the same seeds, is to the recipe in the last column: that of "
                "the published table, or else the same training on the labels alone."
            )
        sentences += reservations(HEADINGS, [line.ours for line in self.lines], self.outdated)
        return " ".join(sentences)

    def table(self) -> Table:
        """The table as text."""
        header = ["recipe", "published", *HEADINGS.values(), "Δ to"]
        return table(header, [line.row() for line in self.lines], self.caption)

    def to_markdown(self) -> str:
        """A table for a Markdown page."""
        return as_markdown(self.table())

    def to_csv(self) -> str:
        """All numbers, unrounded: a line for each recipe and profile."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(_CSV_HEADER)
        for line in self.lines:
            writer.writerows(line.csv_lines())
        return out.getvalue()

    def to_latex(self) -> str:
        """A table for LaTeX, with the rules of the package booktabs."""
        return as_latex(self.table())

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON: all numbers, unrounded."""
        lines = [line.as_dict() for line in self.lines]
        return {"recipes": self.pattern, "outdated": self.outdated, "lines": lines}

    def __repr__(self) -> str:
        return repr(self.table())


def recipe_table(pattern: str, live: Iterable[RunRecord] = ()) -> RecipeTable:
    """A line for each recipe: published accuracies that it reproduces, and our records of it.

    A recipe is measured against the one that a published table names for it. If none does, and the recipe is
    not itself what others are measured against there, it is the same training on the labels alone; a recipe
    for which the family has no such training is measured against nothing.

    Args:
        pattern: a name or a pattern, as for `kdlib.recipes.find_recipes`.
        live: records from elsewhere than ``data/results``, such as the quick ones of the store.

    Raises:
        ValueError: no recipe fits, or one is not as it should be.
        FileNotFoundError: the folder of the published tables is not there.
    """
    # Imported here, as in `kdlib.tables`.
    from kdlib.recipes import find_recipes

    recipes = find_recipes(pattern)
    families = {recipe.family for recipe in recipes}
    known = {
        profile: {each.name: each for name in families for each in find_recipes(f"{name}/*", profile)}
        for profile in HEADINGS
    }
    cells, rivals = _published()
    against = {each.name: _baseline(each, known["full"].values(), rivals) for each in recipes}
    shelf = Shelf(live)
    lines = tuple(
        RecipeLine(name, tuple(cells.get(name, ())), other, _ours(name, other, known, shelf))
        for name, other in against.items()
    )
    return RecipeTable(pattern, lines, _outdated({*against, *against.values()} - {""}, known, shelf))


def _published() -> tuple[dict[str, list[tuple[str, Cell]]], dict[str, str]]:
    """Published accuracies by recipe, with the names of their tables; and by recipe its rival there."""
    cells: dict[str, list[tuple[str, Cell]]] = {}
    rivals: dict[str, str] = {}
    for name in published_names():
        source = published(name)
        for cell in source.cells:
            if cell.recipe and cell.metric == "accuracy" and cell.value is not None:
                cells.setdefault(cell.recipe, []).append((name, cell))
                if other := rival(cell, source):
                    rivals.setdefault(cell.recipe, other)
    return cells, rivals


def _baseline(recipe: "Recipe", known: Iterable["Recipe"], rivals: Mapping[str, str]) -> str:
    """The name of the recipe that this one is measured against; "" for none."""
    if recipe.name in rivals:
        return rivals[recipe.name]
    if recipe.name in rivals.values() or _is_labels_alone(recipe):
        return ""
    setting = _setting(recipe)
    alike = [
        other
        for other in known
        if other.family == recipe.family
        and _is_labels_alone(other)
        and _setting(other, with_schedule=recipe.first_stage is None) == setting
    ]
    # Several names may have that content: the one of the same grid reads best.
    return max((other.name for other in alike), key=lambda name: _shared(name, recipe.name), default="")


def _is_labels_alone(recipe: "Recipe") -> bool:
    # A term may be there without weight, so that its loss is on record.
    kinds = {term.kind for term in recipe.terms if term.options.get("weight") != 0}
    return kinds == {"HardLabels"} and recipe.first_stage is None


def _setting(recipe: "Recipe", with_schedule: bool = True) -> tuple[Any, ...]:
    """All but the loss and the teacher.

    Of two stages the epochs count together, and the milestones are not those of a training in one stage.
    """
    training = asdict(recipe.training)
    if recipe.first_stage is not None:
        training["epochs"] += recipe.first_stage.epochs
    if recipe.first_stage is not None or not with_schedule:
        del training["scheduler_options"]
    return recipe.data, recipe.student, recipe.start, recipe.augmentation, training


def _shared(name: str, other: str) -> int:
    """How many parts two names begin with in common."""
    pairs = zip(name.split("/"), other.split("/"), strict=False)
    return len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))


def _ours(
    name: str, against: str, known: Mapping[str, Mapping[str, "Recipe"]], shelf: Shelf
) -> dict[str, Ours]:
    """For each profile with runs of a recipe, what they say."""
    found = {}
    for profile, recipes in known.items():
        if runs := shelf.runs(recipes[name]):
            found[profile] = measured("accuracy", runs, shelf.runs(recipes[against]) if against else {})
    return found


def _outdated(names: Iterable[str], known: Mapping[str, Mapping[str, "Recipe"]], shelf: Shelf) -> int:
    """How many records have the name, and not the content, of one of these recipes."""
    files: set[str] = set()
    for name in names:
        for recipes in known.values():
            files |= shelf.outdated(recipes[name], [name])
    return len(files)


def _printed(cell: Cell) -> str:
    """A published number, and how it was chosen: a recipe may have the last epoch and the best."""
    chosen = ["last epoch"] if cell.selection == "last" else []
    return ", ".join([*Line("", cell, {}).printed(), *chosen])


_CSV_HEADER = (
    "recipe", "published", "selection", "against", "profile", "mean", "sd", "n", "difference",
    "difference_low", "difference_high", "records",
)  # fmt: skip


def _as_dict(ours: Ours) -> dict[str, Any]:
    """Without what is by the rule of one published number: a recipe may have several."""
    return {key: value for key, value in ours.as_dict().items() if not key.startswith("selected")}
