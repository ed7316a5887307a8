"""The pages on contributing: what each prints is done, in its order, on a copy of the course."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
from made_up_course import ROOT, copy_sources

PAGES = sorted((ROOT / "book" / "contributing").glob("*.md"))
FENCE = re.compile(
    r"^(?P<fence>`{3,})\{code-block\} (\w+)\n(?::caption: ([^\n]+)\n)?(.*?)^(?P=fence)$",
    re.MULTILINE | re.DOTALL,
)
# What a page shows and nobody executes here: it needs the network, or a person.
NOT_EXECUTED = "console"


@dataclass(frozen=True)
class Block:
    """One fenced block: what is printed, and the file that it is about, if any."""

    language: str
    caption: str | None
    text: str


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page; all have the form that is executed here."""
    text = page.read_text(encoding="utf-8")
    found = [Block(*match.groups()[1:]) for match in FENCE.finditer(text)]
    left = FENCE.sub("", text)
    assert "```" not in left, "write every block as {code-block} with a language"
    assert "~~~" not in left, "write every block as {code-block} with a language"
    return found


def put(block: Block, course: Path) -> str:
    """Do to a file what a block with a caption says, and return the file's path."""
    said = re.fullmatch(r"(New file|At the end of|In) `([^`]+)`(?:, before `(\w+)`)?", str(block.caption))
    assert said, f"{block.caption!r} does not say where the block belongs"
    how, path, before = said.groups()
    file = course / path
    if how == "New file":
        assert not file.exists(), f"{path} is there already: say where in it the block belongs"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block.text)
        return str(path)
    text = file.read_text()
    if block.language == "diff":
        text = changed(text, block.text)
    elif how == "At the end of":
        text += ("\n\n" if path.endswith(".py") else "\n") + block.text
    else:
        (place,) = re.finditer(rf"^(def|class) {before}\b", text, re.MULTILINE)
        text = f"{text[: place.start()]}{block.text}\n\n{text[place.start() :]}"
    file.write_text(text)
    return str(path)


def changed(text: str, diff: str) -> str:
    """A text with the hunks of a diff, whose lines have to be found together and only once."""
    for hunk in re.split(r"^@@.*\n", diff, flags=re.MULTILINE)[1:]:
        lines = hunk.splitlines(keepends=True)
        before = "".join(line[1:] for line in lines if line[0] in " -")
        after = "".join(line[1:] for line in lines if line[0] in " +")
        assert text.count(before) == 1, f"these lines are there {text.count(before)} times:\n{before}"
        text = text.replace(before, after)
    return text


def execute(script: str, course: Path) -> str:
    """What a shell prints that runs the commands in the copy; each has to succeed."""
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(course),
        "KDLIB_RUNS": str(course / "_build" / "runs"),
        "KDLIB_DATA": str(course / "_build" / "data"),
        "NO_COLOR": "1",
    }
    environment.pop("KDLIB_RESULTS", None)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=course,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
    return done.stdout


def expected(text: str) -> re.Pattern[str]:
    """The pattern of an output that a page prints; `…` stands for anything on its line."""
    return re.compile(re.escape(text.rstrip("\n")).replace("…", ".*"))


@pytest.mark.system
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_the_page_prints_can_be_done(page: Path, tmp_path: Path) -> None:
    course, printed = copy_sources(tmp_path / "course"), ""
    files = []
    for block in blocks(page):
        if block.caption:
            files.append(put(block, course))
        elif block.language == "bash":
            printed = execute(block.text, course)
        elif block.language == "text":
            assert expected(block.text).search(printed), f"printed was:\n{printed}"
        else:
            assert block.language == NOT_EXECUTED, block
    python = " ".join(sorted({file for file in files if file.endswith(".py") and (course / file).exists()}))
    if python:
        execute(f"ruff check {python} && ruff format --check {python}", course)


def test_the_picture_of_the_house_has_the_floors_that_the_imports_keep_to() -> None:
    (rooms, *_) = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    page = (ROOT / "book" / "contributing" / "index.md").read_text(encoding="utf-8")
    floors: dict[str, set[str]] = {}
    for height, name in re.findall(r'<text x="[\d.]+" y="(\d+)"><tspan class="strong">(\w+)</tspan>', page):
        floors.setdefault(height, set()).add(name)
    cellar = re.findall(r"(?<=<code>)\w+(?=</code>)", page.partition("In the cellar")[2])
    layers = [set(layer.split(" | ")) for layer in rooms["layers"]]
    assert [*floors.values(), set(cellar)] == [*layers[: len(floors)], set().union(*layers[len(floors) :])]


def test_a_diff_that_does_not_fit_is_an_error() -> None:
    assert changed("a\nb\nc\n", "@@ here\n a\n-b\n+d\n") == "a\nd\nc\n"
    with pytest.raises(AssertionError, match="there 0 times"):
        changed("a\nb\nc\n", "@@ here\n a\n-c\n")
    with pytest.raises(AssertionError, match="there 2 times"):
        changed("a\na\n", "@@ here\n a\n+b\n")
