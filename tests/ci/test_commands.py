"""The commands as a user gives them: exit codes, messages, and what a second run does."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import pytest
from made_up_course import chapter_cells, write_notebook

from ci import clean, commands, execute
from ci.__main__ import parser
from ci.chapters import Job, Repository, is_current
from ci.execute import Outcome
from ci.pages import build


def run(repository: Repository, *arguments: str) -> int:
    """Run a command line on the made-up repository, in this process."""
    return commands.run(repository.root, parser().parse_args(arguments))


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Execution and pages replaced by notes; the list names each chapter that would have been executed."""
    slugs: list[str] = []

    def pretend(_: Repository, jobs: list[Job], _limit: float) -> list[Outcome]:
        slugs.extend(job.chapter.slug for job in jobs)
        return [Outcome(job.chapter.slug, 75.0, job.budget, None) for job in jobs]

    monkeypatch.setattr(execute, "execute", pretend)
    monkeypatch.setattr(build, "build_pages", lambda *_: None)
    return slugs


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--profile", "long"], "Unknown profile 'long': the profiles are quick, short, full."),
        (["--chapters", "07"], "Unknown chapter '07': the chapters are 01 (01-alone), 02 (02-library)."),
    ],
)
def test_an_unknown_name_is_one_sentence_and_exit_code_2(
    repository: Repository, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert run(repository, "book", *arguments) == 2
    assert capsys.readouterr().err == message + "\n"


def test_only_the_chosen_chapters_are_executed(
    repository: Repository, executed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(repository, "book", "--chapters", "02") == 0
    assert executed == ["02-library"]
    assert "0 of 1 chapters are current; 1 to execute." in capsys.readouterr().out


def test_a_chapter_over_its_budget_is_named_and_the_pages_are_shown(
    repository: Repository, executed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(repository, "book") == 0
    printed = capsys.readouterr().out
    assert "Over budget: 01-alone took 75 s of 60 s." in printed
    assert (repository.html / "index.html").as_uri() in printed
    assert executed == ["01-alone", "02-library"]


def test_a_failing_chapter_is_exit_code_1_and_what_succeeded_is_not_run_again(
    repository: Repository, job_of: Callable[..., Job], capsys: pytest.CaptureFixture[str]
) -> None:
    write_notebook(repository.book / "02-library.ipynb", *chapter_cells("Library", "1 / 0"))
    repository.html.mkdir(parents=True)
    (repository.html / "index.html").write_text("last good")
    assert run(repository, "book") == 1
    captured = capsys.readouterr()
    assert "ZeroDivisionError" in captured.err
    assert "\x1b" not in captured.err
    assert (repository.html / "index.html").read_text() == "last good"
    assert [is_current(job_of(number)) for number in ("01", "02")] == [True, False]


def test_clean_removes_what_was_built_and_nothing_else(repository: Repository) -> None:
    repository.html.mkdir(parents=True)
    (repository.root / ".venv").mkdir()
    assert clean.clean(repository.root) == 0
    assert not repository.build.exists()
    assert (repository.root / ".venv").exists()
    assert clean.clean(repository.root) == 0


def test_an_interrupted_command_is_exit_code_130(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "book", interrupt)
    options = argparse.Namespace(command="book", profile="quick", chapters="all")
    assert commands.run(repository.root, options) == 130
    assert "what was finished before is kept" in capsys.readouterr().err
