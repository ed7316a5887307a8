"""The course's address stands in one place, and everywhere else is the same; one command changes it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from made_up_course import ROOT, copy_sources

from ci.__main__ import parser
from ci.address import pages_address, repository_address, tracked
from ci.chapters import Repository
from ci.commands import run

ADDRESS = repository_address(ROOT)
NAME = ADDRESS.rpartition("/")[2]
# A repository of this name, or its pages, whoever's they are.
OURS = re.compile(
    rf"(?:https?://)?(?:www\.)?(?:github\.com/[\w-]+/{NAME}(?![\w-])|[\w-]+\.github\.io/{NAME}(?![\w-])/?)"
)


def text_of(path: Path) -> str:
    return path.read_bytes().decode("utf-8", errors="replace")


def test_every_address_is_that_of_pyproject() -> None:
    found = {
        (path.relative_to(ROOT).as_posix(), address)
        for path in tracked(ROOT)
        for address in OURS.findall(text_of(path))
    }
    assert {address for _, address in found} == {ADDRESS, pages_address(ADDRESS)}
    there = {path for path, _ in found}
    assert {"_config.yml", "CITATION.cff", "pyproject.toml", "book/02-temperature.ipynb"} <= there


def test_jupyter_book_and_the_issue_forms_have_it() -> None:
    configuration = yaml.safe_load((ROOT / "_config.yml").read_text())
    assert configuration["repository"]["url"] == ADDRESS
    assert configuration["html"]["baseurl"] == pages_address(ADDRESS)
    choices = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / "config.yml").read_text())
    (link,) = choices["contact_links"]
    page = link["url"].removeprefix(pages_address(ADDRESS)).removesuffix(".html")
    assert (ROOT / "book" / f"{page}.md").is_file()


@pytest.fixture
def course(tmp_path: Path) -> Repository:
    """A copy of the course that git knows."""
    folder = copy_sources(tmp_path / "course")
    (folder / "other.md").write_text(f"Not ours: {ADDRESS}-2, {ADDRESS}_2.\n")
    for command in (["init", "--quiet"], ["add", "."]):
        subprocess.run(["git", "-C", str(folder), *command], check=True)
    return Repository(folder)


def test_one_command_changes_it_everywhere(course: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in tracked(course.root)}
    owner, name = "Some-One", "the.course"  # not whole, or the command would find it in this file, too
    new, pages = f"https://github.com/{owner}/{name}", f"https://some-one.github.io/{name}/"
    assert run(course.root, parser().parse_args(["address", new])) == 0
    said = capsys.readouterr().out
    changed = [path for path in before if path.read_bytes() != before[path]]
    assert said == f"{len(changed)} files say {new} now, and {pages} for the pages.\n"
    assert repository_address(course.root) == new
    for chapter in course.book.glob("*.ipynb"):
        assert f"git+{new}" in text_of(chapter), chapter.name
    configuration = yaml.safe_load((course.root / "_config.yml").read_text())
    assert (configuration["repository"]["url"], configuration["html"]["baseurl"]) == (new, pages)
    for path in before:
        if path.name != "other.md":
            assert not OURS.search(text_of(path)), path
    assert (course.root / "other.md") not in changed, "addresses that begin with ours"
    assert run(course.root, parser().parse_args(["address", ADDRESS])) == 0
    assert {path: path.read_bytes() for path in before} == before, "and back again"


@pytest.mark.parametrize(
    "address",
    [
        "kd-course/other",
        "http://github.com/kd-course/other",
        "https://github.com/kd-course",
        "https://github.com/kd-course/other/",
        "https://github.com/kd-course/other.git",
        "https://gitlab.com/kd-course/other",
        "git@github.com:kd-course/other",
    ],
)
def test_what_is_no_address_is_told_in_a_sentence(
    address: str, course: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(course.root, parser().parse_args(["address", address])) == 2
    said = f"{address!r} is no address: give one such as https://github.com/OWNER/NAME.\n"
    assert capsys.readouterr().err == said
    assert repository_address(course.root) == ADDRESS


def test_without_git_nothing_is_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    assert run(tmp_path, parser().parse_args(["address", "https://github.com/kd-course/other"])) == 2
    assert "the address is changed in a clone" in capsys.readouterr().err
    assert repository_address(tmp_path) == ADDRESS
