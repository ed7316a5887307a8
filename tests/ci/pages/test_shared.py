"""The chapters as they are shared: with outputs, pinned to their commit, and harmless to run."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from made_up_course import chapter_cells, code, write_notebook

from ci.chapters import Job, Repository, read_notebook, source_of
from ci.execute import find_whole_commit
from ci.notebooks import ADDRESS, SETUP
from ci.pages import build, shared

JobOf = Callable[..., Job]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def executed(repository: Repository, job_of: JobOf) -> Repository:
    """A chapter with a set-up cell, executed with other parameters than its own."""
    title, *others = chapter_cells("Alone", "print('seed', seed)")
    cells = [title, code("setup", SETUP, "setup"), *others]
    write_notebook(repository.book / "01-alone.ipynb", *cells)
    job = job_of("01", "short")
    job.output.parent.mkdir(parents=True, exist_ok=True)
    cells.insert(3, code("a1b2", '# Parameters\nprofile = "short"\nseed = 7\n', "injected-parameters"))
    cells[-1] |= {"outputs": [{"output_type": "stream", "name": "stdout", "text": "seed 7"}]}
    write_notebook(job.output, *cells)
    notebook = read_notebook(job.output)
    notebook["metadata"]["course"] = {"key": job.key}
    job.output.write_text(json.dumps(notebook))
    return repository


def cells_of(repository: Repository, slug: str = "01-alone") -> dict[str, dict[str, Any]]:
    return {cell["id"]: cell for cell in read_notebook(repository.notebooks / f"{slug}.ipynb")["cells"]}


def test_a_chapter_has_its_outputs_and_installs_its_own_version(executed: Repository, job_of: JobOf) -> None:
    shared.write_notebooks(executed, [job_of("01", "short")], COMMIT)
    cells = cells_of(executed)
    assert cells["step-1"]["outputs"][0]["text"] == "seed 7"
    assert cells["setup"]["source"] == SETUP.replace(ADDRESS, f"{ADDRESS}@{COMMIT}") != SETUP
    shared.write_notebooks(executed, [job_of("01", "short")], None)
    assert cells_of(executed)["setup"]["source"] == SETUP, "a commit that nobody has cannot be installed"


def test_the_parameters_that_ran_are_told_and_not_run_again(executed: Repository, job_of: JobOf) -> None:
    shared.write_notebooks(executed, [job_of("01", "short")], COMMIT)
    cells = cells_of(executed)
    assert [name for name, cell in cells.items() if cell["cell_type"] == "code"] == [
        "setup",
        "parameters",
        "step-1",
    ]
    assert 'profile = "short"\nseed = 7' in cells["parameters-that-ran"]["source"]
    assert source_of(cells["parameters"]).startswith('profile = "quick"')


def test_the_page_and_its_download_are_pinned_where_a_commit_is_given(
    executed: Repository, job_of: JobOf
) -> None:
    job_of("01", "short").output.unlink()
    for commit, pinned in ((COMMIT, True), (None, False)):
        stage = executed.build / "stage" / str(commit)
        build.stage_sources(executed, [job_of("01", "short")], stage, commit)
        assert (f"@{COMMIT}" in (stage / "01-alone.ipynb").read_text()) == pinned


def test_only_sources_that_are_committed_have_a_commit(repository: Repository) -> None:
    assert find_whole_commit(repository) is None, "not in git"
    git = ["git", "-C", str(repository.root), "-c", "user.name=T", "-c", "user.email=t@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "as it is"]):
        subprocess.run([*git, *command], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout
    assert find_whole_commit(repository) == head.strip()
    (repository.book / "intro.md").write_text("# Changed\n")
    assert find_whole_commit(repository) is None
