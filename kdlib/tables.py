"""Published numbers beside ours: for every cell of a published table, what our recorded runs say."""

import csv
import html
import io
import math
import re
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from typing import TYPE_CHECKING, Any

from kdlib.measurements import NOT_RUN, PROFILES, figure, form, interval, last_epoch
from kdlib.published import Cell, Published, published
from kdlib.results import (
    PairedDifference,
    RunRecord,
    Shelf,
    Shelved,
    Summary,
    Table,
    paired_difference,
    table,
)

if TYPE_CHECKING:
    from kdlib.recipes import Recipe

NOT_MEASURED = "not measured"
HEADINGS = {"full": "ours", "short": "ours, short", "quick": "digits, quick"}
_SELECTED = {"best": "best on test", "mean": "over all epochs", "unstated": "epoch not stated"}
# For each metric that runs of ours have too, what their records call it epoch by epoch.
_CURVES = {
    "accuracy": "test_accuracy",
    "loss": "test_loss",
    "logit difference": "test_logit_difference",
}


@dataclass(frozen=True)
class Ours:
    """What the runs of one recipe say in the place of one published number.

    Attributes:
        last: after the last epoch, over seeds; None where the runs did not measure it.
        selected: by the rule that chose the published number, where that is another one. For "best" over
            seeds; for "mean" over all epochs of all seeds.
        difference: to the recipe that the published number is measured against, after the last epoch, seed by
            seed; None with fewer than two seeds in common.
        files: the records, as paths below ``data/results``; empty for runs that were not kept.
        data: the names of the data sets that they were trained on.
    """

    last: Summary | None
    selected: Summary | None
    difference: PairedDifference | None
    files: tuple[str, ...]
    data: frozenset[str] = frozenset()

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON, unrounded; None for what is not known."""
        last, selected, difference = self.last, self.selected, self.difference
        return {
            "mean": last and last.mean, "sd": last and _known(last.sd), "n": last and last.n,
            "selected_mean": selected and selected.mean, "selected_sd": selected and _known(selected.sd),
            "difference": difference and difference.mean, "difference_low": difference and difference.low,
            "difference_high": difference and difference.high, "records": list(self.files),
        }  # fmt: skip


@dataclass(frozen=True)
class Line:
    """A published number, and ours for each profile in which its recipe was run."""

    label: str
    cell: Cell
    ours: Mapping[str, Ours]

    def printed(self) -> list[str]:
        """The published number in the form that ours have, and how it was chosen if not as the last epoch."""
        cell = self.cell
        assert cell.value is not None
        scale, digits = form(cell.metric)
        digits = min(max(_decimals(cell, scale), digits), digits + 1)
        spread = f" ± {cell.sd * scale:.{digits}f}" if cell.sd is not None else ""
        runs = f" ({cell.n})" if cell.n is not None and cell.n > 1 else ""
        chosen = [_SELECTED[cell.selection]] if cell.selection in _SELECTED else []
        return [f"{cell.value * scale:.{digits}f}{spread}{runs}", *chosen]

    def figures(self, profile: str) -> list[str]:
        """Ours of a profile as text: the last epoch, the figure by the published rule, the difference."""
        if not self.cell.recipe:
            return ["no recipe"]
        if profile not in self.ours:
            return [NOT_RUN]
        ours, metric = self.ours[profile], self.cell.metric
        if ours.last is None:
            return [NOT_MEASURED]
        figures = [figure(ours.last, metric)]
        if ours.selected is not None:
            figures.append(f"{_SELECTED[self.cell.selection]} {figure(ours.selected, metric, runs=False)}")
        if ours.difference is not None:
            figures.append(f"Δ {interval(ours.difference, metric)}")
        return figures

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON, with None for a profile in which nothing was run."""
        cell = self.cell
        return {
            "row": cell.row, "column": cell.column, "metric": cell.metric, "printed": cell.printed,
            "published": cell.value, "published_sd": cell.sd, "published_n": cell.n,
            "selection": cell.selection, "recipe": cell.recipe, "against": cell.against, "note": cell.note,
            "ours": {
                profile: self.ours[profile].as_dict() if profile in self.ours else None
                for profile in HEADINGS
            },
        }  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """A published table beside our runs; a notebook shows it as a table, with the records below.

    Attributes:
        published: the table.
        lines: one for each number that is compared.
        profiles: that have a column: "full", and the others where something was run.
        outdated: records that were left out because their recipe has changed since.
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
        sentences += reservations(self.profiles, [line.ours for line in self.lines], self.outdated)
        return " ".join(sentences)

    def table(self, columns: Sequence[str] | None = None) -> Table:
        """The comparison as text.

        Args:
            columns: profiles to show beside the published numbers; None shows `profiles`.

        Raises:
            ValueError: there is no such profile.
        """
        shown = self._shown(columns)
        rows = []
        for line in self.lines:
            ours = ["; ".join(line.figures(profile)) for profile in shown]
            rows.append([line.label, "; ".join(line.printed()), *ours])
        return table(["run", "published", *(HEADINGS[p] for p in shown)], rows, self.caption)

    def to_markdown(self, columns: Sequence[str] | None = None) -> str:
        """A table for a Markdown page."""
        return as_markdown(self.table(columns))

    def to_csv(self) -> str:
        """All numbers, unrounded: a line for each published number and profile."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(_CSV_HEADER)
        for line in self.lines:
            for profile in self.profiles:
                writer.writerow(_csv_line(line, profile))
        return out.getvalue()

    def to_latex(self, columns: Sequence[str] | None = None) -> str:
        """A table for LaTeX, with the rules of the package booktabs."""
        return as_latex(self.table(columns))

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON: all numbers, unrounded."""
        source = self.published
        return {
            "table": source.name, "title": source.title, "source": source.source, "url": source.url,
            "selection": source.selection, "outdated": self.outdated,
            "lines": [line.as_dict() for line in self.lines],
        }  # fmt: skip

    def __repr__(self) -> str:
        return repr(self.table())

    def _repr_markdown_(self) -> str:
        return self.to_markdown()

    def _repr_html_(self) -> str:
        head = "".join(
            f'<th scope="col">{text}</th>'
            for text in ("run", "published", *(HEADINGS[profile] for profile in self.profiles))
        )
        body = "".join(f"<tr>{self._html_line(line)}</tr>" for line in self.lines)
        return (
            f'<table class="kdlib-table kdlib-comparison"><caption>{html.escape(self.caption)}</caption>'
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{self._html_records()}"
        )

    def _html_line(self, line: Line) -> str:
        cells = [f'<th scope="row">{html.escape(line.label)}</th>']
        cells.append(_html_cell(line.printed(), f"printed: {line.cell.printed}"))
        for profile in self.profiles:
            ours = line.ours.get(profile)
            if ours and ours.files:
                cells.append(_html_cell(line.figures(profile), _whence(ours), ours.files))
            else:
                cells.append(_html_cell(line.figures(profile)))
        return "".join(cells)

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

    def _shown(self, columns: Sequence[str] | None) -> Sequence[str]:
        for profile in columns or ():
            if profile not in HEADINGS:
                raise ValueError(f"there is no profile {profile!r}; use {', '.join(HEADINGS)}.")
        return self.profiles if columns is None else columns


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
        if cell.metric in _CURVES and fnmatchcase(cell.row, rows) and fnmatchcase(cell.column, columns)
    ]
    if not cells and (rows, columns) != ("*", "*"):
        raise ValueError(
            f"{name} has no result in rows {rows!r} and columns {columns!r}; its rows are {source.rows}, "
            f"its columns {source.columns}."
        )
    shelf = Shelf(live)
    labels = _labels(cells)
    lines = tuple(
        Line(label, cell, _ours(cell, source, shelf)) for label, cell in zip(labels, cells, strict=True)
    )
    found = {profile for line in lines for profile in line.ours}
    profiles = tuple(profile for profile in HEADINGS if profile in found | {"full"})
    return Comparison(source, lines, profiles, _outdated(cells, source, shelf))


def rival(cell: Cell, source: Published) -> str:
    """The recipe that a cell of a published table is measured against; "" for none."""
    return source.cell(cell.against, cell.column).recipe if cell.against else ""


def measured(
    metric: str, runs: Mapping[int, Shelved], baseline: Mapping[int, Shelved], selection: str = "last"
) -> Ours:
    """What runs of one recipe say.

    Args:
        metric: as published tables call it.
        runs: of the recipe, by seed; one or more.
        baseline: those of the recipe that it is measured against.
        selection: the rule of the published number, as `kdlib.published.Cell` has it.
    """
    last, compared = _last(metric, runs), _last(metric, baseline)
    shared = [seed for seed in last if seed in compared]
    return Ours(
        last=Summary.of(list(last.values())) if last else None,
        selected=_selected(metric, selection, runs),
        difference=paired_difference([last[s] for s in shared], [compared[s] for s in shared])
        if len(shared) > 1
        else None,
        files=tuple(file for _, file in runs.values() if file),
        data=frozenset(run.recipe["data"]["name"] for run, _ in runs.values() if run.recipe),
    )


def reservations(
    profiles: Iterable[str], lines: Sequence[Mapping[str, Ours]], outdated: int
) -> Iterator[str]:
    """For a caption, what a reader should know of our numbers before comparing.

    Args:
        profiles: that are shown.
        lines: ours by profile, line by line.
        outdated: records that were left out because their recipe has changed since.
    """
    for profile in profiles:
        if profile != "full":
            names = {name for ours in lines if profile in ours for name in ours[profile].data}
            data = f", on {' and '.join(sorted(names))}" if names else ""
            yield f"{profile.title()}{data}: {PROFILES[profile]}."
    if outdated:
        yield f"Left out, as their recipe has changed since: {outdated} of our records."


def as_markdown(text: Table) -> str:
    """A table for a Markdown page."""
    rows = [[cell.replace("|", r"\|") for cell in row] for row in text.rows]
    return table(text.header, rows, text.caption)._repr_markdown_()


def as_latex(text: Table) -> str:
    """A table for LaTeX, with the rules of the package booktabs."""
    header, *rows = (" & ".join(map(_latex, row)) + r" \\" for row in (text.header, *text.rows))
    return "\n".join(
        [r"\begin{table}", rf"\caption{{{_latex(text.caption)}}}",
         rf"\begin{{tabular}}{{{'l' * len(text.header)}}}", r"\toprule", header, r"\midrule", *rows,
         r"\bottomrule", r"\end{tabular}", r"\end{table}", ""]
    )  # fmt: skip


@cache
def _today(name: str, profile: str) -> "Recipe":
    """A recipe as it is now."""
    # Imported here: a page that shows published numbers alone needs no recipes.
    from kdlib.recipes import find_recipes

    (found,) = find_recipes(name, profile=profile)
    return found


def _runs(name: str, profile: str, shelf: Shelf) -> dict[int, Shelved]:
    """Of a recipe, if one is named; a recipe is read only where there may be some."""
    if not name or not shelf.has(name.split("/")[0], profile):
        return {}
    return shelf.runs(_today(name, profile))


def _outdated(cells: Iterable[Cell], source: Published, shelf: Shelf) -> int:
    """How many records have the name, and not the content, of a recipe that these cells ask for."""
    files: set[str] = set()
    names = {name for cell in cells if cell.recipe for name in (cell.recipe, rival(cell, source))}
    for name in names - {""}:
        for profile in HEADINGS:
            if shelf.has(name.split("/")[0], profile):
                files |= shelf.outdated(_today(name, profile), [name])
    return len(files)


def _ours(cell: Cell, source: Published, shelf: Shelf) -> dict[str, Ours]:
    """For each profile with runs of the cell's recipe, what they say."""
    against, found = rival(cell, source), {}
    for profile in HEADINGS:
        if runs := _runs(cell.recipe, profile, shelf):
            found[profile] = measured(cell.metric, runs, _runs(against, profile, shelf), cell.selection)
    return found


def _last(metric: str, runs: Mapping[int, Shelved]) -> dict[int, float]:
    """After the last epoch, by seed, of the runs that measured it."""
    found = {seed: last_epoch(run, metric, _CURVES[metric]) for seed, (run, _file) in runs.items()}
    return {seed: value for seed, value in found.items() if value is not None}


def _selected(metric: str, selection: str, runs: Mapping[int, Shelved]) -> Summary | None:
    """By the rule of the published number; None where that is the last epoch, or a run has no curve."""
    curves = [run.epochs.get(_CURVES[metric]) for run, _ in runs.values()]
    known = [curve for curve in curves if curve]
    if len(known) < len(curves):
        return None
    if selection == "best":
        return Summary.of([max(curve) for curve in known])
    if selection == "mean":
        values = [value for curve in known for value in curve]
        sd = statistics.stdev(values) if len(values) > 1 else math.nan
        return Summary(statistics.fmean(values), sd, len(known))
    return None


def _labels(cells: Sequence[Cell]) -> list[str]:
    """A short name for each line: what all have in common is left to the caption."""
    several_rows = len({cell.row for cell in cells}) > 1
    if len({cell.column for cell in cells}) == 1:
        return [cell.row for cell in cells]
    return [f"{cell.row}; {cell.column}" if several_rows else cell.column for cell in cells]


def _decimals(cell: Cell, scale: int) -> int:
    """With how many decimals a value was printed, in the units of `kdlib.measurements.form`."""
    number = re.search(r"\d+(?:\.(\d*))?", cell.printed)
    assert number
    as_fraction = scale == 100 and float(number[0]) == cell.value
    return len(number[1] or "") - 2 * as_fraction


def _html_cell(figures: Sequence[str], title: str = "", files: Sequence[str] = ()) -> str:
    """A cell, with what it says on a pause of the mouse, and the records that a built page links it to."""
    # A mean stays with its spread where a narrow screen breaks lines.
    first, *others = (html.escape(figure).replace(" ± ", "&nbsp;±&nbsp;") for figure in figures)
    records = f' data-records="{html.escape(" ".join(files))}"' if files else ""
    about = f' title="{html.escape(title)}"' if title else ""
    small = "".join(f"<br><small>{other}</small>" for other in others)
    return f"<td><span{records}{about}>{first}</span>{small}</td>"


def _whence(ours: Ours) -> str:
    return f"{len(ours.files)} record{'s' * (len(ours.files) > 1)}: {', '.join(ours.files)}"


_CSV_HEADER = (
    "row", "column", "metric", "published", "published_sd", "published_n", "selection", "recipe", "profile",
    "mean", "sd", "n", "selected_mean", "selected_sd", "difference", "difference_low", "difference_high",
    "records",
)  # fmt: skip


def _csv_line(line: Line, profile: str) -> list[object]:
    cell, ours = line.cell, line.ours.get(profile)
    known: list[object] = [
        cell.row, cell.column, cell.metric, cell.value, cell.sd, cell.n, cell.selection, cell.recipe, profile,
    ]  # fmt: skip
    if ours is None or ours.last is None:
        return [*known, *line.figures(profile), *[""] * 8]
    return [*known, *(ours.as_dict() | {"records": " ".join(ours.files)}).values()]


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
        "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
        ">": r"\textgreater{}", "±": r"$\pm$", "→": r"$\to$", "Δ": r"$\Delta$", "−": "$-$",
    }
)  # fmt: skip


def _latex(text: str) -> str:
    return text.translate(_LATEX)
