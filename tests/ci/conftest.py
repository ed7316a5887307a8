"""A made-up course of two chapters, one with the library and one without, for the pipeline's tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from made_up_course import CHAPTERS, CONFIGURATION, CONTENTS, chapter_cells, write_notebook

from ci.chapters import Job, Repository, load_chapters, plan_jobs


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A whole small repository: sources only, nothing executed."""
    texts = {
        "book/chapters.yml": CHAPTERS,
        "book/_toc.yml": CONTENTS,
        "book/intro.md": "# Made up\n",
        "_config.yml": CONFIGURATION,
        "ci/requirements/book.txt": "torch==2.0\n",
        "kdlib/__init__.py": "answer = 42\n",
        "data/results/02-library/quick/run.json": "{}\n",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    write_notebook(tmp_path / "book/01-alone.ipynb", *chapter_cells("Alone", "print('seed', seed)"))
    library = chapter_cells("Library", "import kdlib\n\nkdlib.answer", "runs = 'results of', '02-library'")
    write_notebook(tmp_path / "book/02-library.ipynb", *library)
    return Repository(tmp_path)


@pytest.fixture
def job_of(repository: Repository) -> Callable[..., Job]:
    """The job that the present sources give a chapter, by its number."""

    def make(number: str, profile: str = "quick") -> Job:
        jobs = plan_jobs(repository, load_chapters(repository), profile)
        return next(job for job in jobs if job.chapter.number == number)

    return make
