"""From what the machines executed to pages: every notebook checked against the sources, and one archive."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ci.chapters import (
    BuildError,
    Job,
    Notebook,
    Repository,
    course_metadata,
    load_chapters,
    plan_jobs,
    read_notebook,
)
from ci.execute import find_commit, show, write_whole
from ci.offline import pack
from ci.pages import build_pages
from ci.status import bounds, claims_of


def assemble(repository: Repository, profile: str, folders: Sequence[Path]) -> None:
    """Take in the executed notebooks below some folders, check every claim, build pages and the archive.

    A chapter that is missing or is of other sources does not stop the others; its page says that it is not
    from the present sources.

    Raises:
        BuildError: a chapter of the present sources is missing, or a claim does not hold; by then everything
            that could be built has been built.
    """
    jobs = plan_jobs(repository, load_chapters(repository), profile)
    faults = []
    for job in jobs:
        faults += take_in(job, folders)
    build_pages(repository, jobs)
    show(f"The pages as one archive: {archive(repository)}")
    if faults:
        raise BuildError("\n".join(faults))


def take_in(job: Job, folders: Sequence[Path]) -> list[str]:
    """Put a chapter's executed notebook in its place, and return what is wrong with it, in sentences."""
    name = f"{job.chapter.slug}.ipynb"
    handed_in = sorted(
        path
        for folder in folders
        for path in folder.rglob(name)
        if path.parent.name == job.profile and path.parent.parent.name != "failed"
    )
    candidates = [*handed_in, job.output]
    faults = [fault_of(job, path) for path in candidates]
    if None not in faults:
        fault = f"the executed notebook {faults[0]}; execute it in profile {job.profile}."
        return [f"{job.chapter.slug}: {fault}"]
    write_whole(job.output, candidates[faults.index(None)].read_bytes())
    return [f"{job.chapter.slug}: {claim}" for claim in broken_claims(read_notebook(job.output))]


def fault_of(job: Job, path: Path) -> str | None:
    """Why a notebook is not the job's execution, or None; a failed one has the same key as one that is."""
    if not path.is_file():
        return "was not handed in"
    notebook = read_notebook(path)
    if course_metadata(notebook).get("key") != job.key:
        return f"is of other sources ({path})"
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    if any(output["output_type"] == "error" for output in outputs):
        return f"ended in an error ({path})"
    return None


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
