"""`python -m ci chapter`: the chapter that it makes keeps every rule, and a refusal leaves no file behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from made_up_course import copy_sources

from ci import notebooks, scaffold
from ci.__main__ import parser
from ci.chapters import CourseError, Repository, load_chapters, plan_jobs, read_notebook
from ci.commands import run
from ci.execute import execute, kernel_environment, write_whole

TITLE = "How long should a student study?"


def files(root: Path) -> dict[Path, bytes]:
    """Every file below a folder with its content."""
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A copy of the whole course, with a chapter made in it."""
    root = copy_sources(tmp_path_factory.mktemp("scaffold") / "course")
    before = load_chapters(Repository(root))
    assert run(root, parser().parse_args(["chapter", TITLE])) == 0
    assert len(load_chapters(Repository(root))) == len(before) + 1
    return Repository(root)


def python(course: Repository, *arguments: str) -> None:
    """Run Python on the copy, and show what it printed when it fails."""
    environment = os.environ | kernel_environment(course.root)
    done = subprocess.run(
        [sys.executable, *arguments], cwd=course.root, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_chapter_keeps_the_rules_and_is_listed(course: Repository) -> None:
    *_, before, made = load_chapters(course)
    assert notebooks.lint(made) == []
    assert (made.title, int(made.number)) == (TITLE, int(before.number) + 1)
    assert made.slug == f"{made.number}-how-long-should-a-student-study"
    contents = yaml.safe_load((course.book / "_toc.yml").read_text())
    listed = [entry["file"] for part in contents["parts"] for entry in part["chapters"]]
    assert listed[listed.index(before.slug) + 1] == made.slug
    python(course, "-m", "ruff", "check", "book", "kdlib/course/checks", "tests/course/checks")
    python(course, "-m", "ruff", "format", "--check", "book", "kdlib/course/checks", "tests/course/checks")


def test_the_chapter_runs_its_solutions_are_right_and_its_pictures_described(course: Repository) -> None:
    (job,) = plan_jobs(course, load_chapters(course)[-1:], "quick")
    assert len(job.solutions) >= notebooks.FEWEST_EXERCISES
    (outcome,) = execute(course, [job])
    assert outcome.failure is None
    executed = read_notebook(job.output)
    assert notebooks.lint_executed(executed, job.output.name) == []


def test_its_exercises_tell_mistakes_apart(course: Repository) -> None:
    own = f"tests/course/checks/test_chapter{load_chapters(course)[-1].number}.py"
    python(course, "-m", "pytest", "-q", "-p", "no:cacheprovider", own)


def test_a_title_may_have_punctuation(repository: Repository) -> None:
    prepare(repository)
    scaffold.make_chapter(repository, "Heat: yes, 99 (or no?)")
    *_, made = load_chapters(repository)
    assert (made.slug, made.title) == ("03-heat-yes-99-or-no", "Heat: yes, 99 (or no?)")
    assert notebooks.lint(made) == []
    assert '@exercise("3.1")' in (repository.root / "kdlib/course/checks/chapter03.py").read_text()


@pytest.mark.parametrize(
    ("title", "message"),
    [
        ("", "'' cannot be a chapter's title: give at most 60 letters"),
        ("Über alles " * 6, "cannot be a chapter's title"),
        ("*Heat*", "cannot be a chapter's title"),
        ("Heat\nand more", "cannot be a chapter's title"),
        (" Heat", "cannot be a chapter's title"),
        ("温度", "cannot be a chapter's title"),
        ('The "best"', "cannot be a chapter's title"),
        ("alone!", "The chapter 01-alone is there already: choose another title than 'alone!'."),
    ],
)
def test_a_title_that_cannot_be_one_is_refused_in_a_sentence(
    repository: Repository, capsys: pytest.CaptureFixture[str], title: str, message: str
) -> None:
    prepare(repository)
    before = files(repository.root)
    assert run(repository.root, parser().parse_args(["chapter", title])) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert files(repository.root) == before


def test_a_file_that_is_in_the_way_is_named(repository: Repository) -> None:
    prepare(repository)
    (repository.root / "kdlib/course/checks").mkdir(parents=True)
    (repository.root / "kdlib/course/checks/chapter03.py").write_text("mine")
    before = files(repository.root)
    with pytest.raises(CourseError, match=r"/chapter03\.py is there already: move it away"):
        scaffold.make_chapter(repository, TITLE)
    assert files(repository.root) == before


def test_contents_without_the_last_chapter_are_named(repository: Repository) -> None:
    prepare(repository)
    (repository.book / "_toc.yml").write_text("format: jb-book\nroot: intro\n")
    before = files(repository.root)
    with pytest.raises(CourseError, match=r"_toc\.yml does not list 01-alone, 02-library: add it"):
        scaffold.make_chapter(repository, TITLE)
    assert files(repository.root) == before


def test_contents_that_have_no_line_to_add_to_are_named(repository: Repository) -> None:
    before = files(repository.root)
    with pytest.raises(
        CourseError, match=r"_toc\.yml does not list 02-library on a line of its own: give it"
    ):
        scaffold.make_chapter(repository, TITLE)
    assert files(repository.root) == before


@pytest.mark.parametrize("writes", [0, 1, 4])
def test_a_full_disk_leaves_everything_as_it_was(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    prepare(repository)
    before = files(repository.root)
    left = iter([True] * writes + [False])

    def full_later(path: Path, content: bytes) -> None:
        if not next(left, True):
            raise OSError(28, "No space left on device")
        write_whole(path, content)

    monkeypatch.setattr(scaffold, "write_whole", full_later)
    with pytest.raises(OSError, match="No space left"):
        scaffold.make_chapter(repository, TITLE)
    assert files(repository.root) == before


def prepare(repository: Repository) -> None:
    """Give the made-up course a table of contents in the form that the book has."""
    pages = "".join(f"  - file: {name}\n" for name in ("01-alone", "02-library", "status"))
    (repository.book / "_toc.yml").write_text(f"format: jb-book\nroot: intro\nchapters:\n{pages}")
