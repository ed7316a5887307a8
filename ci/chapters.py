"""The chapters: what book/ says of them, and the key of an execution that is still current."""

from __future__ import annotations

import ast
import hashlib
import itertools
import json
import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ci.dependencies import Library
from ci.environment import lock_of

PROFILES = ("quick", "short", "full")
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"

Notebook = dict[str, Any]
Cell = dict[str, Any]


class CourseError(Exception):
    """A mistake in the request or in the book's files, told in one sentence."""


class BuildError(Exception):
    """A build that was asked for rightly and did not succeed."""


@dataclass(frozen=True)
class Repository:
    """Where everything lies, from the repository's root."""

    root: Path

    @property
    def book(self) -> Path:
        """The chapters' and pages' sources."""
        return self.root / "book"

    @property
    def build(self) -> Path:
        """Everything that the commands make."""
        return self.root / "_build"

    @property
    def html(self) -> Path:
        """The last good pages."""
        return self.build / "html"

    @property
    def notebooks(self) -> Path:
        """The chapters with their outputs, as they are shared."""
        return self.build / "notebooks"

    def executed(self, profile: str, slug: str) -> Path:
        """The last good execution of a chapter in a profile."""
        return self.build / "executed" / profile / f"{slug}.ipynb"

    def failed(self, profile: str, slug: str) -> Path:
        """The last execution of a chapter in a profile, where it failed: as far as it got."""
        return self.build / "failed" / profile / f"{slug}.ipynb"


@dataclass(frozen=True)
class Chapter:
    """One notebook: its title is in its first cell, its place in _toc.yml, the rest in chapters.yml.

    Budget, parameters, accelerator, data sets and the patterns of runs that it reads are there by profile.
    """

    slug: str
    title: str
    budget: dict[str, float]
    parameters: dict[str, dict[str, Any]]
    accelerator: dict[str, str]
    source: Path
    data: dict[str, list[str]] = field(default_factory=dict)
    runs: dict[str, list[str]] = field(default_factory=dict)

    @property
    def number(self) -> str:
        """The two digits that the slug starts with."""
        return self.slug[:2]


@dataclass(frozen=True)
class Job:
    """One chapter to be executed in one profile, and the key that this execution will have."""

    chapter: Chapter
    profile: str
    parameters: dict[str, Any]
    solutions: dict[str, str]
    key: str
    output: Path

    @property
    def budget(self) -> float:
        """The seconds that the chapter may take in this profile."""
        return self.chapter.budget[self.profile]

    @property
    def accelerator(self) -> str:
        """What the chapter needs in this profile: "cuda", or "cpu" for nothing in particular."""
        return self.chapter.accelerator.get(self.profile, "cpu")

    @property
    def data(self) -> list[str]:
        """The data sets that have to be on the machine."""
        return self.chapter.data.get(self.profile, [])

    @property
    def runs(self) -> list[str]:
        """The patterns of the recipes that are trained before the chapter, which then reads their records."""
        return self.chapter.runs.get(self.profile, [])


def load_chapters(repository: Repository) -> list[Chapter]:
    """The chapters in the order of book/_toc.yml; each has a notebook and an entry in book/chapters.yml.

    Raises:
        CourseError: the three do not agree, or an entry cannot be one.
    """
    entries = yaml.safe_load((repository.book / "chapters.yml").read_text(encoding="utf-8"))
    if not (isinstance(entries, dict) and all(isinstance(entry, dict) for entry in entries.values())):
        raise CourseError("book/chapters.yml has another form: give each chapter an entry under its slug.")
    slugs = chapter_order(repository)
    if differing := entries.keys() ^ set(slugs):
        raise CourseError(
            f"book/chapters.yml and the notebooks in book/ differ in {', '.join(sorted(differing))}: "
            "list each notebook there once."
        )
    return [load_chapter(repository, slug, entries[slug]) for slug in slugs]


def chapter_order(repository: Repository) -> list[str]:
    """The slugs of the notebooks in the order of book/_toc.yml, which is that of their numbers.

    Raises:
        CourseError: a notebook is not listed, is listed twice or is out of order.
    """
    there = {path.stem for path in repository.book.glob("*.ipynb")}
    contents = yaml.safe_load((repository.book / "_toc.yml").read_text(encoding="utf-8"))
    slugs = [name for name in listed_files(contents) if name in there]
    if missing := there.difference(slugs):
        raise CourseError(f"book/_toc.yml does not list {', '.join(sorted(missing))}: add it.")
    for before, after in itertools.pairwise(slugs):
        if before[:2] >= after[:2]:
            raise CourseError(
                f"book/_toc.yml lists {after} after {before}: give each chapter one place, by its number."
            )
    return slugs


def listed_files(contents: Any) -> Iterator[str]:
    """The files of a table of contents, in order."""
    if isinstance(contents, dict):
        for key, value in contents.items():
            yield from [value] if key == "file" else listed_files(value)
    elif isinstance(contents, list):
        for part in contents:
            yield from listed_files(part)


def load_chapter(repository: Repository, slug: str, entry: dict[str, Any]) -> Chapter:
    """One chapter, from its notebook and its entry in book/chapters.yml."""
    source = repository.book / f"{slug}.ipynb"
    budget, accelerator = entry.get("budget", {}), entry.get("accelerator", {})
    if set(budget) != set(PROFILES):
        raise CourseError(f"book/chapters.yml: {slug} needs a budget for each of {', '.join(PROFILES)}.")
    if not set(accelerator.values()) <= {"cuda", "cpu"}:
        raise CourseError(f"book/chapters.yml: {slug} asks for {accelerator}: give cuda or cpu.")
    data, runs = entry.get("data", {}), entry.get("runs", {})
    known = ", ".join(PROFILES)
    for profile in {*accelerator, *data, *runs, *entry.get("parameters", {})}.difference(PROFILES):
        raise CourseError(f"book/chapters.yml: {slug} names the profile {profile!r}: it is one of {known}.")
    for name in {name for names in data.values() for name in names}.difference(data_sets(repository)):
        known = ", ".join(data_sets(repository))
        raise CourseError(f"book/chapters.yml: {slug} needs the data set {name!r}: there are {known}.")
    parameters = entry.get("parameters", {})
    return Chapter(slug, title_of(source), budget, parameters, accelerator, source, data, runs)


def data_sets(repository: Repository) -> dict[str, dict[str, Any]]:
    """The catalogue of kdlib's data sets by name; kdlib is not imported here, because torch takes seconds."""
    catalogue = repository.root / "kdlib" / "data" / "datasets.toml"
    return tomllib.loads(catalogue.read_text(encoding="utf-8")) if catalogue.is_file() else {}


def title_of(source: Path) -> str:
    """The heading that a chapter's notebook starts with."""
    first = next(iter(read_notebook(source)["cells"]), None)
    heading = first and first["cell_type"] == "markdown" and re.match(r"# (.+)", source_of(first))
    if not heading:
        raise CourseError(
            f"{source.name} does not start with its title: let its first cell begin with `# …`."
        )
    return heading[1].strip()


def select(chapters: list[Chapter], wanted: str) -> list[Chapter]:
    """The chapters named by number or slug in a string such as "02 3"; "all" is every one, "none" no one."""
    if wanted.strip() in ("", "all", "none"):
        return [] if wanted.strip() == "none" else chapters
    names = [name.zfill(2) if name.isdigit() else name for name in wanted.replace(",", " ").split()]
    for name in names:
        if not any(name in (chapter.number, chapter.slug) for chapter in chapters):
            valid = ", ".join(f"{chapter.number} ({chapter.slug})" for chapter in chapters)
            raise CourseError(f"Unknown chapter {name!r}: the chapters are {valid}.")
    return [chapter for chapter in chapters if chapter.number in names or chapter.slug in names]


def plan_jobs(repository: Repository, chapters: Iterable[Chapter], profile: str) -> list[Job]:
    """The jobs that execute the chapters in a profile."""
    library = Library(repository.root)
    return [plan_job(repository, library, chapter, profile) for chapter in chapters]


def plan_job(repository: Repository, library: Library, chapter: Chapter, profile: str) -> Job:
    """The job that executes a chapter in a profile, its parameters checked against the notebook's own."""
    if profile not in PROFILES:
        raise CourseError(f"Unknown profile {profile!r}: the profiles are {', '.join(PROFILES)}.")
    notebook = read_notebook(chapter.source)
    if not all(cell.get("id") for cell in notebook["cells"]):
        raise CourseError(
            f"{chapter.source.name} has cells without an id: run `python -m ci notebooks --fix`."
        )
    try:
        defaults = default_parameters(notebook)
    except CourseError as error:
        raise CourseError(f"{chapter.source.name}: {error}") from error
    asked = {"profile": profile, **chapter.parameters.get(profile, {})}
    for name in asked:
        if name not in defaults:
            raise CourseError(
                f"{chapter.source.name} has no parameter {name!r}, which book/chapters.yml gives it: "
                f"its parameters are {', '.join(defaults)}."
            )
    parameters = {name: value for name, value in asked.items() if value != defaults[name]}
    # The longer profiles would train the solutions on real data for hours.
    solutions = solution_cells(notebook) if profile == "quick" else {}
    try:
        key = execution_key(library, chapter.number, notebook, profile, parameters, solutions)
    except SyntaxError as error:
        raise CourseError(f"{chapter.source.name} cannot be read as Python ({error}).") from error
    return Job(chapter, profile, parameters, solutions, key, repository.executed(profile, chapter.slug))


def is_current(job: Job) -> bool:
    """Whether the last execution had the code, parameters, library, data and pins of the present sources.

    One in which a cell failed never is, wherever it comes from.
    """
    if not job.output.is_file():
        return False
    notebook = read_notebook(job.output)
    return course_metadata(notebook).get("key") == job.key and not has_error(notebook)


def has_error(notebook: Notebook) -> bool:
    """Whether a cell of an executed notebook failed."""
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    return any(output["output_type"] == "error" for output in outputs)


def solution_cells(notebook: Notebook) -> dict[str, str]:
    """For each solution, by its cell's id, code to be run after the chapter's last cell, in order.

    It runs the exercise as it stands, which has to be open, and then the solution, which has to be right. The
    exercises are a chapter's last code cells, so a solution finds there what it finds in its place.
    """
    texts = {cell["id"]: source_of(cell) for cell in notebook["cells"] if cell["cell_type"] == "markdown"}
    found = {}
    for cell in notebook["cells"]:
        number, identity = exercise_number(cell), solution_id(cell)
        solution = solution_code(texts.get(identity, ""))
        if number and solution:
            feedback = f'feedback = checks.check("{number}", answer)\nassert feedback.state =='
            found[identity] = (
                f"# The exercise as it stands in the chapter.\n{source_of(cell).rstrip()}\n"
                f"{feedback} 'open', feedback\n\n"
                f"# Its solution.\n{solution.rstrip()}\n{feedback} 'right', feedback\n"
            )
    return found


def exercise_number(cell: Cell) -> str | None:
    """The number of an exercise, such as "2.1", from its cell's id; None for another cell, or another id."""
    found = re.fullmatch(r"exercise-(\d+)-(\d+)", cell["id"])
    return ".".join(found.groups()) if found and "exercise" in tags_of(cell) else None


def solution_id(exercise: Cell) -> str:
    """The id of the Markdown cell that solves an exercise."""
    identity: str = exercise["id"]
    return identity.replace("exercise-", "solution-")


def solution_code(text: str) -> str | None:
    """The Python code in a solution's Markdown, or None."""
    found = re.search(r"^~~~python\n(.*?)^~~~", text, re.MULTILINE | re.DOTALL)
    return found[1] if found else None


def execution_key(
    library: Library,
    number: str,
    notebook: Notebook,
    profile: str,
    parameters: dict[str, Any],
    solutions: dict[str, str],
) -> str:
    """The hash of all in the sources that can change a chapter's outputs; its prose is left out.

    The set-up cell is not in it, since kdlib is there where a chapter is executed: another address of the
    course changes no output. What executes it is not in it either: a machine that plans or assembles has
    another device, and may have another Python. Both are noted beside the key, in the executed notebook.
    """
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    code = [[cell["id"], source_of(cell)] for cell in cells if "setup" not in tags_of(cell)]
    code += [[identity, source] for identity, source in solutions.items()]
    files = library.files(number, [source for _, source in code])
    if profile != "quick":
        # The longer profiles write data/results themselves, so it cannot tell whether to run them again.
        written = library.root / "data" / "results"
        files = [file for file in files if not file.is_relative_to(written)]
    inputs = {
        "code": code,
        "profile": profile,
        "parameters": parameters,
        "files": library.hashes([lock_of(library.root, "book"), *files]),
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def read_notebook(path: Path) -> Notebook:
    """A notebook as plain JSON; validation is left to the lint, which keeps an unchanged build quick."""
    try:
        notebook: Notebook = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CourseError(
            f"{path} is not a readable notebook ({error}): restore it from git, or remove it from _build."
        ) from error
    return notebook


def course_metadata(notebook: Notebook) -> dict[str, Any]:
    """What `ci` noted in an executed notebook: key, profile, parameters, time, device, versions, commit."""
    noted: dict[str, Any] = notebook["metadata"].get("course", {})
    return noted


def source_of(cell: Cell) -> str:
    """A cell's text; the format allows one string or a list of lines."""
    source = cell["source"]
    return source if isinstance(source, str) else "".join(source)


def tags_of(cell: Cell) -> list[str]:
    """A cell's tags."""
    tags: list[str] = cell["metadata"].get("tags", [])
    return tags


def is_progress_bar(output: dict[str, Any]) -> bool:
    """Whether an output is tqdm's widget, which means something only while its cell runs."""
    text = "".join(output.get("data", {}).get("text/plain", ""))
    return WIDGET_VIEW in output.get("data", {}) and re.search(r"\d+%\|", text) is not None


def default_parameters(notebook: Notebook) -> dict[str, Any]:
    """The names and literal values that the cell tagged `parameters` assigns."""
    cells = [cell for cell in notebook["cells"] if "parameters" in tags_of(cell)]
    if len(cells) != 1:
        raise CourseError(f"{len(cells)} cells are tagged `parameters`: a chapter needs exactly one.")
    try:
        statements = ast.parse(source_of(cells[0])).body
        return {name: value for statement in statements for name, value in literal_assignment(statement)}
    except (SyntaxError, ValueError) as error:
        raise CourseError(
            f"the parameters cell may hold only assignments of literals, one per line ({error})."
        ) from error


def literal_assignment(statement: ast.stmt) -> Iterator[tuple[str, Any]]:
    """The one name and value of a statement such as `seed = 0`."""
    if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Name):
        raise ValueError(f"not an assignment: {ast.unparse(statement)}")
    yield statement.targets[0].id, ast.literal_eval(statement.value)
