"""What a page is made of, and that the last good pages stay until better ones are finished."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from made_up_course import chapter_cells, code, keep_record, markdown, write_notebook

from ci.chapters import WIDGET_VIEW, BuildError, Job, Repository
from ci.pages import build
from ci.pages.status import CLAIM

JobOf = Callable[..., Job]


def keep_execution(job: Job, *cells: dict[str, Any], key: str | None = None) -> None:
    """Write an execution as papermill would have left it, with `out` and its number as each cell's output."""
    job.output.parent.mkdir(parents=True, exist_ok=True)
    write_notebook(job.output, *cells)
    notebook = json.loads(job.output.read_text())
    runs = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for number, cell in enumerate(runs, start=1):
        cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": f"out {number}"}]
        cell["execution_count"] = number
    notebook["metadata"]["widgets"] = {"state": {}}
    notebook["metadata"]["course"] = {
        "key": key or job.key,
        "profile": job.profile,
        "parameters": job.parameters,
        "started": "2026-11-21T10:00:00+00:00",
        "seconds": 1.5,
        "budget": 60,
        "device": "CPU",
        "commit": "abc1234",
        "versions": {"python": "3.11.7", "torch": "2.0"},
    }
    job.output.write_text(json.dumps(notebook))


def staged(repository: Repository, jobs: list[Job], slug: str) -> dict[str, Any]:
    """A chapter as Jupyter Book gets it."""
    stage = repository.build / "stage"
    build.stage_sources(repository, jobs, stage)
    notebook: dict[str, Any] = json.loads((stage / f"{slug}.ipynb").read_text())
    return notebook


def outputs(notebook: dict[str, Any]) -> dict[str, list[str]]:
    """What each code cell of a page shows."""
    code_cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return {cell["id"]: [output["text"] for output in cell["outputs"]] for cell in code_cells}


def text_of(notebook: dict[str, Any]) -> str:
    return "\n".join(cell["source"] for cell in notebook["cells"])


@pytest.fixture
def fake_sphinx(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Jupyter Book replaced by a copy of its sources; the list grows by one stage per run."""
    runs: list[Path] = []

    def copied(_: Repository, stage: Path, output: Path) -> Path:
        runs.append(stage)
        output.mkdir(parents=True)
        (output / "index.html").write_text((stage / "intro.md").read_text())
        return output

    monkeypatch.setattr(build, "run_jupyter_book", copied)
    return runs


def test_outputs_are_merged_into_the_present_text(repository: Repository, job_of: JobOf) -> None:
    keep_execution(job_of("01"), *chapter_cells("Alone, before", "print('seed', seed)"))
    page = staged(repository, [job_of("01")], "01-alone")
    assert page["cells"][0]["source"] == "# Alone"
    assert outputs(page) == {"parameters": ["out 1"], "step-1": ["out 2"]}
    assert "widgets" not in page["metadata"]
    assert "execution-note" not in [cell["id"] for cell in page["cells"]]


def test_progress_bars_and_claims_data_are_not_for_the_page(repository: Repository, job_of: JobOf) -> None:
    bar = {
        WIDGET_VIEW: {"model_id": "a"},
        "text/plain": "training:   0%|          | 0/30 [00:00<?, ?epoch/s]",
    }
    figure = {WIDGET_VIEW: {"model_id": "b"}, "text/plain": "TemperatureFigure()", "text/html": "<figure>"}
    claim = {CLAIM: {"sentence": "One", "value": 1.0, "at_least": 1.0}, "text/html": "<p>"}
    keep_execution(job_of("01"), *chapter_cells("Alone", "print('seed', seed)"))
    last = json.loads(job_of("01").output.read_text())
    last["cells"][-1]["outputs"] = [
        {"output_type": "display_data", "data": data} for data in (bar, figure, claim)
    ]
    job_of("01").output.write_text(json.dumps(last))
    page = staged(repository, [job_of("01")], "01-alone")
    assert [output["data"] for output in page["cells"][-1]["outputs"]] == [figure, {"text/html": "<p>"}]


def test_the_parameters_that_ran_stand_below_the_defaults(repository: Repository, job_of: JobOf) -> None:
    cells = chapter_cells("Alone", "print('seed', seed)")
    cells.insert(2, code("a1b2", "seed = 7", "injected-parameters"))
    keep_execution(job_of("01", "short"), *cells)
    page = staged(repository, [job_of("01", "short")], "01-alone")
    assert [cell["id"] for cell in page["cells"]] == ["title", "parameters", "a1b2", "step-1"]


def test_a_stale_page_says_so_and_hides_what_changed(repository: Repository, job_of: JobOf) -> None:
    keep_execution(job_of("01"), *chapter_cells("Alone", "print('another')"), key="another")
    page = staged(repository, [job_of("01")], "01-alone")
    assert outputs(page) == {"parameters": ["out 1"], "step-1": []}
    assert "earlier execution (profile `quick`, 2026-11-21)" in page["cells"][1]["source"]
    assert 'make book PROFILE=quick CHAPTERS="01"' in page["cells"][1]["source"]


def test_a_chapter_never_executed_says_so(repository: Repository, job_of: JobOf) -> None:
    page = staged(repository, [job_of("01")], "01-alone")
    assert "has not been executed" in page["cells"][1]["source"]
    status = (repository.build / "stage/status.md").read_text()
    assert "| [Alone](01-alone.ipynb) | not run yet |" in status


def test_an_execution_that_failed_is_never_shown_wherever_it_comes_from(
    repository: Repository, job_of: JobOf
) -> None:
    job = job_of("01")
    keep_execution(job, *chapter_cells("Alone", "print('seed', seed)"))
    assert build.last_execution(repository, job) is not None
    job.output.write_text(
        job.output.read_text().replace('"output_type": "stream"', '"output_type": "error"', 1)
    )
    assert build.last_execution(repository, job) is None


def test_another_profiles_results_are_shown_rather_than_none(repository: Repository, job_of: JobOf) -> None:
    keep_execution(job_of("01"), *chapter_cells("Alone", "print('seed', seed)"))
    page = staged(repository, [job_of("01", "short")], "01-alone")
    assert outputs(page)["step-1"] == ["out 2"]
    assert "(profile `quick`" in page["cells"][1]["source"]


def test_recorded_numbers_lead_to_pages_that_are_in_the_contents(
    repository: Repository, job_of: JobOf
) -> None:
    keep_record(repository.root / "data" / "results", "01-alone/short/taught", 0)
    keep_execution(job_of("01"), *chapter_cells("Alone", "print('seed', seed)"))
    last = json.loads(job_of("01").output.read_text())
    table = [
        '<table class="kdlib-table"><thead><tr><th scope="col">student</th>',
        '<th scope="col">recorded (short)</th></tr></thead>',
        '<tbody><tr><th scope="row">taught</th><td>80 %</td></tr></tbody></table>',
    ]
    last["cells"][-1]["outputs"] = [{"output_type": "display_data", "data": {"text/html": table}}]
    job_of("01").output.write_text(json.dumps(last))
    page = staged(repository, [job_of("01")], "01-alone")
    shown = page["cells"][-1]["outputs"][0]["data"]["text/html"]
    assert '<a class="kdlib-record" href="records-01-alone.html#short-taught">80 %</a>' in shown
    stage = repository.build / "stage"
    assert 'id="short-taught"' in (stage / "records-01-alone.md").read_text()
    contents = yaml.safe_load((stage / "_toc.yml").read_text())
    assert contents["chapters"][-1] == {"file": "records", "sections": [{"file": "records-01-alone"}]}


@pytest.mark.parametrize(
    ("path", "builds"),
    [
        ("book/intro.md", 2),
        ("book/references.bib", 2),
        ("_config.yml", 2),
        ("ci/pages/sphinx/course.css", 2),
        ("ci/requirements/book.txt", 2),
        ("kdlib/__init__.py", 2),
        ("README.md", 1),
    ],
)
def test_the_pages_are_built_again_when_something_on_them_changed(
    repository: Repository, job_of: JobOf, fake_sphinx: list[Path], path: str, builds: int
) -> None:
    jobs = [job_of("01"), job_of("02")]
    build.build_pages(repository, jobs)
    build.build_pages(repository, jobs)
    assert len(fake_sphinx) == 1
    (repository.root / path).parent.mkdir(parents=True, exist_ok=True)
    (repository.root / path).write_text("# changed\n")
    build.build_pages(repository, jobs)
    assert len(fake_sphinx) == builds


def test_a_new_execution_builds_the_pages_again(
    repository: Repository, job_of: JobOf, fake_sphinx: list[Path]
) -> None:
    jobs = [job_of("01"), job_of("02")]
    build.build_pages(repository, jobs)
    keep_execution(jobs[0], *chapter_cells("Alone", "print('seed', seed)"))
    build.build_pages(repository, jobs)
    assert len(fake_sphinx) == 2


def test_new_pages_replace_the_old_ones_and_leave_nothing_beside_them(
    repository: Repository, job_of: JobOf, fake_sphinx: list[Path]
) -> None:
    jobs = [job_of("01"), job_of("02")]
    build.build_pages(repository, jobs)
    (repository.html / "left-over.html").write_text("old")
    (repository.book / "intro.md").write_text("# New\n")
    build.build_pages(repository, jobs)
    assert (repository.html / "index.html").read_text() == "# New\n"
    assert not (repository.html / "left-over.html").exists()
    assert [path.name for path in repository.build.iterdir()] == ["html"]
    assert len(fake_sphinx) == 2


def test_a_warning_of_jupyter_book_names_its_cell_and_keeps_the_last_good_pages(
    repository: Repository, job_of: JobOf
) -> None:
    """With Jupyter Book itself; test_workflows has pages that it could build."""
    page = repository.html / "01-alone.html"
    page.parent.mkdir(parents=True)
    page.write_text("the last good one")
    broken = [*chapter_cells("Alone", "print('seed', seed)"), markdown("end", "[nowhere](99-missing.ipynb)")]
    write_notebook(repository.book / "01-alone.ipynb", *broken)
    with pytest.raises(
        BuildError, match=r"book/01-alone\.ipynb: cell end, line \d: WARNING.*99-missing"
    ) as failure:
        build.build_pages(repository, [job_of("01"), job_of("02")])
    assert "the last good ones stay" in str(failure.value)
    assert page.read_text() == "the last good one"
