"""Published numbers beside ours: for every cell of a published table, what our recorded runs say."""

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from typing import TYPE_CHECKING, Any

from kdlib.experiments.index import IndexedRun, RecordIndex
from kdlib.experiments.report.aggregate import NOTHING, Aggregate, caveats, entry_of
from kdlib.experiments.report.frame import as_frame
from kdlib.experiments.report.measurements import CURVES, HEADINGS
from kdlib.experiments.report.published import Published, PublishedCell, published
from kdlib.experiments.report.table import Entry, Table, Tabular, table
from kdlib.training.record import RunRecord

if TYPE_CHECKING:
    import pandas as pd

    from kdlib.experiments.recipes import Recipe


@dataclass(frozen=True)
class Line:
    """A published number, and ours for each profile in which its recipe was run."""

    label: str
    cell: PublishedCell
    ours: Mapping[str, Aggregate]

    def entry(self, profile: str) -> Entry:
        """Ours of a profile."""
        return entry_of(self.ours, profile) if self.cell.recipe else Entry(["no recipe"])

    def row(self, profile: str) -> dict[str, Any]:
        """All numbers of a profile, unrounded; None for what is not known."""
        cell = self.cell
        return {
            "row": cell.row, "column": cell.column, "metric": cell.metric, "printed": cell.printed,
            "published": cell.value, "published_sd": cell.sd, "published_n": cell.n,
            "selection": cell.selection, "recipe": cell.recipe, "against": cell.against, "note": cell.note,
            "profile": profile, **self.ours.get(profile, NOTHING).as_dict(),
        }  # fmt: skip


@dataclass(frozen=True, repr=False)
class Comparison(Tabular):
    """A published table beside our runs; a notebook shows it as a table, with the records below.

    Attributes:
        published: the table.
        lines: one for each number that is compared.
        profiles: that have a column: "full", and the others where something was run.
        outdated: records that were left out: their recipe has changed since, or their precision is another.
    """

    published: Published
    lines: tuple[Line, ...]
    profiles: tuple[str, ...]
    outdated: int = 0

    @property
    def caption(self) -> str:
        """What is shown, where the published numbers are from, and how to read ours."""
        if not self.lines:
            return f"{self.published.title}: settings and sizes, and no result to compare."
        ours = "Ours: the last epoch, mean ± standard deviation (seeds)"
        if any(line.cell.metric == "accuracy" for line in self.lines):
            ours += "; accuracy in per cent"
        if any(found.difference for line in self.lines for found in line.ours.values()):
            ours += "; Δ to the run it is measured against, with a 95 % interval over the same seeds"
        sentences = [f"{self.published.title}.", f"Published: {self.published.source}."]
        sentences += [self.published.selection, f"{ours}."]
        sentences += caveats(self.profiles, [line.ours for line in self.lines], self.outdated)
        return " ".join(sentences)

    def table(self) -> Table:
        """The comparison as it is shown."""
        header = ["run", "published", *(HEADINGS[profile] for profile in self.profiles)]
        rows = [
            [
                line.label,
                Entry(line.cell.figures(), f"printed: {line.cell.printed}"),
                *(line.entry(profile) for profile in self.profiles),
            ]
            for line in self.lines
        ]
        return table(header, rows, self.caption, "kdlib-comparison")

    def rows(self) -> list[dict[str, Any]]:
        """All numbers, unrounded, a row for each published number and profile; plain JSON."""
        return [line.row(profile) for line in self.lines for profile in self.profiles]

    def frame(self) -> "pd.DataFrame":
        """The rows as a pandas frame."""
        return as_frame(self.rows())

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        source = self.published
        return {
            "table": source.name, "title": source.title, "source": source.source, "url": source.url,
            "selection": source.selection, "outdated": self.outdated, "rows": self.rows(),
        }  # fmt: skip

    def _repr_html_(self) -> str:
        return super()._repr_html_() + self._html_records()

    def _html_records(self) -> str:
        """Notes, recipes and records by file name, folded: a reader wants to know that they are there."""
        items = []
        for line in self.lines:
            files = [file for ours in line.ours.values() for file in ours.files]
            named = [f"<code>{html.escape(name)}</code>" for name in [line.cell.recipe, *files] if name]
            if told := [html.escape(line.cell.note)] * bool(line.cell.note) + named:
                items.append(f"<li>{html.escape(line.label)}: {', '.join(told)}</li>")
        if not items:
            return ""
        return (
            "<details><summary>Notes, recipes, and the records in data/results</summary>"
            f"<ul>{''.join(items)}</ul></details>"
        )


def comparison(
    name: str,
    *,
    rows: str = "*",
    columns: str = "*",
    live: Iterable[RunRecord] = (),
) -> Comparison:
    """A published table beside our records of the recipes that reproduce it.

    A record counts where its recipe is the one of today, to the digest: numbers of a recipe that has changed
    are left out and counted.

    Args:
        name: of the published table, such as "001-methods".
        rows, columns: shell patterns of those to show.
        live: records from elsewhere than ``data/results``, such as the quick ones of a notebook's own runs.

    Raises:
        ValueError: there is no such table, or no number in it fits the patterns.
        FileNotFoundError: the folder of the published tables is not there.
    """
    source = published(name)
    cells = [
        cell
        for cell in source.cells
        if cell.metric in CURVES and fnmatchcase(cell.row, rows) and fnmatchcase(cell.column, columns)
    ]
    if not cells and (rows, columns) != ("*", "*"):
        raise ValueError(
            f"{name} has no result in rows {rows!r} and columns {columns!r}; its rows are {source.rows}, "
            f"its columns {source.columns}."
        )
    index = RecordIndex(live)
    labels = _labels(cells)
    lines = tuple(
        Line(label, cell, _ours(cell, source, index)) for label, cell in zip(labels, cells, strict=True)
    )
    found = {profile for line in lines for profile in line.ours}
    profiles = tuple(profile for profile in HEADINGS if profile in found | {"full"})
    return Comparison(source, lines, profiles, _outdated(cells, source, index))


@cache
def _today(name: str, profile: str) -> "Recipe":
    """A recipe as it is now."""
    # Imported here: a page that shows published numbers alone needs no recipes.
    from kdlib.experiments.recipes import find_recipes

    (found,) = find_recipes(name, profile=profile)
    return found


def _runs(name: str, profile: str, index: RecordIndex) -> dict[int, IndexedRun]:
    """Of a recipe, if one is named; a recipe is read only where there may be some."""
    if not name or not index.has(name.split("/")[0], profile):
        return {}
    return index.runs(_today(name, profile))


def _outdated(cells: Iterable[PublishedCell], source: Published, index: RecordIndex) -> int:
    """How many records have the name, and not the content, of a recipe that these cells ask for."""
    files: set[str] = set()
    names = {name for cell in cells if cell.recipe for name in (cell.recipe, source.baseline_of(cell))}
    for name in names - {""}:
        for profile in HEADINGS:
            if index.has(name.split("/")[0], profile):
                files |= index.outdated(_today(name, profile), [name])
    return len(files)


def _ours(cell: PublishedCell, source: Published, index: RecordIndex) -> dict[str, Aggregate]:
    """For each profile with runs of the cell's recipe, what they say."""
    against, found = source.baseline_of(cell), {}
    for profile in HEADINGS:
        if runs := _runs(cell.recipe, profile, index):
            found[profile] = Aggregate.of(cell.metric, runs, _runs(against, profile, index), cell.selection)
    return found


def _labels(cells: Sequence[PublishedCell]) -> list[str]:
    """A short name for each line: what all have in common is left to the caption."""
    several_rows = len({cell.row for cell in cells}) > 1
    if len({cell.column for cell in cells}) == 1:
        return [cell.row for cell in cells]
    return [f"{cell.row}; {cell.column}" if several_rows else cell.column for cell in cells]
