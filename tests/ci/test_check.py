"""`make test` runs everything and fails when anything failed; `make bench` finds a chapter's first figure."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from ci import check
from ci.bench import commands
from ci.chapters import Repository

PASSES = [sys.executable, "-c", "pass"]
FAILS = [sys.executable, "-c", "raise SystemExit(3)"]


@pytest.mark.parametrize(("first", "code"), [(PASSES, 0), (FAILS, 1)])
def test_every_check_runs_and_the_summary_names_the_failed_ones(
    repository: Repository,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    first: list[str],
    code: int,
) -> None:
    monkeypatch.setattr(check, "steps", lambda: {"first": first, "second": PASSES})
    assert check.run_all(repository) == code
    summary = capsys.readouterr().out.split("== summary\n")[1]
    assert summary.startswith("FAILED  first" if code else "passed  first")
    assert "passed  second" in summary


def test_the_checks_cover_code_types_tests_notebooks_and_pages() -> None:
    commands = check.steps()
    safety = commands.pop("workflows' safety")
    assert Path(safety[0]).name == "zizmor"
    assert {command[2] for command in commands.values()} == {
        "ruff",
        "mypy",
        "pytest",
        "check_jsonschema",
        "ci",
    }
    assert all(command[:2] == [sys.executable, "-m"] for command in commands.values())


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
