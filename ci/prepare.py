"""What has to be on a machine before a chapter is executed: its data sets, and the runs that it reads."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from functools import cache

from ci.chapters import BuildError, Job, Repository, data_sets
from ci.execute import show
from ci.plan import MINUTES_OF_RUNS


def lacking(repository: Repository, job: Job) -> str | None:
    """Fetch and train what the chapter needs; why it cannot be executed here all the same, or None.

    Data sets go where KDLIB_DATA says, and runs where KDLIB_RUNS does: on a runner both are on a volume that
    outlives the checkout, so that the next job finds them.
    """
    for name in job.data:
        if said := fetched(repository, name):
            return f"{job.chapter.slug} needs the data set {name}, which is not here: {said}"
    end = time.monotonic() + 60 * MINUTES_OF_RUNS
    for pattern in job.runs:
        show(f"{job.chapter.slug} reads the runs {pattern}: training what is left of them …")
        minutes = max(1.0, (end - time.monotonic()) / 60)
        asked = ["--profile", job.profile, "--minutes", f"{minutes:.1f}"]
        if said := failure_of(repository, "run", pattern, *asked):
            return f"{job.chapter.slug} reads the runs {pattern}, which are not all there: {said}"
    return None


def fetched(repository: Repository, name: str) -> str:
    """Fetch a data set unless it is here; why it cannot be had, or nothing."""
    here = data_here(repository)
    if name in here:
        return ""
    show(f"Fetching the data set {name}, once for this machine …")
    said = failure_of(repository, "data", "get", name)
    # An archive is compared with its checksum; where none is published, there is the number of images.
    if not said and "md5" not in data_sets(repository)[name]:
        said = failure_of(repository, "data", "check", name)
    if not said:
        here.add(name)
    return said


@cache
def data_here(repository: Repository) -> set[str]:
    """The data sets that are on this machine."""
    command = [sys.executable, "-m", "kdlib.cli", "data", "list", "--json"]
    listed = subprocess.run(command, cwd=repository.root, stdout=subprocess.PIPE)
    if listed.returncode != 0:
        raise BuildError("The folder of data sets cannot be read: kd says above why.")
    return {found["name"] for found in json.loads(listed.stdout)["data_sets"] if found["here"]}


def failure_of(repository: Repository, *words: str) -> str:
    """Run `kd`, which shows what it does; what it said last if it failed, else nothing."""
    command = [sys.executable, "-m", "kdlib.cli", *words]
    kd = subprocess.Popen(
        command, cwd=repository.root, stderr=subprocess.PIPE, encoding="utf-8", errors="replace"
    )
    last = ""
    for line in kd.stderr or ():
        print(line, end="", file=sys.stderr, flush=True)
        last = line.strip() or last
    if kd.wait() == 0:
        return ""
    return last.removeprefix("error: ") or f"exit code {kd.returncode}"
