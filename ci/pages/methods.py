"""What the build knows of the methods: book/methods/methods.toml, recorded runs, costs, published numbers."""

from __future__ import annotations

import csv
import json
import math
import re
import statistics
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ci.chapters import CourseError
from ci.pages.records import Group, slug_of

NOT_RUN = "not run yet"
FACTS = "methods.toml"


@dataclass(frozen=True)
class Comparison:
    """Recorded runs with something and without it.

    Attributes:
        key: what a card's text calls it.
        says: what tells the two apart.
        taught, alone: the records with it and without it; None where there are none.
    """

    key: str
    says: str
    taught: Group | None
    alone: Group | None

    @property
    def seeds(self) -> list[int]:
        """That both sides were run with; none where one was not run."""
        if self.taught is None or self.alone is None:
            return []
        both = {record["seed"] for record in self.taught.records}
        return sorted(both & {record["seed"] for record in self.alone.records})

    @property
    def setting(self) -> str:
        """What the runs have in common: profile, images, epochs, student."""
        assert self.taught is not None, "asked for what is there only"
        record = self.taught.records[0]
        settings = record["settings"]
        images = f"{record['data']['train_images']:,} images of {data_of(record)}"
        student = f"student {settings['student']}"
        return "; ".join([f"profile {self.taught.profile}", images, f"{settings['epochs']} epochs", student])

    def values(self, group: Group | None) -> list[float]:
        """Accuracies of the seeds that both sides have."""
        assert group is not None, "asked for what is there only"
        found = {record["seed"]: float(record["final"]["accuracy"]) for record in group.records}
        return [found[seed] for seed in self.seeds]

    def difference(self) -> tuple[float, float, float]:
        """Mean difference and its 95 % interval over the seeds, as fractions; with one seed that is NaN.

        As `kdlib.experiments.paired_difference`, which is not called because kdlib loads torch, and that
        takes longer than all the rest of staging the pages.
        """
        pairs = zip(self.values(self.taught), self.values(self.alone), strict=True)
        differences = [ours - theirs for ours, theirs in pairs]
        mean, count = statistics.fmean(differences), len(differences)
        if count < 2:
            return mean, math.nan, math.nan
        from scipy.special import stdtrit

        margin = float(stdtrit(count - 1, 0.975)) * statistics.stdev(differences) / math.sqrt(count)
        return mean, mean - margin, mean + margin


@dataclass(frozen=True)
class Method:
    """A section of methods.toml, whose first lines say what each part is; its records looked up."""

    slug: str
    title: str
    kind: str
    compares: str
    widths: str
    extra: str
    names: tuple[str, ...]
    chapter: str
    measured: str | None
    ours: tuple[Comparison, ...]
    published: tuple[dict[str, str], ...]


@dataclass(frozen=True)
class Costs:
    """What `python -m ci bench --only losses --keep` measured."""

    measured: str
    machine: dict[str, str]
    rows: dict[str, dict[str, Any]]

    @classmethod
    def load(cls, path: Path) -> Costs | None:
        """The measurement that is kept, if one is."""
        if not path.is_file():
            return None
        kept = json.loads(path.read_text(encoding="utf-8"))
        return cls(kept["measured"], kept["machine"], {row["name"]: row for row in kept["rows"]})

    @property
    def where(self) -> str:
        """On what, with what and when, in words."""
        processor = self.machine.get("gpu") or self.machine["processor"]
        threads = self.machine["threads"]
        version = self.machine["torch"]
        return f"{processor}, {threads} thread{'s' * (threads != '1')}, PyTorch {version}, on {self.measured}"


def load_methods(folder: Path, groups: Sequence[Group]) -> list[Method]:
    """The sections of methods.toml in their order, each with its records: those of `full` before `short`.

    Raises:
        CourseError: a section has a part that there is not, or lacks one.
    """
    known: dict[str, Group] = {}
    for group in sorted(groups, key=lambda group: group.profile != "full"):
        known.setdefault(f"{group.experiment}/{group.slug}", group)

    def records(place: str) -> Group | None:
        experiment, _, label = place.partition("/")
        return known.get(f"{experiment}/{slug_of(label)}")

    methods = []
    for slug, section in tomllib.loads((folder / FACTS).read_text(encoding="utf-8")).items():
        try:
            ours = tuple(
                Comparison(each["key"], each["says"], records(each["with"]), records(each["without"]))
                for each in section.get("ours", ())
            )
            lists = {"names": tuple(section["names"]), "published": tuple(section.get("published", ()))}
            rest = {"measured": section.get("measured"), "ours": ours} | lists
            methods.append(Method(slug, **section | rest))
        except (TypeError, KeyError) as error:
            raise CourseError(f"{FACTS}, [{slug}]: {error}; its first lines say what it has.") from error
    return methods


@dataclass(frozen=True)
class PublishedRow:
    """A published accuracy beside the one it is measured against, in per cent, as printed."""

    where: str
    baseline: str
    value: str
    difference: str
    selection: str


def published_rows(path: Path, row: str) -> list[PublishedRow]:
    """A row of a table of data/published, column by column.

    Raises:
        CourseError: there is no such row of accuracies.
    """
    with path.open(encoding="utf-8", newline="") as file:
        table = {(line["row"], line["column"]): line for line in csv.DictReader(file)}
    rows = []
    for (name, column), line in table.items():
        if name == row and line["metric"] == "accuracy":
            other = table[line["against"], column]
            digits = max(1, *(len(each["value"].partition(".")[2]) - 2 for each in (line, other)))
            ours, theirs = 100 * float(line["value"]), 100 * float(other["value"])
            numbers = (f"{theirs:.{digits}f}", f"{ours:.{digits}f}", minus(f"{ours - theirs:+.{digits}f}"))
            rows.append(PublishedRow(column, *numbers, line["selection"]))
    if not rows:
        raise CourseError(f"{path.name} has no accuracies in a row {row!r}, which {FACTS} asks for.")
    return rows


def data_of(record: dict[str, Any]) -> str:
    """The data set of a record, without how it was divided."""
    return re.split(r"[,(]", str(record["data"]["source"]))[0].strip()


def minus(number: str) -> str:
    """A number with a minus sign that is as wide as a plus."""
    return number.replace("-", "−")
