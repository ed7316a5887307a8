"""`make test` runs everything and fails when anything failed; `make bench` finds a chapter's first figure."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest
import torch

from ci import check
from ci.bench import commands
from ci.chapters import CourseError, Repository


@pytest.mark.parametrize("failing", [None, "alone", "types", "pages"])
def test_every_check_runs_and_the_summary_names_the_failed_ones(
    repository: Repository,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    failing: str | None,
) -> None:
    names = ["alone", "beside", "types", "unit tests", "pages"]
    python = [sys.executable, "-c"]
    made = {
        name: [*python, f"print('{name} ran'); raise SystemExit({3 * (name == failing)})"] for name in names
    }
    monkeypatch.setattr(check, "steps", lambda: made)
    assert check.run_all(repository, []) == (1 if failing else 0)
    printed, _, summary = capfd.readouterr().out.partition("== summary\n")
    told = [line.split(" (")[0] for line in summary.splitlines()]
    assert told == [f"{'FAILED' if name == failing else 'passed'}  {name}" for name in names]
    for name in names:
        assert printed.partition(f"== {name}: ")[2].splitlines()[1] == f"{name} ran", "below its own title"


def test_some_checks_alone(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    made = {name: [sys.executable, "-c", f"print('{name} ran')"] for name in ("alone", "types", "pages")}
    monkeypatch.setattr(check, "steps", lambda: made)
    assert check.run_all(repository, ["alone", "pages"]) == 0
    _, _, summary = capfd.readouterr().out.partition("== summary\n")
    assert [line.split(" (")[0] for line in summary.splitlines()] == ["passed  alone", "passed  pages"]
    with pytest.raises(CourseError, match="no check 'page': the checks are alone, types, pages"):
        check.run_all(repository, ["page"])


def test_no_test_is_left_out_of_both_runs() -> None:
    """A marker or an --ignore in one of the two, and nobody would run those tests."""
    unit, pages = (check.steps()[name] for name in ("unit tests", "pages"))
    arguments = unit[unit.index("loadgroup") + 1 :]
    assert arguments == ["--ignore", *pages[pages.index("loadgroup") + 1 :]]


@pytest.fixture(scope="module")
def costly() -> str:
    """What several tests share and takes long to make."""
    return "made once"


def test_tests_of_a_module_fixture_stay_on_one_worker(costly: str, request: pytest.FixtureRequest) -> None:
    (mark,) = request.node.iter_markers("xdist_group")
    assert mark.args == ("tests/ci/test_check.py",)


def test_torch_has_one_thread_unless_more_are_asked_for() -> None:
    assert torch.get_num_threads() == int(os.environ["OMP_NUM_THREADS"])


def test_the_first_figure_is_timed_from_the_start_of_the_chapter() -> None:
    def cell(second: int, *mimes: str) -> dict[str, Any]:
        output = {"output_type": "display_data", "data": dict.fromkeys(mimes, "…")}
        times = {"papermill": {"end_time": f"2026-11-21T10:00:{second:02}.500000"}}
        return {"cell_type": "code", "metadata": times, "outputs": [output]}

    notebook = {
        "metadata": {"papermill": {"start_time": "2026-11-21T10:00:01.000000"}},
        "cells": [
            {"cell_type": "markdown"},
            cell(2, "text/plain"),
            cell(5, "image/png"),
            cell(9, "image/png"),
        ],
    }
    assert commands.first_figure(notebook) == 4.5
    with pytest.raises(ValueError, match="shows no figure"):
        commands.first_figure(notebook | {"cells": [cell(2, "text/html")]})
