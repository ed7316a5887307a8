"""A made-up course of two chapters, one with the library and one without, for the pipeline's tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from made_up_course import make_course

from ci.chapters import Job, Repository, load_chapters, plan_jobs


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A whole small repository: sources only, nothing executed."""
    return make_course(tmp_path)


@pytest.fixture
def job_of(repository: Repository) -> Callable[..., Job]:
    """The job that the present sources give a chapter, by its number."""

    def make(number: str, profile: str = "quick") -> Job:
        jobs = plan_jobs(repository, load_chapters(repository), profile)
        return next(job for job in jobs if job.chapter.number == number)

    return make
