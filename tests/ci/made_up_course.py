"""Pieces of a made-up course that the pipeline's tests run on."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from ci.chapters import Repository
from ci.pages.records import slug_of

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = """\
01-alone:
  budget: {quick: 60, short: 60, full: 60}
  parameters: {short: {seed: 7}}
02-library:
  budget: {quick: 60, short: 60, full: 60}
"""
CONFIGURATION = """\
title: Made up
only_build_toc_files: true
execute: {execute_notebooks: "off"}
"""
CONTENTS = """\
format: jb-book
root: intro
chapters:
  [{file: 01-alone}, {file: 02-library}, {file: status}, {file: claims}, {file: changelog}, {file: records}]
"""


def make_course(folder: Path) -> Repository:
    """A whole small repository in a folder: sources only, nothing executed."""
    texts = {
        "book/chapters.yml": CHAPTERS,
        "book/_toc.yml": CONTENTS,
        "book/intro.md": "# Made up\n",
        "CHANGELOG.md": "# Changelog\n",
        "_config.yml": CONFIGURATION,
        "ci/requirements/book.txt": "torch==2.0\n",
        "kdlib/__init__.py": "answer = 42\n",
        "data/results/02-library/quick/run-seed0.json": record_text("a student", "run", "quick"),
    }
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    write_notebook(folder / "book/01-alone.ipynb", *chapter_cells("Alone", "print('seed', seed)"))
    library = chapter_cells("Library", "import kdlib\n\nkdlib.answer", "runs = 'results of', '02-library'")
    write_notebook(folder / "book/02-library.ipynb", *library)
    return Repository(folder)


def record_text(student: str, label: str = "made", profile: str = "full") -> str:
    """The text of a record of a run."""
    fields = {
        "seed": 0, "label": label, "profile": profile, "settings": {"student": student, "teacher": None},
        "data": {"source": "digits, train", "train_images": 50, "fingerprint": "683b867e678a33bb"},
        "final": {"accuracy": 0.5}, "started": "2026-11-20T06:19:21+00:00", "seconds": 1.0, "recipe": None,
        "environment": {"commit": "abc1234", "device": "cpu (x86_64)", "threads": 1},
        "epochs": {}, "format": 2,
    }  # fmt: skip
    return json.dumps(fields)


def copy_sources(folder: Path) -> Path:
    """The sources as they are here, records left out, copied into a new folder."""
    git = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(git, check=True, capture_output=True, text=True).stdout.splitlines():
        if (ROOT / name).is_file() and not name.startswith("data/results/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def markdown(identity: str, source: str) -> dict[str, Any]:
    """A Markdown cell."""
    return {"cell_type": "markdown", "id": identity, "metadata": {}, "source": source}


def code(identity: str, source: str, *tags: str) -> dict[str, Any]:
    """A code cell that was never run."""
    return {
        "cell_type": "code",
        "id": identity,
        "metadata": {"tags": list(tags)} if tags else {},
        "source": source,
        "outputs": [],
        "execution_count": None,
    }


def write_notebook(path: Path, *cells: dict[str, Any]) -> None:
    """Write a notebook in the format that chapters have."""
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": kernel}, "cells": list(cells)}
    path.write_text(json.dumps(notebook))


def chapter_cells(title: str, *sources: str) -> list[dict[str, Any]]:
    """A title, a parameters cell and one code cell per source."""
    parameters = 'profile = "quick"\nseed = 0'
    cells = [code(f"step-{number}", source) for number, source in enumerate(sources, start=1)]
    return [markdown("title", f"# {title}"), code("parameters", parameters, "parameters"), *cells]


def exercise_cells(number: str, exercise: str, solution: str) -> list[dict[str, Any]]:
    """The three cells of an exercise; its number is chapter first, as in "2.1"."""
    identity = f"exercise-{number.replace('.', '-')}"
    solved = f"Add.\n\n~~~python\n{solution}\n~~~"
    text = f'<details class="solution"><summary>Solution {number}</summary>\n\n{solved}\n\n</details>'
    return [
        markdown(f"{identity}-text", f"### Exercise {number}: add"),
        code(identity, f'{exercise}\nchecks.check("{number}", answer)', "exercise"),
        markdown(identity.replace("exercise", "solution"), text),
    ]


def keep_record(
    results: Path, place: str, seed: int, recipe: dict[str, Any] | None = None, **environment: Any
) -> None:
    """Write a record with the fields that the pages show."""
    experiment, profile, label = place.split("/", 2)
    path = results / experiment / profile / f"{slug_of(label)}-seed{seed}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    fields = {
        "seed": seed,
        "label": label,
        "profile": profile,
        "settings": {"student": "ConvNet, 6,274 weights", "teacher": None},
        "data": {"source": "digits, train", "train_images": 50, "fingerprint": "683b867e678a33bb"},
        "final": {"accuracy": 0.8 + seed / 10},
        "environment": {"commit": "abc1234", "device": "cpu (x86_64)", "threads": 1} | environment,
        "started": f"2026-11-2{seed}T06:19:21+00:00",
        "seconds": 1.25,
        "recipe": recipe,
    }
    path.write_text(json.dumps(fields))
