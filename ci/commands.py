"""The commands that need the course's environment."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from ci import chapters, execute
from ci.chapters import BuildError, CourseError, Job, Repository
from ci.execute import Outcome
from ci.machine import find_device, why_no_gpu
from ci.pages import build


def run(root: Path, options: argparse.Namespace) -> int:
    """Run one command and return its exit code; a mistake in the request is one sentence and code 2."""
    repository = Repository(root)
    try:
        match options.command:
            case "book":
                return book(repository, options.profile, options.chapters)
            case "plan":
                from ci import plan

                print(json.dumps(plan.plan(repository, **matrix_of(options))))
                return 0
            case "execute":
                return execute_only(repository, options)
            case "assemble":
                from ci import assemble

                assemble.assemble(repository, options.profile, options.folders, options.chapters)
                return 0
            case "offline":
                from ci.pages import offline

                return book(repository, "quick", "all") or offline.offline(repository)
            case "pdf":
                from ci.pages import printed

                return book(repository, "quick", "all") or printed.pdf(repository)
            case "test":
                from ci import check

                return check.run_all(repository, options.only)
            case "kd":
                kd = [sys.executable, "-m", "kdlib.cli", *options.rest]
                return subprocess.run(kd, cwd=root).returncode
            case "notebooks":
                from ci import notebooks

                return notebooks.lint_all(repository, fix=options.fix)
            case "chapter":
                return new_chapter(repository, options.title)
            case "bench":
                from ci import bench

                return bench.bench(repository, options.only, options.keep)
            case "address":
                from ci import address

                return address.move(repository, options.new)
            case "pre-commit":
                return subprocess.run([sys.executable, "-m", "pre_commit", "install"], cwd=root).returncode
            case "picture":
                from ci import picture

                return picture.refresh(repository)
            case "pins":
                from ci import pins

                return pins.refresh(root, upgrade=options.upgrade)
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
    outcomes = execute_stale(repository, [job for job in jobs if job.chapter in chosen])
    if any(outcome.failure for outcome in outcomes):
        if repository.html.exists():
            print("The last good pages stay as they were.", file=sys.stderr)
        return 1
    build.build_pages(repository, jobs)
    for outcome in outcomes:
        if outcome.seconds > outcome.budget:
            print(f"Over budget: {outcome.slug} took {outcome.seconds:.0f} s of {outcome.budget:.0f} s.")
    address = (repository.html / "index.html").as_uri()
    print(f"Done in {time.monotonic() - started:.1f} s. Open in a browser: {address}")
    return 0


def new_chapter(repository: Repository, title: str) -> int:
    """Make a chapter from the template, and say what was made and what to run next."""
    from ci import scaffold

    made = [path.relative_to(repository.root).as_posix() for path in scaffold.make_chapter(repository, title)]
    print("\n".join(made))
    number = made[0].removeprefix("book/")[:2]
    print(f'Write your chapter over it, and look at it with: make book CHAPTERS="{number}"')
    return 0


def execute_only(repository: Repository, options: argparse.Namespace) -> int:
    """Execute the chapters that are not current, each within its budget, and build no pages.

    The records that are new then are packed, whatever became of the chapters.
    """
    from ci import handing, prepare

    try:
        if options.accelerator == "cuda" and find_device() == "CPU":
            raise BuildError(f"These chapters need a GPU, and torch sees none: {why_no_gpu()}")
        chosen = chapters.select(chapters.load_chapters(repository), options.chapters)
        jobs = chapters.plan_jobs(repository, chosen, options.profile)
        stale = [job for job in jobs if not chapters.is_current(job)]
        faults = {job.chapter.slug: prepare.lacking(repository, job) for job in stale}
        for said in filter(None, faults.values()):
            print(f"\n{said}", file=sys.stderr)
        outcomes = execute_stale(repository, [job for job in jobs if not faults.get(job.chapter.slug)], 1.0)
        return 1 if any(faults.values()) or any(outcome.failure for outcome in outcomes) else 0
    finally:
        handing.pack(repository)


def execute_stale(
    repository: Repository, jobs: list[Job], limit: float = execute.LIMIT_IN_BUDGETS
) -> list[Outcome]:
    """Execute the jobs that are not current, and print what failed."""
    stale = [job for job in jobs if not chapters.is_current(job)]
    print(
        f"{len(jobs) - len(stale)} of {len(jobs)} chapters are current; {len(stale)} to execute.", flush=True
    )
    outcomes = execute.execute(repository, stale, limit)
    for outcome in outcomes:
        if outcome.failure:
            text = outcome.failure
            print(f"\n{text if sys.stderr.isatty() else execute.without_colour(text)}", file=sys.stderr)
    return outcomes


def matrix_of(options: argparse.Namespace) -> dict[str, Any]:
    """What `plan.plan` is asked for."""
    return {
        "profile": options.profile,
        "wanted": options.chapters,
        "machines": options.machines,
        "since": options.since,
        "gpu_hours": options.gpu_hours,
    }


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
