"""What the reader waits for: the real commands, timed."""

from __future__ import annotations

import datetime
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass

from ci.bench.report import Part
from ci.chapters import (
    Notebook,
    Repository,
    course_metadata,
    load_chapters,
    read_notebook,
)

# What each command may take on two cores, in seconds; a chapter's limit is its budget.
LIMITS = {"import": 1.0, "book": 240.0, "unchanged": 10.0, "figure": 10.0}


@dataclass(frozen=True)
class Timing:
    """One line of the table: what was timed, how long it took, and how long it may take."""

    what: str
    seconds: float
    limit: float


def time_commands(repository: Repository) -> list[Timing]:
    """Import, build, rebuild, and every chapter to its end and to its first figure; takes a few minutes."""
    timings = [Timing("import kdlib, on top of torch", import_time(repository), LIMITS["import"])]
    shutil.rmtree(repository.build / "executed" / "quick", ignore_errors=True)
    whole, unchanged = (seconds(repository, "ci", "book") for _ in range(2))
    timings += [
        Timing("make book, every chapter to execute", whole, LIMITS["book"]),
        Timing("make book, nothing changed", unchanged, LIMITS["unchanged"]),
    ]
    for chapter in load_chapters(repository):
        executed = read_notebook(repository.executed("quick", chapter.slug))
        taken = float(course_metadata(executed)["seconds"])
        timings += [
            Timing(f"{chapter.slug}, whole", taken, chapter.budget["quick"]),
            Timing(
                f"{chapter.slug}, to its first figure",
                first_figure(executed),
                LIMITS["figure"],
            ),
        ]
    return timings


def bench(repository: Repository) -> Part:
    """Time the commands; each has a limit."""
    timings = time_commands(repository)
    lines = []
    for timing in timings:
        over = "  over" if timing.seconds > timing.limit else ""
        lines.append(f"{timing.what:<55} {timing.seconds:7.1f} s of {timing.limit:4.0f} s{over}")
    return Part(lines, [asdict(timing) for timing in timings])


def seconds(repository: Repository, *module: str) -> float:
    """The wall time of `python -m …` from start to exit."""
    started = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", *module],
        cwd=repository.root,
        stdout=sys.stderr,  # what the command says of its progress
        check=True,
    )
    return round(time.monotonic() - started, 2)


def import_time(repository: Repository) -> float:
    """What `import kdlib` costs a program that has imported torch: the median of three fresh processes."""
    program = "import time, torch; t = time.monotonic(); import kdlib; print(time.monotonic() - t)"
    command = [sys.executable, "-c", program]
    times = [
        float(subprocess.run(command, cwd=repository.root, capture_output=True, text=True, check=True).stdout)
        for _ in range(3)
    ]
    return round(sorted(times)[1], 2)


def first_figure(executed: Notebook) -> float:
    """Seconds from the start of the kernel to the first output that is a picture or a live figure."""
    for cell in executed["cells"]:
        shown = [mime for output in cell.get("outputs", []) for mime in output.get("data", {})]
        if any(mime.startswith("image/") or "widget-view" in mime for mime in shown):
            return elapsed(
                executed["metadata"]["papermill"]["start_time"],
                cell["metadata"]["papermill"]["end_time"],
            )
    raise ValueError("the chapter shows no figure: add its signature figure.")


def elapsed(start: str, end: str) -> float:
    """The seconds between two times in ISO format."""
    times = [datetime.datetime.fromisoformat(time) for time in (start, end)]
    return round((times[1] - times[0]).total_seconds(), 1)
