"""Which changes make an execution stale, and which requests are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_up_course import ROOT, chapter_cells, exercise_cells, write_notebook

from ci import chapters
from ci.chapters import CourseError, Job, Repository

JobOf = Callable[..., Job]


def edit_cell(repository: Repository, slug: str, identity: str, source: str) -> None:
    path = repository.book / f"{slug}.ipynb"
    notebook = json.loads(path.read_text())
    next(cell for cell in notebook["cells"] if cell["id"] == identity)["source"] = source
    path.write_text(json.dumps(notebook))


@pytest.mark.parametrize(
    ("path", "stale"),
    [
        ("kdlib/__init__.py", {"02"}),
        ("kdlib/losses/new.py", set()),
        ("data/published/other.csv", set()),
        ("data/results/02-library/quick/run-seed0.json", {"02"}),
        ("data/results/01-alone/quick/run.json", set()),
        ("ci/requirements/book.txt", {"01", "02"}),
        ("kdlib/__pycache__/a.pyc", set()),
        ("book/intro.md", set()),
        ("_config.yml", set()),
        ("README.md", set()),
    ],
)
def test_a_changed_file_makes_those_chapters_stale_that_depend_on_it(
    repository: Repository, job_of: JobOf, path: str, stale: set[str]
) -> None:
    before = {number: job_of(number).key for number in ("01", "02")}
    file = repository.root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("answer = 43\n")
    assert {number for number, key in before.items() if job_of(number).key != key} == stale


@pytest.mark.parametrize("profile", ["short", "full"])
def test_the_records_that_a_long_profile_writes_do_not_make_it_stale(
    repository: Repository, job_of: JobOf, profile: str
) -> None:
    before = job_of("02", profile).key
    (repository.root / "data/results/02-library/quick/new.json").write_text("{}")
    assert job_of("02", profile).key == before
    (repository.root / "kdlib/__init__.py").write_text("answer = 43\n")
    assert job_of("02", profile).key != before


@pytest.mark.parametrize("profile", chapters.PROFILES)
def test_a_machine_that_plans_has_another_python_and_no_gpu(
    job_of: JobOf, monkeypatch: pytest.MonkeyPatch, profile: str
) -> None:
    before = job_of("01", profile).key
    monkeypatch.setattr("sys.version_info", (3, 12, 99, "final", 0))
    monkeypatch.setattr("ci.machine.find_device", lambda: "another GPU")
    assert job_of("01", profile).key == before


def test_a_cell_that_is_not_python_is_refused(repository: Repository, job_of: JobOf) -> None:
    edit_cell(repository, "01-alone", "step-1", "print(")
    with pytest.raises(CourseError, match=r"01-alone\.ipynb cannot be read as Python"):
        job_of("01")


def test_code_makes_its_own_chapter_stale_and_prose_makes_none(repository: Repository, job_of: JobOf) -> None:
    before = {number: job_of(number).key for number in ("01", "02")}
    edit_cell(repository, "01-alone", "title", "# Alone, reworded")
    assert job_of("01").key == before["01"]
    edit_cell(repository, "01-alone", "step-1", "print(seed + 1)")
    assert job_of("01").key != before["01"]
    assert job_of("02").key == before["02"]


def test_a_changed_solution_makes_its_chapter_stale_where_it_is_run(
    repository: Repository, job_of: JobOf
) -> None:
    def keys() -> dict[str, str]:
        return {profile: job_of("01", profile).key for profile in chapters.PROFILES}

    cells = chapter_cells("Alone", "answer = 1")
    write_notebook(repository.book / "01-alone.ipynb", *cells)
    without = keys()
    solved = exercise_cells("1.1", "answer = ...", "answer = 1 + 1")
    write_notebook(repository.book / "01-alone.ipynb", *cells, *solved)
    before = keys()
    assert all(before[profile] != without[profile] for profile in chapters.PROFILES)
    write_notebook(repository.book / "01-alone.ipynb", *cells, *solved[:2], edited(solved[2], "Add.", "Sum."))
    assert keys() == before
    write_notebook(repository.book / "01-alone.ipynb", *cells, *solved[:2], edited(solved[2], "1 + 1", "2"))
    after = keys()
    assert [profile for profile in chapters.PROFILES if after[profile] != before[profile]] == ["quick"]


def test_what_a_solution_alone_imports_makes_the_chapter_stale(repository: Repository, job_of: JobOf) -> None:
    solved = exercise_cells("1.1", "answer = ...", "import kdlib")
    write_notebook(repository.book / "01-alone.ipynb", *chapter_cells("Alone"), *solved)
    before = job_of("01").key
    (repository.root / "kdlib/__init__.py").write_text("answer = 43\n")
    assert job_of("01").key != before


def edited(cell: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    assert cell["source"].count(old) == 1
    return cell | {"source": cell["source"].replace(old, new)}


def test_profile_and_parameters_are_part_of_the_key(repository: Repository, job_of: JobOf) -> None:
    keys = {job_of("01", profile).key for profile in chapters.PROFILES}
    assert len(keys) == 3
    listing = repository.book / "chapters.yml"
    listing.write_text(listing.read_text().replace("seed: 7", "seed: 8"))
    assert job_of("01", "short").key not in keys


def test_only_parameters_that_differ_from_the_notebook_are_injected(job_of: JobOf) -> None:
    assert job_of("01").parameters == {}
    assert job_of("01", "short").parameters == {"profile": "short", "seed": 7}
    assert job_of("02", "short").parameters == {"profile": "short"}


def test_an_execution_is_current_while_its_key_is_the_sources_key(job_of: JobOf) -> None:
    job = job_of("01")
    assert not chapters.is_current(job)
    job.output.parent.mkdir(parents=True)
    job.output.write_text(json.dumps({"metadata": {"course": {"key": job.key}}, "cells": []}))
    assert chapters.is_current(job)
    job.output.write_text(json.dumps({"metadata": {"course": {"key": "another"}}, "cells": []}))
    assert not chapters.is_current(job)


def test_an_execution_in_which_a_cell_failed_is_never_current(job_of: JobOf) -> None:
    job = job_of("01")
    job.output.parent.mkdir(parents=True)
    for outputs, current in (([], True), ([{"output_type": "error"}], False)):
        cells = [{"cell_type": "code", "outputs": outputs}]
        job.output.write_text(json.dumps({"metadata": {"course": {"key": job.key}}, "cells": cells}))
        assert chapters.is_current(job) == current


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("accelerator: {full: tpu}", r"02-library asks for {'full': 'tpu'}: give cuda or cpu\."),
        (
            "accelerator: {long: cuda}",
            r"02-library names the profile 'long': it is one of quick, short, full\.",
        ),
        ("data: {full: [cifar11]}", r"02-library needs the data set 'cifar11': there are bees\."),
    ],
)
def test_what_a_chapter_asks_of_a_runner_has_to_exist(
    repository: Repository, line: str, message: str
) -> None:
    (repository.root / "kdlib/data").mkdir()
    (repository.root / "kdlib/data/datasets.toml").write_text("[bees]\n")
    listing = repository.book / "chapters.yml"
    listing.write_text(f"{listing.read_text()}  {line}\n")
    with pytest.raises(CourseError, match=message):
        chapters.load_chapters(repository)


def test_the_course_names_the_data_of_the_runs_that_its_chapters_read() -> None:
    from kdlib.experiments import find_recipes
    from kdlib.experiments.sweeps import run_graph

    checked = 0
    for chapter in chapters.load_chapters(Repository(ROOT)):
        patterns = chapter.runs.get("full", [])
        for profile in ("short", "full") if patterns else ():
            recipes = [recipe for pattern in patterns for recipe in find_recipes(pattern, profile)]
            needed = {job.run.recipe.data.name for job in run_graph(recipes).values()}
            assert needed == set(chapter.data[profile]), (chapter.slug, profile)
            checked += 1
        assert ("cuda" in chapter.accelerator.values()) == bool(patterns), chapter.slug
    assert checked == 8


def test_an_unknown_profile_is_told_the_valid_ones(job_of: JobOf) -> None:
    with pytest.raises(CourseError, match=r"Unknown profile 'long': the profiles are quick, short, full\."):
        job_of("01", "long")


def test_an_unknown_chapter_is_told_the_valid_ones(repository: Repository) -> None:
    every = chapters.load_chapters(repository)
    with pytest.raises(CourseError, match=r"Unknown chapter '05': the chapters are 01 \(01-alone\), 02"):
        chapters.select(every, "01 05")


@pytest.mark.parametrize("wanted", ["02", "2", "02-library", " 02 ", "02,02"])
def test_chapters_are_selected_by_number_or_slug(repository: Repository, wanted: str) -> None:
    every = chapters.load_chapters(repository)
    assert [chapter.slug for chapter in chapters.select(every, wanted)] == ["02-library"]
    assert chapters.select(every, "all") == every
    assert chapters.select(every, "none") == []


def test_a_parameter_that_the_notebook_lacks_is_told_the_valid_ones(
    repository: Repository, job_of: JobOf
) -> None:
    listing = repository.book / "chapters.yml"
    listing.write_text(listing.read_text().replace("{seed: 7}", "{sead: 7}"))
    with pytest.raises(CourseError, match=r"no parameter 'sead'.*its parameters are profile, seed\."):
        job_of("01", "short")


def contents_with(repository: Repository, old: str, new: str) -> None:
    contents = repository.book / "_toc.yml"
    assert contents.read_text().count(old) == 1
    contents.write_text(contents.read_text().replace(old, new))


def test_a_notebook_has_to_be_in_the_contents_and_in_the_listing(repository: Repository) -> None:
    (repository.book / "03-more.ipynb").write_text("{}")
    with pytest.raises(CourseError, match=r"_toc\.yml does not list 03-more: add it"):
        chapters.load_chapters(repository)
    contents_with(repository, "{file: 02-library}", "{file: 02-library}, {file: 03-more}")
    with pytest.raises(
        CourseError, match=r"chapters\.yml and the notebooks in book/ differ in 03-more: list"
    ):
        chapters.load_chapters(repository)


def test_an_entry_without_a_notebook_is_named(repository: Repository) -> None:
    (repository.book / "02-library.ipynb").unlink()
    with pytest.raises(CourseError, match="differ in 02-library: list each notebook there once"):
        chapters.load_chapters(repository)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            "{file: 02-library}, {file: 01-alone}",
            "lists 01-alone after 02-library: give each chapter one place",
        ),
        ("{file: 01-alone}, {file: 01-alone}, {file: 02-library}", "lists 01-alone after 01-alone"),
    ],
)
def test_chapters_stand_in_the_order_of_their_numbers(
    repository: Repository, files: str, message: str
) -> None:
    contents_with(repository, "{file: 01-alone}, {file: 02-library}", files)
    with pytest.raises(CourseError, match=message):
        chapters.load_chapters(repository)


def test_a_chapter_in_the_second_row_of_the_contents_is_found(repository: Repository) -> None:
    contents = repository.book / "_toc.yml"
    contents.write_text(
        "root: intro\nparts:\n- chapters: [{file: 01-alone, sections: [{file: 02-library}]}, {file: a}]\n"
    )
    assert [chapter.slug for chapter in chapters.load_chapters(repository)] == ["01-alone", "02-library"]


def test_a_title_is_the_heading_of_the_notebook(repository: Repository) -> None:
    edit_cell(repository, "01-alone", "title", "# All *alone*, at last \n\nWhy?")
    assert [chapter.title for chapter in chapters.load_chapters(repository)] == [
        "All *alone*, at last",
        "Library",
    ]


@pytest.mark.parametrize("text", ["Alone", "## Alone", "", "\n# Alone"])
def test_a_notebook_without_a_title_is_named(repository: Repository, text: str) -> None:
    edit_cell(repository, "01-alone", "title", text)
    with pytest.raises(
        CourseError, match=r"01-alone\.ipynb does not start with its title: let its first cell"
    ):
        chapters.load_chapters(repository)


@pytest.mark.parametrize("text", ["- slug: 01-alone\n", "01-alone: 60\n", ""])
def test_a_listing_of_another_form_is_refused(repository: Repository, text: str) -> None:
    (repository.book / "chapters.yml").write_text(text)
    with pytest.raises(CourseError, match=r"chapters\.yml has another form: give each chapter an entry"):
        chapters.load_chapters(repository)


def test_a_chapter_needs_a_budget_in_every_profile(repository: Repository) -> None:
    listing = repository.book / "chapters.yml"
    listing.write_text(listing.read_text().replace("short: 60, ", "", 1))
    with pytest.raises(CourseError, match="01-alone needs a budget for each of quick, short, full"):
        chapters.load_chapters(repository)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("seed = int(3)", "only assignments of literals"),
        ("import torch", "not an assignment"),
        ("a b", "syntax"),
    ],
)
def test_the_parameters_cell_holds_literals_only(
    repository: Repository, job_of: JobOf, source: str, message: str
) -> None:
    edit_cell(repository, "01-alone", "parameters", source)
    with pytest.raises(CourseError, match=message):
        job_of("01")


def test_a_broken_notebook_is_named(tmp_path: Path) -> None:
    (tmp_path / "01-broken.ipynb").write_text("{")
    with pytest.raises(CourseError, match=r"01-broken\.ipynb is not a readable notebook"):
        chapters.read_notebook(tmp_path / "01-broken.ipynb")


def test_a_chapter_whose_cells_have_no_ids_is_refused(repository: Repository, job_of: JobOf) -> None:
    path = repository.book / "01-alone.ipynb"
    path.write_text(path.read_text().replace('"id": "step-1", ', ""))
    with pytest.raises(CourseError, match=r"01-alone\.ipynb has cells without an id"):
        job_of("01")
