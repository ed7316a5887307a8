"""Every solution in the book solves its exercise: each chapter is executed with the solutions in place."""

from __future__ import annotations

import json

import pytest
from made_up_course import ROOT

from ci.chapters import Chapter, Repository, load_chapters, read_notebook
from ci.execute import kernel_environment
from ci.notebooks import with_solutions

REPOSITORY = Repository(ROOT)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("chapter", load_chapters(REPOSITORY), ids=lambda chapter: chapter.slug)
def test_every_solution_is_accepted(chapter: Chapter, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    for name, value in kernel_environment(ROOT).items():
        monkeypatch.setenv(name, value)
    solved = nbformat.reads(json.dumps(with_solutions(read_notebook(chapter.source))), as_version=4)
    resources = {"metadata": {"path": str(REPOSITORY.book)}}
    NotebookClient(solved, timeout=300, kernel_name="python3", resources=resources).execute()
