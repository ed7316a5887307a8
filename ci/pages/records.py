"""The pages of recorded runs: where each was made, and the command that repeats it; tables link to them.

The pages say all that a reader may ask of a record and leave its curves in data/results, which is several
times as large as the whole book.
"""

from __future__ import annotations

import html
import json
import re
import shlex
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ci.chapters import CourseError

INTRODUCTION = """\
# Records

This page is written by the build. Numbers that are marked as recorded were not made while the pages were
built: each run was trained before, and left a record in `data/results` with its settings, every epoch's
measurements, and where it was made. The pages below list all records, and a table's recorded numbers link
to theirs.

{table}

A run of a *recipe* is repeated by one command: `kd run` trains it unless that is done here already;
`kd verify` trains it again in any case, compares, and says what differs. On the same processor, with the same
version of PyTorch and as many threads, every number has to come out the same to the last digit; elsewhere,
and on a GPU, the final measurements have to agree within a tolerance. A run of a *chapter* has no recipe; its
chapter repeats it, with all the others.

Records that were made on another machine are copied into the same folders of `data/results`.
"""

ENVIRONMENT = {
    "commit": "commit",
    "device": "device",
    "processor": "processor",
    "threads": "threads",
    "torch": "torch",
    "kdlib": "kdlib",
    "python": "Python",
}
_FIELDS = ("seed", "label", "settings", "data", "final", "environment", "started", "seconds")
# A cell of `comparison` names its records, and one of `table` the column that they are in.
_NAMED = re.compile(r'<span data-records="([^"]*)"([^>]*)>(.*?)</span>', re.DOTALL)
_FILE = re.compile(r"<code>([\w.-]+/(?:short|full)/[\w.-]+\.json)</code>")
_TABLE = re.compile(r'<table class="kdlib-table">.*?</table>', re.DOTALL)
_RECORDED = re.compile(r"recorded \((short|full)\)")
_ROW = re.compile(r'<tr>(<th scope="row">(.*?)</th>)(.*?)</tr>', re.DOTALL)


@dataclass(frozen=True)
class Group:
    """The records of one label: the same run with several seeds.

    Attributes:
        experiment, profile: the folders that they are in.
        slug: what their file names begin with.
        records: by seed, as JSON has them.
    """

    experiment: str
    profile: str
    slug: str
    records: Sequence[dict[str, Any]]

    @property
    def anchor(self) -> str:
        """What a link to the group ends with."""
        return f"{self.profile}-{self.slug}"

    @property
    def address(self) -> str:
        """Of the group on the built pages."""
        return f"{page_name(self.experiment)}.html#{self.anchor}"

    def place(self, record: dict[str, Any]) -> str:
        """The path of a record's file below data/results."""
        return f"{self.experiment}/{self.profile}/{self.slug}-seed{record['seed']}.json"

    @cached_property
    def facts(self) -> list[dict[str, str]]:
        """Where each record was made, and from what, in words."""
        return [facts_of(record) for record in self.records]

    @cached_property
    def common(self) -> dict[str, str]:
        """The facts that all records share."""
        first, *others = self.facts
        return {
            key: value for key, value in first.items() if all(other.get(key) == value for other in others)
        }


def load_groups(results: Path) -> list[Group]:
    """All records below data/results, those of one label together, in the order in which they were made.

    Raises:
        CourseError: a file is no record.
    """
    found: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for profile in ("full", "short"):
        for path in sorted(results.glob(f"[!.]*/{profile}/[!.]*.json")):
            slug, _, seed = path.stem.rpartition("-seed")
            record = read_record(path)
            if str(record["seed"]) != seed:
                raise CourseError(f"{path} is the record of seed {record['seed']}: name it so.")
            found.setdefault((path.parts[-3], profile, slug), []).append(record)
    groups = [Group(*key, sorted(records, key=lambda each: each["seed"])) for key, records in found.items()]
    return sorted(
        groups, key=lambda group: (group.experiment, min(each["started"] for each in group.records))
    )


def read_record(path: Path) -> dict[str, Any]:
    """A record as JSON has it, with the fields that the pages show."""
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        missing = [key for key in _FIELDS if key not in record]
    except ValueError as error:
        raise CourseError(f"{path} is no record ({error}): take it from git, or remove it.") from error
    if missing:
        raise CourseError(f"{path} is no record (it has no {missing[0]!r}): take it from git, or remove it.")
    return record


def page_name(experiment: str) -> str:
    """The name of the page that lists an experiment's records."""
    return f"records-{experiment}"


def record_pages(groups: Sequence[Group], titles: dict[str, str]) -> dict[str, str]:
    """The Markdown of every page by its name; the first is the one that lists the others.

    Args:
        groups: of all records.
        titles: of the chapters, by their slugs.
    """
    experiments: dict[str, list[Group]] = {}
    for group in groups:
        experiments.setdefault(group.experiment, []).append(group)
    pages = {"records": INTRODUCTION.format(table=overview(experiments, titles))}
    for experiment, of_experiment in experiments.items():
        title = titles.get(experiment, experiment)
        pages[page_name(experiment)] = experiment_page(title, of_experiment)
    return pages


def overview(experiments: dict[str, list[Group]], titles: dict[str, str]) -> str:
    """One row per experiment: how many runs of which profile, when, and at which commits."""
    if not experiments:
        return "There are no records yet."
    rows = ["| Experiment | Profile | Records | Made (UTC) | Commits |", "| --- | --- | ---: | --- | --- |"]
    for experiment, groups in experiments.items():
        for profile in sorted({group.profile for group in groups}):
            records = [record for group in groups if group.profile == profile for record in group.records]
            commits = {str(record["environment"].get("commit")) for record in records}
            link = f"[{titles.get(experiment, experiment)}]({page_name(experiment)}.md)"
            cells = [link, profile, str(len(records)), period(records), ", ".join(sorted(commits))]
            rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def experiment_page(title: str, groups: Sequence[Group]) -> str:
    """The Markdown of one experiment's page; its numbers are no use to the search, which leaves it out."""
    parts = [f"---\nnosearch: true\n---\n\n# Records: {title}\n"]
    parts.append("Every recorded run, with what it came to and the command that repeats it.\n")
    for profile in sorted({group.profile for group in groups}):
        chosen = [group for group in groups if group.profile == profile]
        count = sum(len(group.records) for group in chosen)
        parts.append(f"## Profile {profile}: {counted(count)}\n")
        parts += [group_section(group) + "\n" for group in chosen]
    return "\n".join(parts)


def group_section(group: Group) -> str:
    """One label: what its runs say, the command that repeats them, where they were made, and each of them."""
    accuracy = summary([record["final"].get("accuracy") for record in group.records])
    lines = [
        f'<section class="kdlib-records" id="{html.escape(group.anchor)}">',
        f"<h3>{html.escape(group.records[0]['label'])}</h3>",
        f"<p>{accuracy}{html.escape(sentence(group.common))}</p>",
        f"<pre>{html.escape(command(group))}</pre>",
        f"<details><summary>{counted(len(group.records))}, one by one</summary>",
        record_table(group),
        "</details>",
        "</section>",
    ]
    return "\n".join(lines)


def record_table(group: Group) -> str:
    """One row per record, with the facts that are not those of all."""
    varying = [key for key in group.facts[0] if key not in group.common]
    what = "commands" if any(record.get("recipe") for record in group.records) else "file in data/results"
    header = ["seed", "accuracy", "started (UTC)", "time", *varying, what]
    rows = []
    for record, facts in zip(group.records, group.facts, strict=True):
        accuracy = record["final"].get("accuracy")
        cells = ["" if accuracy is None else f"{100 * accuracy:.2f} %", moment(record)]
        cells += [f"{record['seconds']:.1f} s", *(facts.get(key, "") for key in varying)]
        row = f'<th scope="row">{record["seed"]}</th>' + "".join(f"<td>{html.escape(c)}</td>" for c in cells)
        rows.append(f"<tr>{row}<td>{commands(group, record)}</td></tr>")
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in header)
    return (
        f'<div class="pst-scrollable-table-container"><table class="kdlib-table"><thead><tr>{head}</tr>'
        f"</thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def commands(group: Group, record: dict[str, Any]) -> str:
    """The file of a record; and, where one command makes it, that and the one that compares."""
    place = group.place(record)
    if record.get("recipe") is None:
        return f"<code>{html.escape(place)}</code>"
    told = [repeat(group, [record]), shlex.join(["kd", "verify", place])]
    return "<br>".join(f"<code>{html.escape(each)}</code>" for each in told)


def command(group: Group) -> str:
    """What repeats the runs, from the sources that they were made with."""
    by_commit: dict[str, list[dict[str, Any]]] = {}
    for record in group.records:
        by_commit.setdefault(record["environment"].get("commit") or "", []).append(record)
    lines = []
    for commit, records in by_commit.items():
        if commit:
            changed = "  # and changes to it that were not committed" * commit.endswith("+")
            lines.append(f"git checkout {commit.rstrip('+')}{changed}")
        lines.append(repeat(group, records))
    return "\n".join(lines)


def repeat(group: Group, records: Sequence[dict[str, Any]]) -> str:
    """The command for some records of a group."""
    recipe = records[0].get("recipe")
    if recipe is None:
        return f'make book PROFILE={group.profile} CHAPTERS="{group.experiment[:2]}"'
    words = ["kd", "run", recipe["name"], "--profile", recipe["profile"]]
    words += [word for record in records for word in ("--seed", str(record["seed"]))]
    return shlex.join(words)


def facts_of(record: dict[str, Any]) -> dict[str, str]:
    """Where a record was made, and from what, in words."""
    environment, data, settings = record["environment"], record["data"], record["settings"]
    facts = {name: str(environment[key]) for key, name in ENVIRONMENT.items() if environment.get(key)}
    facts["images"] = f"{data.get('train_images')} of {data.get('source')}"
    facts["fingerprint"] = str(data.get("fingerprint"))
    for name in ("student", "teacher"):
        if settings.get(name):
            facts[name] = str(settings[name])
    if recipe := record.get("recipe"):
        facts["recipe"] = f"{recipe['name']}, digest {recipe['digest']}"
    return facts


def sentence(facts: dict[str, str]) -> str:
    """Facts in a row."""
    told = "; ".join(f"{name} {value}" for name, value in facts.items())
    return f"{told[:1].upper()}{told[1:]}." if told else ""


def summary(accuracies: Sequence[float | None]) -> str:
    """Mean and standard deviation of accuracies, in a sentence; nothing where they were not measured."""
    known = [100 * value for value in accuracies if value is not None]
    if not known:
        return ""
    spread = f" ± {statistics.stdev(known):.1f}" if len(known) > 1 else ""
    return f"Accuracy {statistics.fmean(known):.1f}{spread} % ({len(known)}). "


def counted(number: int) -> str:
    """So many records."""
    return f"{number} record{'s' * (number != 1)}"


def period(records: Iterable[dict[str, Any]]) -> str:
    """The first and the last day of records."""
    days = sorted(record["started"][:10] for record in records)
    return days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"


def moment(record: dict[str, Any]) -> str:
    """When a record was begun, to the minute."""
    return str(record["started"][:16]).replace("T", " ")


def with_links(text: str, slug: str, groups: dict[str, Group]) -> str:
    """An output's HTML in which recorded numbers lead to their records.

    Args:
        text: of one output of a chapter.
        slug: of the chapter.
        groups: by `key_of` of their records' places.
    """
    if "kdlib-table" not in text:
        return text

    def named(found: re.Match[str]) -> str:
        group = groups.get(key_of(html.unescape(found[1]).split(" ")[0]))
        return f"<span{found[2]}>{link(group.address, found[3])}</span>" if group else found[0]

    def file(found: re.Match[str]) -> str:
        group = groups.get(key_of(found[1]))
        return link(group.address, found[0]) if group else found[0]

    text = _FILE.sub(file, _NAMED.sub(named, text))
    return _TABLE.sub(lambda found: with_links_in_columns(found[0], slug, groups), text)


def with_links_in_columns(table: str, slug: str, groups: dict[str, Group]) -> str:
    """The table of a chapter whose columns "recorded (PROFILE)" have a row for each label."""
    columns = re.findall(r'<th scope="col">(.*?)</th>', table, re.DOTALL)
    profiles = {
        number: found[1] for number, name in enumerate(columns) if (found := _RECORDED.fullmatch(name))
    }

    has_page = any(group.experiment == slug for group in groups.values())

    def row(found: re.Match[str]) -> str:
        cells = re.findall(r"<td>(.*?)</td>", found[3], re.DOTALL)
        label = html.unescape(found[2])
        for number, profile in profiles.items():
            # A row may be of one metric of its label, such as "alone: 3s before", or of several labels.
            names = (label, label.rpartition(": ")[0])
            known = [groups.get(f"{slug}/{profile}/{slug_of(name)}") for name in names]
            group, cell = known[0] or known[1], cells[number - 1]
            if cell[:1].isdigit() and (group or has_page):
                address = group.address if group else f"{page_name(slug)}.html"
                cells[number - 1] = link(address, cell)
        return f"<tr>{found[1]}{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"

    return _ROW.sub(row, table) if profiles else table


def link(address: str, text: str) -> str:
    """A link to records."""
    return f'<a class="kdlib-record" href="{html.escape(address)}">{text}</a>'


def key_of(place: str) -> str:
    """What the places of a group's records have in common."""
    return place.rpartition("-seed")[0]


def slug_of(label: str) -> str:
    """A label as file names have it; kdlib.experiments names them so."""
    return re.sub(r"[^a-z0-9.]+", "-", label.lower()).strip("-")
