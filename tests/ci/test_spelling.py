"""The spelling check reads prose wherever it stands; code, names and quotations it leaves alone."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from made_up_course import ROOT, chapter_cells, markdown, write_notebook


def doubtful(root: Path) -> list[str]:
    """What typos says of a folder by the repository's own rules: one line a word, with its place."""
    shutil.copy(ROOT / "pyproject.toml", root)
    typos = Path(sys.executable).with_name("typos")
    done = subprocess.run([typos, "--format", "brief"], cwd=root, capture_output=True, text=True)
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("path", "text", "place"),
    [
        ("README.md", "# A course\n\nWe recieve it.\n", "3:4: error: `recieve`"),
        ("book/methods/kd.md", "Its favorite `color`.\n", "1:5: error: `favorite`"),
        ("book/notation.md", "The color of $x$.\n", "1:5: error: `color`"),
        ("kdlib/loss.py", '"""The behavior."""\n', "1:8: error: `behavior`"),
        ("kdlib/loss.py", '"""One.\n\nAn optimizer steps.\n"""\n', "3:4: error: `optimizer`"),
        ("ci/made.py", "x = 1  # recieve\n", "1:10: error: `recieve`"),
        ("ci/made.py", "# the color of one\nx = 1\n", "1:7: error: `color`"),
        ("kdlib/loss.py", 'raise ValueError("It was recieved.")\n', "1:26: error: `recieved`"),
        ("kdlib/course/figures/kit.js", "// The colors.\n", "1:8: error: `colors`"),
        ("kdlib/experiments/recipes/families/x.toml", "# a favorite\n", "1:5: error: `favorite`"),
    ],
)
def test_a_misspelling_and_an_american_word_are_found(
    path: str, text: str, place: str, tmp_path: Path
) -> None:
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text(text)
    (found,) = doubtful(tmp_path)
    assert found.startswith(f"./{path}:{place}")


def test_a_chapter_is_read_from_its_markdown_cells(tmp_path: Path) -> None:
    cells = [*chapter_cells("Alone", 'color = "recieve"'), markdown("end", "# End\n\nIts behavior.")]
    path = tmp_path / "01-alone.ipynb"
    write_notebook(path, *cells)
    nbformat.write(nbformat.read(path, as_version=4), path)  # in lines, as Jupyter writes it
    (found,) = doubtful(tmp_path)
    assert "behavior" in found


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("a.md", '`optimizer`, [it](color.md), "Color".\n\n```\nrecieve\n```\n'),
        (
            "a.py",
            "from torch.optim import Optimizer\n\n\ndef f(optimizer, color=None):\n    return color.center\n",
        ),
        ("a.py", '"""A loss.\n\nYou, "Logit Standardization", 2024.\n\nArgs:\n    color: of it.\n"""\n'),
        ("a.toml", 'optimizer = "SGD"\n'),
        ("a.css", "p { color: red; text-align: center; }\n"),
    ],
)
def test_code_names_links_and_quotations_are_left_alone(path: str, text: str, tmp_path: Path) -> None:
    (tmp_path / path).write_text(text)
    assert doubtful(tmp_path) == []
