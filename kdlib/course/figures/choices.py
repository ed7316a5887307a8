"""What the sweep explorer lets a reader choose from: recipes, their runs, curves and figures."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from kdlib.experiments.index import RecordIndex
from kdlib.experiments.report.measurements import NOT_RUN, PROFILES, figure, interval, last_epoch
from kdlib.experiments.statistics import Summary, paired_difference
from kdlib.training.record import RunRecord

if TYPE_CHECKING:
    from kdlib.experiments.recipes import Recipe
    from kdlib.experiments.report.published import PublishedCell

# More points than this cannot be told from each other at the width of a page.
MOST_POINTS = 40


@dataclass(frozen=True)
class Metric:
    """Something that records have epoch by epoch.

    Attributes:
        key: in `RunRecord.epochs`.
        name: for the reader.
        published: what tables of published numbers call it; "" where they have no such thing.
        note: what a reader should know before comparing.
    """

    key: str
    name: str
    published: str = ""
    note: str = ""

    def values(self, runs: Mapping[int, RunRecord]) -> dict[int, float]:
        """After the last epoch, by seed, of the runs that measured it."""
        found = {seed: last_epoch(run, self.published, self.key) for seed, run in runs.items()}
        return {seed: value for seed, value in found.items() if value is not None}


_OWN_TERMS = "Every method's own loss, with all its terms: only like losses can be compared."
METRICS = (
    Metric("test_accuracy", "test accuracy", "accuracy"),
    Metric("test_loss", "loss on test images", "loss", _OWN_TERMS),
    Metric("test_logit_difference", "logit difference to the teacher, test images", "logit difference"),
    Metric("loss", "training loss", note=_OWN_TERMS),
)


@dataclass
class Method:
    """One line of a comparison: a recipe, under all its names, and its runs by seed."""

    recipe: Recipe
    label: str = ""
    names: list[str] = field(default_factory=list)
    runs: dict[int, RunRecord] = field(default_factory=dict)

    @property
    def missing(self) -> tuple[int, ...]:
        """The seeds that the recipe asks for and that are not there."""
        return tuple(seed for seed in self.recipe.seeds if seed not in self.runs)

    def preferred_name(self) -> str:
        """Of several names of one content, the one that says which data it is run on."""
        return max(self.names, key=lambda name: self.recipe.data.name in name.split("/"))

    def curve(self, metric: Metric) -> dict[str, Any] | None:
        """Every seed's values at evenly spaced epochs that end with the last; None where it was not measured.

        Raises:
            ValueError: the runs of one recipe have curves of several lengths.
        """
        measured = {
            seed: run.epochs[metric.key] for seed, run in self.runs.items() if run.epochs.get(metric.key)
        }
        if not measured:
            return None
        lengths = {len(values) for values in measured.values()}
        if len(lengths) > 1:
            raise ValueError(
                f"the records of {self.recipe.name} ({self.recipe.profile}) have {sorted(lengths)} values of "
                f"{metric.key!r}; they must have as many, so run those again that stopped early."
            )
        (count,) = lengths
        epochs = max(len(values) for run in self.runs.values() for values in run.epochs.values())
        between = max(epochs // count, 1)  # of two tests
        before = self.recipe.first_stage.epochs if self.recipe.first_stage else 0
        stride = -(-count // MOST_POINTS)
        start = (count - 1) % stride
        return {
            "first": before + (start + 1) * between,
            "step": stride * between,
            "seeds": [_rounded(values[start::stride], metric) for values in measured.values()],
        }

    def row(self, metric: Metric, baseline: Method) -> list[str]:
        """Last epoch, difference to the baseline, and best on test, as text."""
        last = metric.values(self.runs)
        if not last:
            return ["not measured" if self.runs else NOT_RUN, "", ""]
        curves = [run.epochs.get(metric.key) for run in self.runs.values()]
        best = [max(values) for values in curves if values] if metric.published == "accuracy" else []
        return [
            figure(Summary.of(list(last.values())), metric.published),
            "" if self is baseline else _difference(metric, last, metric.values(baseline.runs)),
            figure(Summary.of(best), metric.published, runs=False) if len(best) == len(curves) else "",
        ]


def _difference(metric: Metric, ours: Mapping[int, float], others: Mapping[int, float]) -> str:
    """Over the seeds that both have."""
    shared = [seed for seed in ours if seed in others]
    if not others:
        return "nothing to compare with"
    if len(shared) < 2:
        return "needs 2 shared seeds"
    found = paired_difference([ours[seed] for seed in shared], [others[seed] for seed in shared])
    return interval(found, metric.published)


def _rounded(values: Sequence[float], metric: Metric) -> list[float]:
    """Accuracies to a hundredth of a per cent, others to four digits: finer is not to be seen."""
    if metric.published == "accuracy":
        return [round(100 * value, 2) for value in values]
    return [float(f"{value:.4g}") for value in values]


class Recipes:
    """The recipes of some families in every profile, read once.

    Args:
        patterns: of all that will be asked for.

    Raises:
        ValueError: there is no such family, or its file is not as it should be.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        from kdlib.experiments.recipes import find_recipes, load_family

        self.families = sorted({pattern.partition("/")[0] for pattern in patterns})
        self._by_profile = {
            profile: [recipe for family in self.families for recipe in find_recipes(f"{family}/*", profile)]
            for profile in PROFILES
        }
        self._cells = {
            name: cell for family in self.families for name, cell in load_family(family).cells.items()
        }

    def fitting(self, patterns: Sequence[str], profile: str) -> list[Recipe]:
        """Those whose names fit, each once, in the order of the patterns.

        Raises:
            ValueError: nothing fits a pattern; the message has the near names.
        """
        from kdlib.experiments.recipes import find_recipes

        found: dict[str, Recipe] = {}
        for pattern in patterns:
            named = {
                recipe.name: recipe
                for recipe in self._by_profile[profile]
                if fnmatchcase(recipe.name, pattern)
            }
            if not named:
                find_recipes(pattern, profile)  # says what is wrong with it
            found |= named
        return list(found.values())

    def by_data(
        self, recipes: Iterable[Recipe], index: RecordIndex, names: Mapping[str, str]
    ) -> dict[str, list[Method]]:
        """The methods on each data set, in the order of the recipes; what has one content is one."""
        found: dict[str, dict[str, Method]] = {}
        for recipe in recipes:
            size = f", {recipe.data.size} px" if recipe.data.size else ""
            methods = found.setdefault(f"{recipe.data.name}{size}, {recipe.profile}", {})
            method = methods.setdefault(recipe.digest, Method(recipe, runs=_of(index, recipe)))
            method.names.append(recipe.name)
        for methods in found.values():
            self._label(list(methods.values()), names)
        return {data: list(methods.values()) for data, methods in found.items()}

    def _label(self, methods: Sequence[Method], names: Mapping[str, str]) -> None:
        """Call each method by what tells it from the others, or as the page does."""
        options = [self._cells[method.recipe.name].options for method in methods]
        for method, own in zip(methods, options, strict=True):
            telling = [
                value if axis in ("singles", "method") else f"{axis} {value}"
                for axis, value in own.items()
                if axis != "grid" and len({other[axis] for other in options if axis in other}) > 1
            ]
            label = ", ".join(telling) or own.get("singles") or own.get("method") or own["grid"]
            method.label = names.get(label, label)
        labels = [method.label for method in methods]
        if repeated := [label for label in labels if labels.count(label) > 1]:
            raise ValueError(
                f"{len(repeated)} methods of one sweep are called {repeated[0]!r}; give them other names."
            )

    def commands(self, methods: Sequence[Method]) -> list[str]:
        """What to type for the runs that are missing."""
        asked: dict[tuple[int, ...], list[str]] = {}
        for method in methods:
            if method.missing:
                seeds = method.missing if method.runs else ()
                asked.setdefault(seeds, []).append(method.preferred_name())
        profile = methods[0].recipe.profile
        return [
            f"kd run {shlex.quote(pattern)} --profile {profile}"
            + "".join(f" --seed {seed}" for seed in seeds)
            for seeds, names in asked.items()
            for pattern in self._patterns(names)
        ]

    def _patterns(self, names: Sequence[str]) -> list[str]:
        """The names, and one pattern in place of those that have a folder to themselves."""
        by_folder: dict[str, list[str]] = {}
        for name in names:
            by_folder.setdefault(name.rpartition("/")[0], []).append(name)
        patterns = []
        for folder, of_folder in by_folder.items():
            fitting = [name for name in self._cells if fnmatchcase(name, f"{folder}/*")]
            whole = len(of_folder) > 1 and sorted(fitting) == sorted(of_folder)
            patterns += [f"{folder}/*"] if whole else of_folder
        return patterns


def _of(index: RecordIndex, recipe: Recipe) -> dict[int, RunRecord]:
    return {seed: found.run for seed, found in index.runs(recipe).items()}


def published_cells() -> dict[tuple[str, str], list[PublishedCell]]:
    """The published numbers by recipe and metric.

    Raises:
        FileNotFoundError: the folder of the published tables is not there.
    """
    from kdlib.experiments.report.published import published, published_names

    found: dict[tuple[str, str], list[PublishedCell]] = {}
    for table in published_names():
        for cell in published(table).cells:
            if cell.recipe and cell.value is not None:
                found.setdefault((cell.recipe, cell.metric), []).append(cell)
    return found
