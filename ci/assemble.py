"""From what the machines executed to pages: every notebook checked against the sources, and one archive."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ci import handing
from ci.chapters import (
    BuildError,
    CourseError,
    Job,
    Notebook,
    Repository,
    course_metadata,
    has_error,
    load_chapters,
    plan_jobs,
    read_notebook,
    select,
)
from ci.execute import find_commit, find_whole_commit, show, write_whole
from ci.pages.build import build_pages, last_execution
from ci.pages.offline import pack
from ci.pages.shared import write_notebooks
from ci.pages.status import bounds, claims_of


def assemble(repository: Repository, profile: str, folders: Sequence[Path], asked: str = "all") -> None:
    """Take in notebooks and records below some folders, check every claim, build pages and the archive.

    A chapter that is missing or is of other sources does not stop the others; its page says that it is not
    from the present sources.

    Args:
        repository: the present sources, and what was executed of them before.
        profile: of the pages.
        folders: a folder for each machine that handed something in.
        asked: the chapters that had to be executed, as `select` takes them; others may be of other sources.

    Raises:
        BuildError: a chapter that was asked for is missing, a claim does not hold, or records cannot be
            taken; by then everything that could be built has been built. Or no chapter was ever executed:
            then there are no pages, so that public ones are not replaced by empty ones.
    """
    chapters = load_chapters(repository)
    chosen = select(chapters, asked)
    jobs = plan_jobs(repository, chapters, profile)
    faults = list(handing.take_in(repository, folders)) if folders else []
    for job in jobs:
        faults += take_in(job, folders, is_asked=job.chapter in chosen)
    handing.pack(repository)
    if not any(last_execution(repository, job) for job in jobs):
        faults.append("No chapter was ever executed here, so there are no pages: start the workflow `gpu`.")
        raise BuildError("\n".join(faults))
    commit = find_whole_commit(repository)
    build_pages(repository, jobs, commit)
    write_notebooks(repository, jobs, commit)
    show(f"The pages as one archive: {archive(repository)}")
    if faults:
        raise BuildError("\n".join(faults))


def take_in(job: Job, folders: Sequence[Path], *, is_asked: bool) -> list[str]:
    """Put a chapter's executed notebook in its place, and return what is wrong with it, in sentences."""
    name = f"{job.chapter.slug}.ipynb"
    handed_in = sorted(
        path
        for folder in folders
        for path in folder.rglob(name)
        if path.parent.name == job.profile and path.parent.parent.name != "failed"
    )
    candidates = [*handed_in, job.output]
    faults = {path: fault_of(job, path) for path in candidates}
    good = [path for path, fault in faults.items() if fault is None]
    if not good:
        # One that was handed in and is not good is always told; one that nobody was asked for may be missing.
        told = faults[handed_in[0]] if handed_in else _not_handed_in(job)
        return [f"{job.chapter.slug}: {told}"] if is_asked or handed_in else []
    write_whole(job.output, good[0].read_bytes())
    return []


def fault_of(job: Job, path: Path) -> str | None:
    """Why a notebook is not the job's execution, in a sentence, or None.

    One that failed has the same key as one that did not.
    """
    if not path.is_file():
        return _not_handed_in(job)
    again = f"execute it in profile {job.profile}."
    try:
        notebook = read_notebook(path)
    except CourseError:
        return f"the executed notebook was cut short or damaged ({path}); {again}"
    if course_metadata(notebook).get("key") != job.key:
        return f"the executed notebook is of other sources ({path}); {again}"
    if has_error(notebook):
        return f"the executed notebook ended in an error ({path}); {again}"
    return " ".join(broken_claims(notebook)) or None


def _not_handed_in(job: Job) -> str:
    return f"the executed notebook was not handed in; execute it in profile {job.profile}."


def broken_claims(notebook: Notebook) -> list[str]:
    """The claims whose value is outside their bounds, in sentences."""
    return [
        f"the claim {claim['sentence']!r} has the value {claim['value']:.4g}, not {bounds(claim)}."
        for claim in claims_of(notebook)
        if not _least(claim) <= claim["value"] <= _most(claim)
    ]


def _least(claim: dict[str, Any]) -> float:
    return -math.inf if claim.get("at_least") is None else float(claim["at_least"])


def _most(claim: dict[str, Any]) -> float:
    return math.inf if claim.get("at_most") is None else float(claim["at_most"])


def archive(repository: Repository) -> Path:
    """The pages as `make offline` packs them, named by the commit, with their SHA-256 beside them."""
    commit = find_commit(repository).replace("+", "-changed").replace(" ", "-")
    target = repository.build / f"course-{commit}.zip"
    pack(repository.html, target)
    digest = hashlib.sha256(target.read_bytes()).hexdigest()
    write_whole(target.with_name(f"{target.name}.sha256"), f"{digest}  {target.name}\n".encode())
    return target
