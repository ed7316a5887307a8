"""Time what the reader waits for, by running the real commands."""

from __future__ import annotations

import datetime
import json
import shutil
import subprocess
import sys
import time

from ci.chapters import Notebook, Repository, course_metadata, load_chapters, read_notebook


def bench(repository: Repository) -> int:
    """Print the table of times in seconds and write it to _build/bench.json; takes a few minutes."""
    rows = {"import kdlib, on top of torch": import_time(repository)}
    shutil.rmtree(repository.build / "executed" / "quick", ignore_errors=True)
    rows["make book, every chapter to execute"] = seconds(repository, "ci", "book")
    rows["make book, nothing changed"] = seconds(repository, "ci", "book")
    for chapter in load_chapters(repository):
        executed = read_notebook(repository.executed("quick", chapter.slug))
        rows[f"{chapter.slug}, whole"] = course_metadata(executed)["seconds"]
        rows[f"{chapter.slug}, to its first figure"] = first_figure(executed)
    for name, value in rows.items():
        print(f"{name:<60} {value:8.1f} s")
    (repository.build / "bench.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return 0


def seconds(repository: Repository, *module: str) -> float:
    """The wall time of `python -m …` from start to exit."""
    started = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", *module], cwd=repository.root, stdout=subprocess.DEVNULL, check=True
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
                executed["metadata"]["papermill"]["start_time"], cell["metadata"]["papermill"]["end_time"]
            )
    raise ValueError("the chapter shows no figure: add its signature figure.")


def elapsed(start: str, end: str) -> float:
    """The seconds between two times in ISO format."""
    times = [datetime.datetime.fromisoformat(time) for time in (start, end)]
    return round((times[1] - times[0]).total_seconds(), 1)
