"""The commands that need the course's environment."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from ci import chapters, execute, pages
from ci.chapters import BuildError, CourseError, Repository


def run(root: Path, options: argparse.Namespace) -> int:
    """Run one command and return its exit code; a mistake in the request is one sentence and code 2."""
    repository = Repository(root)
    try:
        match options.command:
            case "book":
                return book(repository, options.profile, options.chapters)
            case "test":
                from ci import check

                return check.run_all(repository)
            case "notebooks":
                from ci import notebooks

                return notebooks.lint_all(repository, fix=options.fix)
            case "bench":
                from ci import bench

                return bench.bench(repository, options.only)
            case "picture":
                from ci import picture

                return picture.refresh(repository)
            case "pins":
                from ci import pins

                return pins.refresh(root)
            case _:
                return lab(repository)
    except CourseError as error:
        print(error, file=sys.stderr)
        return 2
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped; what was finished before is kept.", file=sys.stderr)
        return 130


def book(repository: Repository, profile: str, wanted: str) -> int:
    """Execute the chapters that are not current, build the pages, and say where they are."""
    started = time.monotonic()
    every = chapters.load_chapters(repository)
    jobs = chapters.plan_jobs(repository, every, profile)
    chosen = chapters.select(every, wanted)
    stale = [job for job in jobs if job.chapter in chosen and not chapters.is_current(job)]
    print(
        f"{len(chosen) - len(stale)} of {len(chosen)} chapters are current; {len(stale)} to execute.",
        flush=True,
    )
    outcomes = execute.execute(repository, stale)
    failures = [outcome.failure for outcome in outcomes if outcome.failure]
    for failure in failures:
        text = failure if sys.stderr.isatty() else execute.without_colour(failure)
        print(f"\n{text}", file=sys.stderr)
    if failures:
        if repository.html.exists():
            print("The last good pages stay as they were.", file=sys.stderr)
        return 1
    pages.build_pages(repository, jobs)
    for outcome in outcomes:
        if outcome.seconds > outcome.budget:
            print(f"Over budget: {outcome.slug} took {outcome.seconds:.0f} s of {outcome.budget:.0f} s.")
    address = (repository.html / "index.html").as_uri()
    print(f"Done in {time.monotonic() - started:.1f} s. Open in a browser: {address}")
    return 0


def lab(repository: Repository) -> int:
    """Open JupyterLab on the chapters, in the environment that the build uses."""
    environment = os.environ | execute.kernel_environment(repository.root)
    environment.pop("OMP_NUM_THREADS", None)  # here one chapter runs at a time
    command = [sys.executable, "-m", "jupyter", "lab", str(repository.book)]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")  # in a container; without it JupyterLab refuses to start
    try:
        return subprocess.run(command, env=environment).returncode
    except KeyboardInterrupt:
        return 0
