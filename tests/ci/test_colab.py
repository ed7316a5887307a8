"""Colab and Binder: the set-up cell's packages, and what Colab has, are all that the chapters import.

Here every other package of this environment is hidden, as if it were not installed. The workflow `colab` does
it weekly with an environment of its own, and with the newest versions.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path
from unittest.mock import patch

import pytest
import yaml
from made_up_course import ROOT
from packaging.requirements import Requirement

from ci.chapters import Repository, load_chapters, read_notebook, source_of
from ci.dependencies import without_magics
from ci.environment import name_of
from ci.notebooks import SETUP

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CHAPTERS = load_chapters(Repository(ROOT))
HIDE = """
from importlib.machinery import PathFinder

find = PathFinder.find_spec

def find_unless_hidden(name, path=None, target=None):
    return None if name.partition(".")[0] in hidden else find(name, path, target)

PathFinder.find_spec = find_unless_hidden
"""
RUN = """
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance()
for source in sources:
    result = shell.run_cell(source)
    assert result.success, source
"""


# What every chapter does: set up, train, measure, plot, claim, show a table and a live figure.
CHAPTER = [
    SETUP,
    """
import matplotlib.pyplot as plt
from kdlib import Distiller, SoftTargets, create_model, fit, load_data
from kdlib.course import checks
from kdlib import experiments, metrics, predict
from kdlib.course import plots
from kdlib.course.figures import TemperatureFigure

plots.style()
data = load_data("digits")
teacher, student = (create_model("convnet", 10, in_channels=1, width=4, seed=seed) for seed in (0, 1))
fit(Distiller(student, teacher, [SoftTargets()]), data.train.balanced(50), epochs=1)
logits = predict(student, data.test)
""",
    """
plots.picture(plt.subplot(), data.test.images[0])
plt.show()
""",
    "checks.claim('Right', 100 * metrics.accuracy(logits, data.test.labels), at_least=0, unit='%')",
    "experiments.table(['T', 'error'], [['1', '2 %']], 'A table')",
    "TemperatureFigure(logits[:8], data.test.images[:8, 0], data.test.labels[:8], data.classes)",
]


def with_all_it_needs(requirements: list[str]) -> set[str]:
    """The names of packages, and of those that they need in turn, as pip would install them here."""
    found: set[str] = set()
    waiting = [(Requirement(line), "") for line in requirements]
    seen = set()
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        found.add(name_of(requirement.name))
        for wanted in ("", *requirement.extras):
            if (requirement.name, wanted) not in seen:
                seen.add((requirement.name, wanted))
                waiting += [(Requirement(line), wanted) for line in metadata.requires(requirement.name) or ()]
    return found


@cache
def modules() -> dict[str, set[str]]:
    """For each module at the top, the packages that it belongs to."""
    # Once imported, setuptools puts what it brings along on the path: no packages of the environment.
    path = [place for place in sys.path if "setuptools" not in Path(place).parts]
    with patch.object(sys, "path", path):
        found = metadata.packages_distributions()
    return {name: {name_of(package) for package in packages} for name, packages in found.items()}


@cache
def there() -> set[str]:
    """The packages that the set-up cell installs."""
    extras = PROJECT["optional-dependencies"]
    return with_all_it_needs([*PROJECT["dependencies"], *extras["notebook"]])


def imported(source: str) -> Iterator[str]:
    """The modules at the top that code imports, wherever in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def on_colab(script: str) -> None:
    """Run Python where only those packages can be imported."""
    hidden = [name for name, packages in modules().items() if not packages & {*there(), "kdlib"}]
    assert {"jupyterlab", "papermill", "sphinx", "pytest"} <= set(hidden)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"}
    done = subprocess.run(
        [sys.executable, "-c", f"hidden = set({hidden!r})\n{HIDE}\n{script}"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def code_of(slug: str) -> list[str]:
    """A chapter's code cells."""
    cells = read_notebook(ROOT / "book" / f"{slug}.ipynb")["cells"]
    return [source_of(cell) for cell in cells if cell["cell_type"] == "code"]


def test_the_set_up_cell_asks_for_this_package_and_its_extra() -> None:
    address = PROJECT["urls"]["Repository"]
    assert f'%pip install -q "{PROJECT["name"]}[notebook] @ git+{address}"' in SETUP
    configuration = yaml.safe_load((ROOT / "_config.yml").read_text())
    assert configuration["repository"]["url"] == address


def test_a_chapter_runs_to_its_end_after_all_that_chapters_import() -> None:
    lines = set()
    for chapter in CHAPTERS:
        for source in code_of(chapter.slug):
            for node in ast.walk(ast.parse(without_magics(source))):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    lines.add(ast.unparse(node))
        lines.add(f"import kdlib.course.checks.chapter{chapter.number}")
    cells = ["\n".join(sorted(lines)), *CHAPTER]
    on_colab(f"sources = {json.dumps(cells)}\n{RUN}")


def test_binder_asks_for_the_notebook_extra_alone() -> None:
    words = (ROOT / ".binder" / "postBuild").read_text().split()
    assert [word.strip('"') for word in words if "[" in word] == [".[notebook]"]
    assert os.access(ROOT / ".binder" / "postBuild", os.X_OK)
    assert sorted(path.name for path in (ROOT / ".binder").iterdir()) == ["postBuild", "runtime.txt"]
    assert not (ROOT / "postBuild").exists(), "Binder looks into one folder only"


def test_what_is_hidden_is_hidden() -> None:
    with pytest.raises(AssertionError, match="No module named 'jupyterlab'"):
        on_colab("import jupyterlab")


def test_what_kdlib_imports_later_is_there_or_belongs_to_an_extra() -> None:
    extras = [line for group in PROJECT["optional-dependencies"].values() for line in group]
    asked_for = {name_of(line) for line in extras}
    for path in (ROOT / "kdlib").rglob("*.py"):
        for name in set(imported(path.read_text(encoding="utf-8"))) - sys.stdlib_module_names - {"kdlib"}:
            assert modules()[name] & (there() | asked_for), f"{path.relative_to(ROOT)} imports {name}"
