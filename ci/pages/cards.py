"""The method cards: costs, our numbers and published ones are put into the text of book/methods.

A card is written by hand but for its generated parts. A line such as ``% generated: cost`` stands where one
of them goes, and ``{gain}`key` `` in a sentence stands for a difference of recorded runs that methods.toml
names. So no number of a run is typed into a card.
"""

from __future__ import annotations

import html
import re
import statistics
import tomllib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from ci.chapters import CourseError
from ci.pages.methods import (
    FACTS,
    NOT_RUN,
    Comparison,
    Costs,
    Method,
    load_methods,
    minus,
    published_rows,
)
from ci.pages.records import Group, link

HEADER = ("baseline", "with it", "difference")
HOW_TO_READ = (
    "Accuracy on the test images after the last epoch, in per cent: mean ± standard deviation (seeds). The "
    "difference is in points, with its 95 % interval over the same seeds. Numbers lead to their records."
)
HOW_MEASURED = (
    "At batch 128, where a ResNet-110 teaches a ResNet-20 on pictures of CIFAR's size; time as a share of a "
    "step on the labels with the teacher's answers; runs of a quarter of an hour or more are compiled. "
    "Measured on {where}."
)
HOW_COMPARED = (
    "Over labels: points that the method adds to labels alone, with the 95 % interval over the same seeds. "
    "All students have 50 labelled digits, but each chapter a setting of its own: compare within one chapter."
)
_PLACE = re.compile(r"^% generated: (\w+)$", re.MULTILINE)
_GAIN = re.compile(r"\{gain\}`([\w-]+)`")
_CODE = re.compile(r"`([^`]+)`")
_SELECTED = {
    "best": "the best epoch on the test images",
    "last": "the last epoch",
    "unstated": "an epoch that is not stated",
}

Groups = Mapping[str, Sequence[Sequence[str]]]


def stage_cards(stage: Path, root: Path, groups: Sequence[Group]) -> None:
    """Fill the generated parts of the cards in a staged book, if it has cards.

    Args:
        stage: the staged book/.
        root: of the repository.
        groups: of all records.

    Raises:
        CourseError: a card or its facts are not whole.
    """
    folder = stage / "methods"
    if not (folder / FACTS).is_file():
        return
    methods = load_methods(folder, groups)
    costs = Costs.load(root / "data" / "measured" / "losses.json")
    for method in methods:
        parts: dict[str, Callable[[], str]] = {
            "names": partial(names_line, method),
            "cost": partial(cost_text, method, costs),
            "ours": partial(ours_text, method),
            "published": partial(published_text, method, root / "data" / "published"),
        }
        fill(folder / f"{method.slug}.md", parts, {each.key: each for each in method.ours})
    fill(folder / "index.md", {"overview": partial(overview, methods, costs)}, {})


def fill(card: Path, parts: dict[str, Callable[[], str]], comparisons: dict[str, Comparison]) -> None:
    """Put the generated parts in their places."""
    if not card.is_file():
        raise CourseError(f"{FACTS} has a method {card.stem!r} and {card} is not there: write the card.")

    def part(found: re.Match[str]) -> str:
        if found[1] not in parts:
            raise CourseError(f"{card.name} asks for {found[1]!r}, which is none of {', '.join(parts)}.")
        return parts[found[1]]()

    def gain(found: re.Match[str]) -> str:
        if found[1] not in comparisons:
            raise CourseError(
                f"{card.name} speaks of the comparison {found[1]!r}, which {FACTS} does not have."
            )
        return gain_of(comparisons[found[1]], "\N{NO-BREAK SPACE}points")

    card.write_text(_GAIN.sub(gain, _PLACE.sub(part, card.read_text(encoding="utf-8"))), encoding="utf-8")


def names_line(method: Method) -> str:
    """What the method is called in kdlib."""
    names = ", ".join(f"`{name}`" for name in method.names)
    before = "[What comes before](index.md#the-code-on-the-cards) makes the networks and the data."
    return f":::{{rst-class}} kdlib-card\nIn `kdlib`: {names}. {before}\n:::"


def cost_text(method: Method, costs: Costs | None) -> str:
    """Weights, memory and time that the method adds, and where they were measured."""
    if method.measured is None:
        return "It adds no loss of its own, but trainings."
    row = costs.rows.get(method.measured) if costs else None
    if costs is None or row is None:
        return "Not measured yet."
    weights = f"{row['weights']:,}" if row["weights"] else "none"
    time = f"{share(row['share'])} of a step, {share(row['share of a long run'])} in a compiled run"
    parts = {"trained weights": weights, "memory": memory(row), "time": time}
    told = "; ".join(f"<strong>{name}</strong> {value}" for name, value in parts.items())
    return f"<p>Extra: {told}.</p>\n{note(HOW_MEASURED.format(where=costs.where))}"


def memory(row: dict[str, Any]) -> str:
    """What a term keeps, in words."""
    throughout = [f"{megabytes(row['kept'])} throughout"] if row["kept"] >= 1e5 else []
    return " and ".join([*throughout, f"{megabytes(row['kept a step'])} in a step"])


def megabytes(size: float) -> str:
    """A number of bytes, to two digits."""
    if size < 1e5:
        return "under 0.1 MB"
    return f"{size / 1e6:.1f} MB" if size < 1e7 else f"{size / 1e6:.0f} MB"


def share(part: float) -> str:
    """The time of a term in parts of a step's."""
    per_cent = 100 * part
    return f"{per_cent:.0f} %" if per_cent >= 0.95 else "under 1 %"


def ours_text(method: Method) -> str:
    """Our recorded runs, by what they have in common, and what was not run."""
    by_setting: dict[str, list[list[str]]] = {}
    for each in method.ours:
        if each.seeds:
            says = _CODE.sub(r"<code>\1</code>", html.escape(each.says, quote=False))
            by_setting.setdefault(each.setting, []).append([says, *cells(each)])
    parts = []
    if by_setting:
        parts.append(table(("setting", *HEADER), by_setting, HOW_TO_READ))
    missing = "; ".join(each.says for each in method.ours if not each.seeds)
    if missing or not by_setting:
        parts.append(f"{NOT_RUN.capitalize()}{': ' * bool(missing)}{missing}.")
    return "\n\n".join(parts)


def cells(comparison: Comparison) -> list[str]:
    """Without, with, and the difference, the first two as links to their records."""
    numbers = []
    for group in (comparison.alone, comparison.taught):
        assert group is not None, "asked for what is there only"
        values = [100 * value for value in comparison.values(group)]
        spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
        text = f"{statistics.fmean(values):.1f}{spread} ({len(values)})"
        numbers.append(link(f"../{group.address}", text))
    return [*numbers, gain_of(comparison)]


def gain_of(comparison: Comparison, unit: str = "") -> str:
    """The difference of recorded runs with its interval."""
    if not comparison.seeds:
        return NOT_RUN
    mean, *interval = (minus(f"{100 * value:+.1f}") for value in comparison.difference())
    only_one = len(comparison.seeds) == 1
    return f"{mean}{unit} ({'one seed' if only_one else ' to '.join(interval)})"


def published_text(method: Method, folder: Path) -> str:
    """The method in published tables, beside what it is measured against there."""
    if not method.published:
        return "The published tables that this course keeps do not have it."
    sources = tomllib.loads((folder / "sources.toml").read_text(encoding="utf-8"))
    by_source = {}
    for each in method.published:
        rows = published_rows(folder / f"{each['table']}.csv", each["row"])
        source = sources[each["table"]]
        name = html.escape(source["source"])
        if source["url"]:
            name = f'<a class="reference external" href="{html.escape(source["url"])}">{name}</a>'
        chosen = " and ".join(sorted({_SELECTED[row.selection] for row in rows}))
        by_source[f"{html.escape(source['title'])}: {name}; {chosen}"] = [
            [html.escape(row.where), row.baseline, row.value, row.difference] for row in rows
        ]
    return table(("in the table", *HEADER), by_source, "As printed, in per cent.")


def overview(methods: Sequence[Method], costs: Costs | None) -> str:
    """All methods in one table, by what they compare."""
    header = (
        "method",
        "what is compared",
        "same widths?",
        "extra",
        "time added",
        "over labels",
        "in the course",
    )
    by_kind = {
        kind: [overview_row(method, costs) for method in of_kind]
        for kind, of_kind in groupby(methods, key=lambda method: method.kind)
    }
    measured = HOW_MEASURED.format(where=costs.where) if costs else ""
    return table(header, by_kind, f"{HOW_COMPARED} {measured}".strip(), "methods")


def overview_row(method: Method, costs: Costs | None) -> list[str]:
    """A method's line in the overview."""
    time = "trainings"
    if method.measured is not None:
        row = costs.rows.get(method.measured) if costs else None
        time = share(row["share"]) if row else "not measured yet"
    chapter = "not in a chapter"
    if method.chapter:
        number = int(method.chapter[:2])
        chapter = f'<a href="../{method.chapter}.html">chapter\N{NO-BREAK SPACE}{number}</a>'
    name = f'<a href="{method.slug}.html">{html.escape(method.title)}</a>'
    told = (html.escape(text, quote=False) for text in (method.compares, method.widths, method.extra))
    return [name, *told, time, over_labels(method), chapter]


def over_labels(method: Method) -> str:
    """What a method adds to labels alone, and the chapter whose setting that is."""
    found = next((each for each in method.ours if each.key == "labels"), None)
    if found is None or found.taught is None or not found.seeds:
        return NOT_RUN
    return f"{gain_of(found)}, ch.\N{NO-BREAK SPACE}{int(found.taught.experiment[:2])}"


def table(header: Sequence[str], groups: Groups, caption: str, kind: str = "numbers") -> str:
    """A table whose rows are in groups, each below its name; all but the header is HTML."""
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in header)
    lines = [f"<thead><tr>{head}</tr></thead>"]
    for name, rows in groups.items():
        lines.append(f'<tbody><tr><th scope="rowgroup" colspan="{len(header)}">{name}</th></tr>')
        for first, *rest in rows:
            told = "".join(f"<td>{cell}</td>" for cell in rest)
            lines.append(f'<tr><th scope="row">{first}</th>{told}</tr>')
        lines.append("</tbody>")
    inside = "\n".join(lines)
    box = f'<div class="pst-scrollable-table-container"><table class="kdlib-table kdlib-{kind}">'
    return f"{box}\n{inside}\n</table></div>{note(caption)}"


def note(text: str) -> str:
    """A remark in small print; nothing for nothing."""
    return f'\n<p class="kdlib-note">{text}</p>' if text else ""
