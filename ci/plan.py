"""Which chapters have to be executed, and how they are packed for the machines that execute them."""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ci.chapters import CourseError, Job, Repository, is_current, load_chapters, plan_jobs, select
from ci.execute import expected_seconds

# Checkout, the image and the start of the kernels, beside what the chapters take.
_MINUTES_AROUND = 20
# What is trained before a chapter that reads runs: as much as fits, and the next time goes on from there.
MINUTES_OF_RUNS = 120


@dataclass
class Pack:
    """The chapters that one machine executes, one after the other or side by side.

    Attributes:
        accelerator: "cuda", or "cpu" where the chapters need none.
        jobs: the chapters.
    """

    accelerator: str
    jobs: list[Job] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """How long they are expected to take, one after the other."""
        return sum(expected_seconds(job) for job in self.jobs)

    def entry(self) -> dict[str, object]:
        """The pack as an entry of a workflow's matrix."""
        numbers = " ".join(sorted(job.chapter.number for job in self.jobs))
        return {"chapters": numbers, "accelerator": self.accelerator, "minutes": self.minutes}

    @property
    def minutes(self) -> int:
        """After how many minutes the machine is taken away; every chapter has its own limit before."""
        return math.ceil(sum(map(minutes_at_most, self.jobs))) + _MINUTES_AROUND


def minutes_at_most(job: Job) -> float:
    """The minutes that a chapter can take, with what is trained before it."""
    return job.budget / 60 + (MINUTES_OF_RUNS if job.runs else 0)


def plan(
    repository: Repository,
    profile: str,
    wanted: str,
    machines: int,
    since: str | None,
    gpu_hours: float = math.inf,
) -> dict[str, Any]:
    """The matrix of a workflow, an entry for each machine, and the numbers of its chapters, or "none".

    Args:
        repository: the present sources.
        profile: to execute in.
        wanted: chapters by number or slug, or "all".
        machines: at most so many for each kind of accelerator.
        since: a commit: only chapters whose outputs could differ from those of its sources.
        gpu_hours: at most so many on all GPUs together, by what the chapters may take at most. What does not
            fit is left for the next time, the longest first.

    Raises:
        CourseError: the request names what is not there.
    """
    if machines < 1:
        raise CourseError(f"{machines} machines cannot execute anything: give 1 or more.")
    if not gpu_hours >= 0:
        raise CourseError(f"{gpu_hours} GPU hours are no limit: give 0 or more.")
    chosen = select(load_chapters(repository), wanted)
    jobs = plan_jobs(repository, chosen, profile)
    before = {} if since is None else keys_at(repository, profile, since)
    stale = [job for job in jobs if before.get(job.chapter.slug) != job.key and not is_current(job)]
    now = within(stale, gpu_hours)
    for job in stale:
        if job not in now:
            print(f"{job.chapter.slug} is left for the next time: {gpu_hours:g} GPU hours.", file=sys.stderr)
    numbers = " ".join(sorted(job.chapter.number for job in now)) or "none"
    return {"matrix": {"include": [pack.entry() for pack in packed(now, machines)]}, "chapters": numbers}


def within(jobs: Sequence[Job], gpu_hours: float) -> list[Job]:
    """The jobs without those for which so many hours on GPUs do not suffice; the shortest come first."""
    left, kept = 60 * gpu_hours, []
    for job in sorted(jobs, key=minutes_at_most):
        minutes = minutes_at_most(job) + _MINUTES_AROUND if job.accelerator == "cuda" else 0
        if minutes <= left:
            left -= minutes
            kept.append(job)
    return kept


def packed(jobs: Sequence[Job], machines: int) -> list[Pack]:
    """The jobs in packs of about the same time: the longest first, each to the pack that has least."""
    packs: list[Pack] = []
    for accelerator in sorted({job.accelerator for job in jobs}):
        own = [job for job in jobs if job.accelerator == accelerator]
        bins = [Pack(accelerator) for _ in range(min(machines, len(own)))]
        for job in sorted(own, key=lambda job: (-expected_seconds(job), job.chapter.slug)):
            min(bins, key=lambda pack: pack.seconds).jobs.append(job)
        packs += bins
    return packs


def keys_at(repository: Repository, profile: str, commit: str) -> dict[str, str]:
    """The key that each chapter had with the sources of a commit; none where it could not be planned."""
    with checked_out(repository, commit) as folder:
        earlier = Repository(folder)
        try:
            jobs = plan_jobs(earlier, load_chapters(earlier), profile)
        except (CourseError, OSError):
            return {}
        return {job.chapter.slug: job.key for job in jobs}


@contextmanager
def checked_out(repository: Repository, commit: str) -> Iterator[Path]:
    """The files of a commit in a folder of their own."""
    git = ["git", "-C", str(repository.root), "worktree"]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch).resolve() / "sources"
        command = [*git, "add", "--quiet", "--detach", str(folder), commit]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            reason = done.stderr.strip().splitlines()[-1:] or ["git is not here"]
            raise CourseError(
                f"The sources of {commit!r} cannot be had ({reason[0]}): fetch that commit first."
            )
        try:
            yield folder
        finally:
            subprocess.run([*git, "remove", "--force", str(folder)], capture_output=True)
