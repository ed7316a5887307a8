"""Every name of kdlib that a page, a chapter or a docstring gives is one that there is."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# `name` from `kdlib.place`, and `kdlib.place.name`.
NAMED = re.compile(r"`(?P<name>\w+)` from `(?P<place>kdlib[\w.]*)`|`(?P<path>kdlib(?:\.\w+)+)`")
# It adds a loss and a term as an example; a test of its own does what it says.
EXAMPLE = ROOT / "book" / "contributing" / "method.md"


def names_in(text: str) -> list[str]:
    """The full names that a text gives."""
    return [match["path"] or f"{match['place']}.{match['name']}" for match in NAMED.finditer(text)]


def exists(path: str) -> bool:
    """Whether a dotted name leads to a module, or to something in one."""
    parts = path.split(".")
    found = importlib.import_module(parts[0])
    for depth, part in enumerate(parts[1:], start=2):
        if not hasattr(found, part):
            try:
                importlib.import_module(".".join(parts[:depth]))
            except ImportError:
                return False
        found = getattr(found, part)
    return True


@pytest.mark.parametrize("folder", ["book", "kdlib", "README.md"])
def test_every_name_is_there(folder: str) -> None:
    place = ROOT / folder
    files = (
        [place] if place.is_file() else [f for f in place.rglob("*") if f.suffix in (".md", ".ipynb", ".py")]
    )
    given = {(file, name) for file in files if file != EXAMPLE for name in names_in(file.read_text("utf-8"))}
    assert given, "nothing was looked at"
    assert [(str(file.relative_to(ROOT)), name) for file, name in sorted(given) if not exists(name)] == []


def test_a_name_that_is_not_there_is_found() -> None:
    assert names_in("with `perform` from `kdlib.experiments`, or `kdlib.fit`") == [
        "kdlib.experiments.perform",
        "kdlib.fit",
    ]
    assert not exists("kdlib.experiments.perform")
    assert exists("kdlib.fit")
