"""The spelling of all prose, British, by codespell: Markdown cells and pages, docstrings, the README.

Code, formulas, links and quotations are taken out first. Words that are right although codespell doubts them
stand in ci/spelling.txt, in small letters.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ci.chapters import Repository, read_notebook, source_of
from ci.check import python_package_folder

WORDS = Path(__file__).with_suffix(".txt")
NOT_PROSE = re.compile(
    r"^(?P<fence>```|~~~).*?^(?P=fence)"  # blocks of code
    r"|``.+?``|`[^`\n]*`"  # code in a sentence
    r"|\$\$.*?\$\$|\$[^$]+\$"  # formulas
    r"|\]\([^)]*\)|<[^>]+>|https?://\S+"  # where links lead, tags, addresses
    r"|\.\. math::.*?(?:\n\n|\Z)|:math:|^ +\w+(?:, \w+)*:"  # in docstrings: formulas, names of arguments
    r'|"[^"\n]+"',  # titles, and what others say
    re.DOTALL | re.MULTILINE,
)


def check(repository: Repository) -> int:
    """Print every doubtful word with its place and what codespell would write; return 1 if there is any."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for place, text in prose(repository.root):
            path = folder / "prose" / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(NOT_PROSE.sub(blank, text), encoding="utf-8")
        british = folder / "british.txt"
        british.write_text(british_words(), encoding="utf-8")
        command = [
            sys.executable,
            "-m",
            "codespell_lib",
            "-D",
            "-",
            "-D",
            str(british),
            "-I",
            str(WORDS),
            "prose",
        ]
        found = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True).stdout
    print(found.replace("prose/", ""), end="")
    return 1 if found else 0


def blank(found: re.Match[str]) -> str:
    """As many empty lines as there were, so that lines keep their numbers."""
    return " " + "\n" * found[0].count("\n")


def prose(root: Path) -> Iterator[tuple[str, str]]:
    """Every piece of prose with its place; a cell of a notebook has one of its own."""
    for path in [root / "README.md", *sorted((root / "book").rglob("*.md"))]:
        yield path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")
    for path in sorted((root / "book").glob("*.ipynb")):
        for cell in read_notebook(path)["cells"]:
            if cell["cell_type"] == "markdown":
                yield f"{path.relative_to(root).as_posix()}/{cell['id']}", source_of(cell)
    for folder in ("kdlib", "ci"):
        for path in sorted((root / folder).rglob("*.py")):
            yield path.relative_to(root).as_posix(), docstrings(path.read_text(encoding="utf-8"))


def docstrings(source: str) -> str:
    """The docstrings of a module on the lines on which they stand, and nothing else."""
    lines = [""] * len(source.splitlines())
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if ast.get_docstring(node) is not None:
            first = node.body[0]
            assert isinstance(first, ast.Expr)
            assert isinstance(first.value, ast.Constant)
            text = str(first.value.value).splitlines()
            lines[first.lineno - 1 : first.lineno - 1 + len(text)] = text
    return "\n".join(lines)


def british_words() -> str:
    """American words and their British spelling: codespell has the list the other way round."""
    package = python_package_folder("codespell_lib")
    listed = package / "data" / "dictionary_en-GB_to_en-US.txt"
    pairs = (line.split("->") for line in listed.read_text(encoding="utf-8").splitlines() if "->" in line)
    british: dict[str, list[str]] = {}
    for ours, theirs in pairs:
        for word in theirs.strip(" ,").split(", "):
            british.setdefault(word, []).append(ours)
    return "".join(
        f"{word}->{', '.join(ours)}{',' if len(ours) > 1 else ''}\n" for word, ours in british.items()
    )
