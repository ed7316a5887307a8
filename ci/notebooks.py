"""The lint of the chapters: each broken rule is one line with file, cell, what is wrong and what to do."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path

from ci.address import repository_address
from ci.chapters import (
    WIDGET_VIEW,
    Cell,
    Chapter,
    CourseError,
    Notebook,
    Repository,
    default_parameters,
    exercise_number,
    is_progress_bar,
    load_chapters,
    read_notebook,
    solution_code,
    solution_id,
    source_of,
    tags_of,
)
from ci.pages.predictions import Finding, predictions

REQUIRED_PARAMETERS = ("profile", "seed", "n_seeds", "device")
LONGEST_CELL = 25
LONGEST_MEDIAN = 10
FEWEST_EXERCISES = 4
READABLE_ID = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
# What JupyterLab (a UUID or part of one) and nbformat (eight hexadecimal digits) give a new cell.
RANDOM_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}.*)?")
ADDRESS = repository_address(Path(__file__).parents[1])
SETUP = f"""\
# Colab and Binder: install the course's package. Anywhere it is already installed, this does nothing.
import importlib.util

if importlib.util.find_spec("kdlib") is None:
    %pip install -q "kdlib[notebook] @ git+{ADDRESS}\""""

Rule = Callable[[Notebook], Iterator[Finding]]


def lint_all(repository: Repository, *, fix: bool) -> int:
    """Lint every chapter and every execution that is there, print what is wrong, and return the exit code."""
    chapters = load_chapters(repository)
    if fix:
        for chapter in chapters:
            mend(chapter)
    findings = [line for chapter in chapters for line in lint(chapter)]
    for chapter in chapters:
        output = repository.executed("quick", chapter.slug)
        if output.is_file():
            findings += lint_executed(read_notebook(output), output.name)
    print("\n".join(findings) if findings else f"{len(chapters)} notebooks keep the rules.")
    return 1 if findings else 0


def lint(chapter: Chapter) -> list[str]:
    """The rules that a chapter's source breaks, one line each."""
    notebook = read_notebook(chapter.source)
    if (notebook.get("nbformat"), notebook.get("nbformat_minor")) != (4, 5):
        return [f"{chapter.source.name}: is not nbformat 4.5: save it with a current JupyterLab."]
    if nameless := [n for n, cell in enumerate(notebook["cells"], start=1) if not cell.get("id")]:
        where = ", ".join(map(str, nameless))
        return [f"{chapter.source.name}: cell {where}: no id: run `python -m ci notebooks --fix`."]
    findings = [found for rule in RULES for found in rule(notebook)]
    return [f"{chapter.source.name}: {where}: {what}" for where, what in findings]


def lint_executed(notebook: Notebook, name: str) -> list[str]:
    """What is wrong with an execution's outputs: figures not described, or alive only with a kernel."""
    findings = []
    for cell in code_cells(notebook):
        for data in [output.get("data", {}) for output in cell["outputs"] if not is_progress_bar(output)]:
            if WIDGET_VIEW in data and "text/html" not in data:
                findings.append(
                    (cell["id"], "its widget is dead on the page: show it with text/html beside it.")
                )
            if "text/html" in data or not any(mime.startswith("image/") for mime in data):
                continue
            if not alt_text(cell):
                findings.append((cell["id"], "its figure has no alt text: set metadata.mystnb.image.alt."))
            if "hide-input" not in tags_of(cell):
                findings.append((cell["id"], "plots, so tag it `hide-input`."))
    return [f"{name}: {where}: {what}" for where, what in findings]


def alt_text(cell: Cell) -> str:
    """The description that the page gives to the cell's figures."""
    text: str = cell["metadata"].get("mystnb", {}).get("image", {}).get("alt", "")
    return text.strip()


def mend(chapter: Chapter) -> None:
    """Remove outputs, counts and widget state, and name cells without an id after their first words."""
    notebook = read_notebook(chapter.source)
    notebook["metadata"].pop("widgets", None)
    for position, cell in enumerate(notebook["cells"], start=1):
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
        if not cell.get("id"):
            words = re.findall(r"[a-z0-9]+", source_of(cell).lower())[:3]
            cell["id"] = "-".join(["cell", str(position), *words])
    text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
    chapter.source.write_text(text, encoding="utf-8")


def code_cells(notebook: Notebook) -> list[Cell]:
    """The code cells in order."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def valid_format(notebook: Notebook) -> Iterator[Finding]:
    """The notebook is valid, and runs in the kernel that every environment has."""
    from nbformat.validator import iter_validate

    for error in iter_validate(notebook):
        yield "notebook", f"is not valid ({str(error).splitlines()[0]}): save it with a current JupyterLab."
    if notebook["metadata"].get("kernelspec", {}).get("name") != "python3":
        yield "notebook", "its kernel is not `python3`: set metadata.kernelspec.name."


def nothing_executed(notebook: Notebook) -> Iterator[Finding]:
    """Git holds no outputs, execution counts or widget state."""
    remedy = "run `python -m ci notebooks --fix`."
    if "widgets" in notebook["metadata"]:
        yield "notebook", f"holds widget state: {remedy}"
    for cell in code_cells(notebook):
        if cell.get("outputs"):
            yield cell["id"], f"holds outputs: {remedy}"
        if cell.get("execution_count") is not None:
            yield cell["id"], f"holds an execution count: {remedy}"


def readable_ids(notebook: Notebook) -> Iterator[Finding]:
    """Cell ids are there, unique and readable, because cached outputs and links are found by them."""
    seen: set[str] = set()
    for identity in [cell["id"] for cell in notebook["cells"]]:
        if identity in seen:
            yield identity, "is the id of two cells: rename one."
        elif RANDOM_ID.fullmatch(identity) or not READABLE_ID.fullmatch(identity):
            yield identity, "is not a readable id: name the cell's subject, as in `temperature-plot`."
        seen.add(identity)


def opening(notebook: Notebook) -> Iterator[Finding]:
    """A chapter opens with its question and what the reader will be able to do."""
    text = "\n".join(source_of(cell) for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    before_first_section = text.split("\n## ", 1)[0]
    if ":::{admonition} In this chapter" not in before_first_section:
        yield "first cell", "`:::{admonition} In this chapter` is missing before the first section."


def setup_and_parameters(notebook: Notebook) -> Iterator[Finding]:
    """The first code cell is the shared set-up; the second holds the parameters."""
    code = code_cells(notebook)
    first = code[0] if code else {"source": "", "metadata": {}}
    if "setup" not in tags_of(first) or lines_of(source_of(first)) != lines_of(SETUP):
        yield "first code cell", "is not the shared set-up cell tagged `setup`: copy it from another chapter."
    if len(code) < 2 or "parameters" not in tags_of(code[1]):
        yield "second code cell", "is not the cell tagged `parameters`: move it there."
    try:
        parameters = default_parameters(notebook)
    except CourseError as error:
        yield "parameters", str(error)
        return
    for name in REQUIRED_PARAMETERS:
        if name not in parameters:
            yield "parameters", f"`{name}` is missing: every chapter has {', '.join(REQUIRED_PARAMETERS)}."


def lines_of(source: str) -> list[str]:
    """The lines that are not blank; the formatter decides about the others."""
    return [line for line in source.splitlines() if line.strip()]


def short_cells(notebook: Notebook) -> Iterator[Finding]:
    """Code comes in pieces that are read at a glance."""
    lengths = {cell["id"]: len(source_of(cell).splitlines()) for cell in code_cells(notebook)}
    for identity, length in lengths.items():
        if length > LONGEST_CELL:
            yield (
                identity,
                f"has {length} lines: split it, or move plumbing to kdlib (at most {LONGEST_CELL}).",
            )
    median = statistics.median(lengths.values()) if lengths else 0
    if median >= LONGEST_MEDIAN:
        yield "notebook", f"its median code cell has {median:g} lines: split some (under {LONGEST_MEDIAN})."


def claims_are_tagged(notebook: Notebook) -> Iterator[Finding]:
    """The tag `claim` is on the cells that assert one, and on no others."""
    for cell in code_cells(notebook):
        makes = "checks.claim(" in source_of(cell)
        if makes and "claim" not in tags_of(cell):
            yield cell["id"], "makes a claim: tag it `claim`."
        if not makes and "claim" in tags_of(cell):
            yield cell["id"], "is tagged `claim` but calls no `checks.claim(…)`: remove the tag."


def colon_fences(notebook: Notebook) -> Iterator[Finding]:
    """Directives are written with colons, which JupyterLab and Colab show as readable text."""
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown" and re.search(r"^\s*(```|~~~)\{", source_of(cell), re.MULTILINE):
            yield cell["id"], "has a directive in backticks or tildes: write it as `:::{name}` … `:::`."


def exercises_are_whole(notebook: Notebook) -> Iterator[Finding]:
    """Each exercise has its text, a cell that ends in its check, and a hidden solution."""
    texts = {cell["id"]: source_of(cell) for cell in notebook["cells"] if cell["cell_type"] == "markdown"}
    prose = "\n".join(texts.values())
    exercises = [cell for cell in code_cells(notebook) if "exercise" in tags_of(cell)]
    if len(exercises) < FEWEST_EXERCISES:
        yield "notebook", f"has {len(exercises)} exercises: a chapter has at least {FEWEST_EXERCISES}."
    for cell in exercises:
        number = exercise_number(cell)
        if number is None:
            yield cell["id"], "is an exercise: give it an id such as `exercise-2-1`."
            continue
        if source_of(cell).rstrip().splitlines()[-1:] != [f'checks.check("{number}", answer)']:
            yield cell["id"], f'does not end in `checks.check("{number}", answer)`: add it.'
        if f"### Exercise {number}" not in prose:
            yield cell["id"], f"has no text: write a Markdown cell with `### Exercise {number}: …` before it."
        solution = texts.get(solution_id(cell), "")
        summary = f'<details class="solution"><summary>Solution {number}</summary>'
        if summary not in solution or solution_code(solution) is None:
            yield cell["id"], f"has no whole solution: `{solution_id(cell)}` needs `{summary}` and ~~~python."


def exercises_come_last(notebook: Notebook) -> Iterator[Finding]:
    """No code runs after the exercises, so that a solution finds the chapter as its reader does."""
    cells = code_cells(notebook)
    while cells and "exercise" in tags_of(cells[-1]):
        cells.pop()
    for cell in cells:
        if "exercise" in tags_of(cell):
            yield cell["id"], f"is an exercise before the code `{cells[-1]['id']}`: move it to the end."


def closing(notebook: Notebook) -> Iterator[Finding]:
    """A chapter ends with its exercises and a summary."""
    prose = "\n".join(source_of(cell) for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    for heading in ("## Exercises", "## Summary"):
        if not re.search(rf"^{heading}\s*$", prose, re.MULTILINE):
            yield "notebook", f"the section `{heading}` is missing: add it."


RULES: tuple[Rule, ...] = (
    readable_ids,
    valid_format,
    nothing_executed,
    opening,
    setup_and_parameters,
    short_cells,
    claims_are_tagged,
    colon_fences,
    predictions,
    exercises_are_whole,
    exercises_come_last,
    closing,
)
