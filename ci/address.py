"""The course's address: it stands in pyproject.toml, and one command writes it wherever else it has to stand.

Those places are read by programs that know nothing of pyproject.toml: GitHub, Jupyter Book, and Colab, which
has a chapter's first cell and nothing else.
"""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

from ci.chapters import CourseError, Repository

REPOSITORY = re.compile(r"https://github\.com/[A-Za-z0-9-]+/[\w.-]*\w")


def repository_address(root: Path) -> str:
    """Where the sources are, as pyproject.toml says."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    address: str = project["urls"]["Repository"]
    return address


def pages_address(repository: str) -> str:
    """Where GitHub shows the pages of a repository."""
    _, owner, name = repository.rsplit("/", 2)
    return f"https://{owner.lower()}.github.io/{name}/"


def move(repository: Repository, new: str) -> int:
    """Write a new address in place of the present one in every file that git knows.

    Raises:
        CourseError: it is no address of a repository on GitHub.
    """
    if not REPOSITORY.fullmatch(new) or new.endswith(".git"):
        raise CourseError(f"{new!r} is no address: give one such as https://github.com/OWNER/NAME.")
    old = repository_address(repository.root)
    places = {old: new, pages_address(old): pages_address(new)}
    # No part of a longer address: that of another repository, whose name begins with this one's.
    either = re.compile(rf"{re.escape(old)}(?![\w-])|{re.escape(pages_address(old))}")
    changed = 0
    for path in tracked(repository.root):
        text = path.read_bytes().decode("utf-8", errors="surrogateescape")
        moved = either.sub(lambda found: places[found[0]], text)
        if moved != text:
            path.write_bytes(moved.encode("utf-8", errors="surrogateescape"))
            changed += 1
    print(f"{changed} files say {new} now, and {pages_address(new)} for the pages.")
    return 0


def tracked(root: Path) -> list[Path]:
    """The files that git knows, without the thousands of records, which say no address.

    Raises:
        CourseError: it knows none.
    """
    git = ["git", "-C", str(root), "ls-files", "-z", "--", ".", ":!data/results"]
    names = subprocess.run(git, capture_output=True, text=True).stdout
    files = [root / name for name in names.split("\0") if (root / name).is_file()]
    if not files:
        raise CourseError(f"git knows no files in {root}: the address is changed in a clone.")
    return files
