"""Recipes below each other: what was published of each, and what our recorded runs say."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from kdlib.experiments.index import RecordIndex
from kdlib.experiments.report.aggregate import NOTHING, Aggregate, caveats, entry_of
from kdlib.experiments.report.frame import as_frame
from kdlib.experiments.report.measurements import HEADINGS
from kdlib.experiments.report.published import PublishedCell, published, published_names
from kdlib.experiments.report.table import Table, Tabular, table
from kdlib.training.record import RunRecord

if TYPE_CHECKING:
    import pandas as pd

    from kdlib.experiments.recipes import Recipe


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
    published: tuple[tuple[str, PublishedCell], ...]
    against: str
    ours: Mapping[str, Aggregate]

    def cells(self) -> list[str]:
        """Of its line."""
        # Several tables may have one number.
        figures = dict.fromkeys(cell.in_words() for _, cell in self.published)
        ours = [entry_of(self.ours, profile) for profile in HEADINGS]
        return [self.name, "; ".join(figures) or "none", *ours, self.against]

    def row(self, profile: str) -> dict[str, Any]:
        """All numbers of a profile, unrounded; None for what is not known."""
        cells = [cell for _, cell in self.published]
        ours = self.ours.get(profile, NOTHING).as_dict()
        return {
            "recipe": self.name, "published": " ".join(str(cell.value) for cell in cells),
            "selection": " ".join(cell.selection for cell in cells),
            "tables": " ".join(name for name, _ in self.published), "against": self.against,
            "profile": profile,
            # Not what is by the rule of one published number: a recipe may have several.
            **{key: value for key, value in ours.items() if not key.startswith("selected")},
        }  # fmt: skip


@dataclass(frozen=True, repr=False)
class RecipeTable(Tabular):
    """Recipes, what was published of them, and our runs.

    Attributes:
        pattern: which recipes.
        lines: one a recipe.
        outdated: records that were left out: their recipe has changed since, or their precision is another.
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
        sentences += caveats(HEADINGS, [line.ours for line in self.lines], self.outdated)
        return " ".join(sentences)

    def table(self) -> Table:
        """The table as it is shown."""
        header = ["recipe", "published", *HEADINGS.values(), "Δ to"]
        return table(header, [line.cells() for line in self.lines], self.caption)

    def rows(self) -> list[dict[str, Any]]:
        """All numbers, unrounded, a row for each recipe and profile; plain JSON."""
        return [line.row(profile) for line in self.lines for profile in HEADINGS]

    def frame(self) -> "pd.DataFrame":
        """The rows as a pandas frame."""
        return as_frame(self.rows())

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"recipes": self.pattern, "outdated": self.outdated, "rows": self.rows()}


def recipe_table(pattern: str, live: Iterable[RunRecord] = ()) -> RecipeTable:
    """A line for each recipe: published accuracies that it reproduces, and our records of it.

    A recipe is measured against the one that a published table names for it. If none does, and the recipe is
    not itself what others are measured against there, it is the same training on the labels alone; a recipe
    for which the family has no such training is measured against nothing.

    Args:
        pattern: a name or a pattern, as for `kdlib.experiments.recipes.find_recipes`.
        live: records from elsewhere than ``data/results``, such as the quick ones of the store.

    Raises:
        ValueError: no recipe fits, or one is not as it should be.
        FileNotFoundError: the folder of the published tables is not there.
    """
    # Imported here, as in `kdlib.experiments.report.comparison`.
    from kdlib.experiments.recipes import find_recipes

    recipes = find_recipes(pattern)
    families = {recipe.among("*") for recipe in recipes}
    known = {
        profile: {each.name: each for family in families for each in find_recipes(family, profile)}
        for profile in HEADINGS
    }
    # Of a file of one's own nothing was published, and what was need not be here.
    cells, baselines = _published() if any(each.file is None for each in recipes) else ({}, {})
    against = {each.name: _baseline(each, known["full"].values(), baselines) for each in recipes}
    index = RecordIndex(live)
    lines = tuple(
        RecipeLine(name, tuple(cells.get(name, ())), other, _ours(name, other, known, index))
        for name, other in against.items()
    )
    return RecipeTable(pattern, lines, _outdated({*against, *against.values()} - {""}, known, index))


def _published() -> tuple[dict[str, list[tuple[str, PublishedCell]]], dict[str, str]]:
    """Published accuracies by recipe, with the names of their tables; and by recipe its baseline there."""
    cells: dict[str, list[tuple[str, PublishedCell]]] = {}
    baselines: dict[str, str] = {}
    for name in published_names():
        source = published(name)
        for cell in source.cells:
            if cell.recipe and cell.metric == "accuracy" and cell.value is not None:
                cells.setdefault(cell.recipe, []).append((name, cell))
                if other := source.baseline_of(cell):
                    baselines.setdefault(cell.recipe, other)
    return cells, baselines


def _baseline(recipe: "Recipe", known: Iterable["Recipe"], baselines: Mapping[str, str]) -> str:
    """The name of the recipe that this one is measured against; "" for none."""
    if recipe.name in baselines:
        return baselines[recipe.name]
    if recipe.name in baselines.values() or _is_labels_alone(recipe):
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
    name: str, against: str, known: Mapping[str, Mapping[str, "Recipe"]], index: RecordIndex
) -> dict[str, Aggregate]:
    """For each profile with runs of a recipe, what they say."""
    found = {}
    for profile, recipes in known.items():
        if runs := index.runs(recipes[name]):
            found[profile] = Aggregate.of("accuracy", runs, index.runs(recipes[against]) if against else {})
    return found


def _outdated(names: Iterable[str], known: Mapping[str, Mapping[str, "Recipe"]], index: RecordIndex) -> int:
    """How many records have the name, and not the content, of one of these recipes."""
    files: set[str] = set()
    for name in names:
        for recipes in known.values():
            files |= index.outdated(recipes[name], [name])
    return len(files)
