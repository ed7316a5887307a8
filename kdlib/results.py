"""Run records, what they say over seeds, and tables of them."""

import html
import json
import math
import os
import platform
import re
import statistics
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

FORMAT = 2
_ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class RunRecord:
    """Everything that tells one training run from another, and what came of it.

    Attributes:
        seed: of the order of images and of augmentation.
        settings: the loop's arguments, the terms of the loss, student and teacher.
        data: where the training images come from, their number, and their fingerprint.
        epochs: a list of values for each name, one value per epoch ("loss", the terms, "test_accuracy").
        final: metrics after the last epoch, as fractions.
        environment: versions, device, threads, and the commit of the code.
        started: ISO 8601, UTC.
        seconds: wall time of the training.
        label: what the run is called in a table, such as "taught".
        profile: "quick", "short" or "full".
        recipe: what was run, with its name and digest; None where no recipe was.
    """

    seed: int
    settings: dict[str, Any]
    data: dict[str, Any]
    epochs: dict[str, list[float]]
    final: dict[str, float]
    environment: dict[str, Any]
    started: str
    seconds: float
    label: str = ""
    profile: str = "quick"
    recipe: dict[str, Any] | None = None
    format: int = field(default=FORMAT)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the record as JSON, whole or not at all; an older file of that name is replaced."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(_rounded(asdict(self)), ensure_ascii=False, allow_nan=False) + "\n"
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".part-") as folder:
            whole = Path(folder) / target.name
            whole.write_text(text, encoding="utf-8")
            return whole.replace(target)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "RunRecord":
        """Read a record.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is not a record, or one of a newer version of kdlib.
        """
        try:
            fields = json.loads(Path(path).read_text(encoding="utf-8"))
            written = fields["format"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path} is not a run record ({type(error).__name__}: {error}); remove it."
            ) from error
        if written > FORMAT:
            raise ValueError(f"{path} has format {written}, newer than this kdlib's {FORMAT}; update kdlib.")
        try:
            # Format 1 had no recipe, and was otherwise the same.
            return cls(**(fields | {"format": FORMAT}))
        except TypeError as error:
            raise ValueError(f"{path} is not a run record ({error}); remove it.") from error


def keep(records: Mapping[str, Sequence[RunRecord]], experiment: str, profile: str) -> int:
    """Write the records of an experiment to ``data/results``, one file a run; return how many were written.

    The quick profile writes nothing: its numbers are shown where they are made and are no evidence beyond.

    Args:
        records: for each label, its runs.
        experiment: name of the folder, such as "01-why-distil".
        profile: of the run.
    """
    if profile == "quick":
        return 0
    folder = results_folder() / experiment / profile
    for label, runs in records.items():
        for run in runs:
            replace(run, label=label, profile=profile).save(folder / f"{_slug(label)}-seed{run.seed}.json")
    return sum(len(runs) for runs in records.values())


def recorded(experiment: str, profile: str) -> dict[str, list[RunRecord]]:
    """The kept runs of an experiment by label, in order of their seeds; empty where none has run yet."""
    runs = [RunRecord.load(path) for path in (results_folder() / experiment / profile).glob("[!.]*.json")]
    by_label: dict[str, list[RunRecord]] = {}
    for run in sorted(runs, key=lambda run: (run.started, run.seed)):
        by_label.setdefault(run.label, []).append(run)
    return {label: sorted(kept, key=lambda run: run.seed) for label, kept in by_label.items()}


def results_folder() -> Path:
    """``data/results`` of the course, or the folder that KDLIB_RESULTS names."""
    return Path(os.environ.get("KDLIB_RESULTS", _ROOT / "data" / "results"))


@dataclass(frozen=True)
class Summary:
    """Mean and sample standard deviation over seeds. Written in per cent: 92.1 ± 0.6 % (4 seeds)."""

    mean: float
    sd: float
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Summary":
        """Of fractions, one per seed.

        Raises:
            ValueError: there is no value.
        """
        if not values:
            raise ValueError("there is nothing to summarise; give one value per seed.")
        sd = statistics.stdev(values) if len(values) > 1 else math.nan
        return cls(statistics.fmean(values), sd, len(values))

    def __str__(self) -> str:
        spread = "" if self.n == 1 else f" ± {100 * self.sd:.1f}"
        return f"{100 * self.mean:.1f}{spread} % ({self.n} seed{'s' * (self.n > 1)})"


@dataclass(frozen=True)
class PairedDifference:
    """Mean difference over the same seeds, with its 95 % interval by Student's t. Written in points."""

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return (
            f"{100 * self.mean:+.1f} points (95 % interval {100 * self.low:+.1f} to {100 * self.high:+.1f})"
        )


def paired_difference(first: Sequence[float], second: Sequence[float]) -> PairedDifference:
    """How much `first` is above `second`, seed by seed.

    Args:
        first, second: fractions; position k of both is from the same seed.

    Raises:
        ValueError: the lengths differ, or there are fewer than two seeds.
    """
    if len(first) != len(second) or len(first) < 2:
        raise ValueError(
            f"there are {len(first)} and {len(second)} values; give as many of each, one per seed, 2 or more."
        )
    # Imported here because scipy.stats takes most of a second, which `import kdlib` should not.
    from scipy import stats

    differences = [a - b for a, b in zip(first, second, strict=True)]
    mean, n = statistics.fmean(differences), len(differences)
    margin = float(stats.t.ppf(0.975, n - 1)) * statistics.stdev(differences) / math.sqrt(n)
    return PairedDifference(mean, mean - margin, mean + margin, n)


@dataclass(frozen=True)
class Table:
    """A small table that a notebook, a page and a terminal each show in their own way."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str

    def _repr_html_(self) -> str:
        head = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in self.header)
        body = "".join(f"<tr>{_html_row(row)}</tr>" for row in self.rows)
        return (
            f'<table class="kdlib-table"><caption>{html.escape(self.caption)}</caption>'
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        )

    def _repr_markdown_(self) -> str:
        lines = [self.header, ("---",) * len(self.header), *self.rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines) + f"\n\n{self.caption}\n"

    def __repr__(self) -> str:
        widths = [max(map(len, column)) for column in zip(self.header, *self.rows, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in (self.header, *self.rows)
        ]
        return "\n".join([self.caption, *lines])


def table(header: Sequence[str], rows: Sequence[Sequence[object]], caption: str) -> Table:
    """A table of anything that can be written as text.

    Raises:
        ValueError: a row has more or fewer cells than the header.
    """
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"the row {list(row)} has {len(row)} cells, and the header {len(header)}.")
    return Table(tuple(header), tuple(tuple(str(cell) for cell in row) for row in rows), caption)


def environment(device: torch.device) -> dict[str, Any]:
    """Versions, device, threads and commit: where a run was made."""
    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else platform.processor() or platform.machine()
    )
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "kdlib": version("kdlib"),
        "commit": _commit(),
        "device": f"{device.type} ({name})",
        "threads": torch.get_num_threads(),
    }


@lru_cache(maxsize=1)
def _commit() -> str | None:
    """The commit of the code, "+" behind it where files differ from it; None outside a git checkout."""
    command = ["git", "-C", str(_ROOT), "describe", "--always", "--abbrev=12", "--dirty=+"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def _html_row(row: Sequence[str]) -> str:
    first, *rest = row
    return f'<th scope="row">{html.escape(first)}</th>' + "".join(
        f"<td>{html.escape(cell)}</td>" for cell in rest
    )


def _rounded(value: Any) -> Any:
    """Floats with six significant digits: more is noise, and records are kept in the repository."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


def _slug(label: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", label.lower()).strip("-")
