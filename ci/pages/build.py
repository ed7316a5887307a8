"""Build the pages: stage sources with outputs, run Jupyter Book, put the result in place by a rename."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import yaml

from ci.chapters import (
    PROFILES,
    BuildError,
    Cell,
    Chapter,
    Job,
    Notebook,
    Repository,
    course_metadata,
    has_error,
    is_progress_bar,
    read_notebook,
    source_of,
    tags_of,
)
from ci.dependencies import tree_hash
from ci.execute import without_colour
from ci.notebooks import ADDRESS
from ci.pages.cards import stage_cards
from ci.pages.records import Group, key_of, load_groups, record_pages, with_links
from ci.pages.status import CLAIM, claims_page, status_page

KEY_FILE = ".course-key"
SPHINX_COMPLAINT = re.compile(r"(WARNING|ERROR|CRITICAL):|^\w*(Error|Exception)\b")
# Sphinx numbers the lines of a notebook as ten thousand times the cell plus the line in it.
NOTEBOOK_LINE = re.compile(r"([\w-]+\.ipynb):(\d+)(\d{4}):")


def build_pages(repository: Repository, jobs: list[Job], commit: str | None = None) -> None:
    """Build _build/html unless it is up to date; on failure the last good pages stay.

    With a commit, which has to be public, the chapters' first cells install `kdlib` as it was there.
    """
    work = repository.build / "pages.partial"
    shutil.rmtree(work, ignore_errors=True)
    stage = work / "source"
    stage_sources(repository, jobs, stage, commit)
    key = tree_hash([stage, *(repository.root / name for name in ("_config.yml", "ci", "kdlib"))])
    if page_key(repository.html) == key:
        shutil.rmtree(work)
        print("The pages are up to date.")
        return
    print("Building the pages (about 10 s) …", flush=True)
    started = time.monotonic()
    html = run_jupyter_book(repository, stage, work / "output")
    (html / KEY_FILE).write_text(key)
    swap(html, repository.html)
    shutil.rmtree(work)
    print(f"Pages built in {time.monotonic() - started:.1f} s.")


def page_key(html: Path) -> str | None:
    """The key of the pages that are in place."""
    path = html / KEY_FILE
    return path.read_text() if path.is_file() else None


def stage_sources(repository: Repository, jobs: list[Job], stage: Path, commit: str | None = None) -> None:
    """Copy book/ with every chapter's outputs put in, and write the pages that say where they are from."""
    shutil.copytree(repository.book, stage, ignore=shutil.ignore_patterns("*.ipynb", ".ipynb_checkpoints"))
    groups = load_groups(repository.root / "data" / "results")
    by_key = {key_of(group.place(group.records[0])): group for group in groups}
    executed: list[tuple[Chapter, Notebook | None]] = []
    for job in jobs:
        last = last_execution(repository, job)
        executed.append((job.chapter, last))
        page = with_outputs(read_notebook(job.chapter.source), last, note_for(job, last))
        pin(page, commit)
        link_records(page, job.chapter.slug, by_key)
        (stage / job.chapter.source.name).write_text(json.dumps(page), encoding="utf-8")
    stage_cards(stage, repository.root, groups)
    records = record_pages(groups, {job.chapter.slug: job.chapter.title for job in jobs})
    changelog = (repository.root / "CHANGELOG.md").read_text(encoding="utf-8")
    written = {"status": status_page(executed), "claims": claims_page(executed), "changelog": changelog}
    for name, text in (written | records).items():
        (stage / f"{name}.md").write_text(text, encoding="utf-8")
    list_below(stage / "_toc.yml", "records", [name for name in records if name != "records"])
    runs = {chapter.slug: course_metadata(last) for chapter, last in executed if last is not None}
    (stage / "runs.json").write_text(json.dumps(runs), encoding="utf-8")


def link_records(page: Notebook, slug: str, groups: dict[str, Group]) -> None:
    """Let recorded numbers in the tables of a chapter lead to their records."""
    for cell in page["cells"]:
        for output in cell.get("outputs", []):
            markup = output.get("data", {}).get("text/html")
            if markup is not None:
                text = with_links("".join(markup), slug, groups)
                output["data"] = output["data"] | {"text/html": text}


def list_below(contents: Path, name: str, pages: list[str]) -> None:
    """List pages below another one in the book's table of contents, if that is in it."""
    listing = yaml.safe_load(contents.read_text(encoding="utf-8"))
    chapters = [
        *listing.get("chapters", []),
        *(c for part in listing.get("parts", []) for c in part["chapters"]),
    ]
    for chapter in chapters:
        if chapter["file"] == name and pages:
            chapter["sections"] = [{"file": page} for page in pages]
    contents.write_text(yaml.safe_dump(listing, sort_keys=False), encoding="utf-8")


def last_execution(repository: Repository, job: Job) -> Notebook | None:
    """The chapter's last execution in this profile, else in another, else None; never one that failed."""
    others = [repository.executed(profile, job.chapter.slug) for profile in PROFILES]
    notebooks = (read_notebook(path) for path in [job.output, *others] if path.is_file())
    return next((notebook for notebook in notebooks if not has_error(notebook)), None)


def note_for(job: Job, last: Notebook | None) -> str | None:
    """What the page must say at its top when its outputs are not those of the present sources and profile."""
    command = f'`make book PROFILE={job.profile} CHAPTERS="{job.chapter.number}"`'
    if last is None:
        return f"This chapter has not been executed, so the page shows no results. {command} executes it."
    noted = course_metadata(last)
    if noted["key"] == job.key:
        return None
    return (
        f"The results on this page are from an earlier execution (profile `{noted['profile']}`, "
        f"{noted['started'][:10]}). Something that they depend on is different now; a cell changed since "
        f"then shows no result. {command} brings the page up to date."
    )


def with_outputs(source: Notebook, executed: Notebook | None, note: str | None) -> Notebook:
    """The present text and code, with the outputs of each cell whose code is the code that was executed."""
    page = copy.deepcopy(source)
    ran = {cell["id"]: cell for cell in executed["cells"]} if executed else {}
    injected = [cell for cell in ran.values() if "injected-parameters" in tags_of(cell)]
    cells: list[Cell] = []
    for cell in page["cells"]:
        before = ran.get(cell["id"])
        if cell["cell_type"] == "code" and before and source_of(before) == source_of(cell):
            cell["execution_count"] = before["execution_count"]
            cell["outputs"] = [
                shown_output(output) for output in before["outputs"] if not is_progress_bar(output)
            ]
        cells.append(cell)
        if "parameters" in tags_of(cell):
            # The values that really ran stand on the page, right below the defaults that they replaced.
            cells += injected
    if note:
        cells.insert(1, markdown_cell("execution-note", f":::{{warning}}\n{note}\n:::"))
    page["cells"] = cells
    page["metadata"].pop("widgets", None)
    return page


def pin(notebook: Notebook, commit: str | None) -> None:
    """Let a chapter's first cell install `kdlib` at a commit, if any, and not what is newest then."""
    for cell in notebook["cells"]:
        if commit is not None and "setup" in tags_of(cell):
            cell["source"] = source_of(cell).replace(f"git+{ADDRESS}", f"git+{ADDRESS}@{commit}")


def shown_output(output: Cell) -> Cell:
    """An output without its claim, which is for the status page and which Sphinx would warn of."""
    if CLAIM not in output.get("data", {}):
        return output
    return output | {"data": {mime: data for mime, data in output["data"].items() if mime != CLAIM}}


def markdown_cell(identity: str, text: str) -> Cell:
    """A Markdown cell in the notebook format."""
    return {"cell_type": "markdown", "id": identity, "metadata": {}, "source": text}


def run_jupyter_book(repository: Repository, stage: Path, output: Path) -> Path:
    """Run Jupyter Book, warnings as errors, and return its folder of HTML; a failure shows the warnings."""
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build", str(stage)]
    command += ["--config", str(repository.root / "_config.yml"), "--path-output", str(output)]
    done = subprocess.run(
        [*command, "-W", "-n", "--keep-going"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        env=os.environ | {"PYTHONUTF8": "1"},
    )
    text = without_colour(done.stdout).replace(str(stage), "book")
    log = repository.build / "pages.log"
    log.write_text(text, encoding="utf-8")
    if done.returncode != 0:
        raise BuildError(
            f"{complaints(text, stage)}\n\n"
            f"The pages could not be built; the last good ones stay. The full log is {log}."
        )
    return output / "_build" / "html"


def complaints(log: str, stage: Path) -> str:
    """Sphinx's warnings and errors, each with the id of the notebook's cell that it is about."""

    def with_cell(found: re.Match[str]) -> str:
        name, cell, line = found.groups()
        identity = read_notebook(stage / name)["cells"][int(cell) - 1]["id"]
        return f"{name}: cell {identity}, line {int(line)}:"

    lines = [line for line in log.splitlines() if SPHINX_COMPLAINT.search(line)]
    return "\n".join(NOTEBOOK_LINE.sub(with_cell, line) for line in lines or log.splitlines()[-20:])


def swap(new: Path, place: Path) -> None:
    """Put a finished folder in place of another by renames, so that no reader sees a half-written one."""
    old = place.with_name(f"{place.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if place.exists():
        place.rename(old)
    new.rename(place)
    shutil.rmtree(old, ignore_errors=True)
