"""The notebook lint: a good chapter passes, and one bad notebook for each rule does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_up_course import code, exercise_cells, markdown

from ci import notebooks
from ci.chapters import WIDGET_VIEW, Chapter

Notebook = dict[str, Any]
IMAGE = {"output_type": "display_data", "metadata": {}, "data": {"image/png": "…", "text/plain": "…"}}
PREDICTION = """\
<div class="prediction" id="prediction-2-1">

What is 1 + 1?

<details data-answer="right"><summary>2</summary>

**Right.** One more than one is two.

</details>

<details data-answer="wrong"><summary>1</summary>

**No.** That is one of the two alone.

</details>

<details data-answer="wrong"><summary>11</summary>

**No.** That writes them side by side.

</details>

</div>"""
PARAMETERS = 'profile = "quick"\nseed = 0\nn_seeds = 4\ndevice = "auto"'


def good_chapter() -> Notebook:
    """A chapter that keeps every rule."""
    cells = [
        markdown("title", "# Temperature\n\nWhat is it?"),
        markdown("in-this-chapter", ":::{admonition} In this chapter\nYou will see.\n:::"),
        code("set-up", notebooks.SETUP, "setup", "remove-cell"),
        code("parameters", PARAMETERS, "parameters"),
        code("imports", "from kdlib import checks"),
        code("first-claim", 'checks.claim("One is one", 1.0, at_least=1.0)', "claim"),
        markdown("prediction-2-1", PREDICTION),
        markdown("exercises", "## Exercises"),
        *[c for k in (1, 2, 3, 4) for c in exercise_cells(f"2.{k}", "answer = ...", f"answer = 1 + {k}")],
        markdown("summary", "## Summary\n\n- One."),
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": kernel}, "cells": cells}


def cell(notebook: Notebook, identity: str) -> dict[str, Any]:
    """The cell of this id."""
    found: dict[str, Any] = next(cell for cell in notebook["cells"] if cell["id"] == identity)
    return found


def chapter_of(tmp_path: Path, notebook: Notebook) -> Chapter:
    """The notebook written as the chapter 02-temperature."""
    path = tmp_path / "02-temperature.ipynb"
    path.write_text(json.dumps(notebook))
    return Chapter("02-temperature", "Temperature", {}, {}, {}, path)


def test_a_good_chapter_has_no_findings(tmp_path: Path) -> None:
    assert notebooks.lint(chapter_of(tmp_path, good_chapter())) == []


BROKEN: dict[str, tuple[Callable[[Notebook], Any], str]] = {
    "old format": (lambda n: n.update(nbformat_minor=4), "is not nbformat 4.5"),
    "invalid": (lambda n: cell(n, "title").update(extra=1), "notebook: is not valid"),
    "kernel": (lambda n: n["metadata"]["kernelspec"].update(name="mine"), "its kernel is not `python3`"),
    "outputs": (lambda n: cell(n, "imports").update(outputs=[IMAGE]), "imports: holds outputs"),
    "count": (lambda n: cell(n, "imports").update(execution_count=3), "imports: holds an execution count"),
    "widget state": (lambda n: n["metadata"].update(widgets={}), "notebook: holds widget state"),
    "no id": (lambda n: cell(n, "imports").pop("id"), "cell 5: no id"),
    "two ids": (lambda n: cell(n, "imports").update(id="title"), "title: is the id of two cells"),
    "random id": (lambda n: cell(n, "imports").update(id="0a1b2c3d"), "0a1b2c3d: is not a readable id"),
    "UUID": (
        lambda n: cell(n, "imports").update(id="deadbeef-0000-4000-8000-000000000000"),
        "is not a readable id",
    ),
    "capitals in id": (lambda n: cell(n, "imports").update(id="Imports"), "Imports: is not a readable id"),
    "opening": (lambda n: cell(n, "in-this-chapter").update(source="Hello"), "In this chapter` is missing"),
    "set-up": (lambda n: cell(n, "set-up").update(source="%pip install kdlib"), "not the shared set-up cell"),
    "set-up tag": (lambda n: cell(n, "set-up").update(metadata={}), "not the shared set-up cell"),
    "parameters last": (
        lambda n: n["cells"].append(n["cells"].pop(3)),
        "second code cell: is not the cell tagged `parameters`",
    ),
    "no parameters": (lambda n: cell(n, "parameters").update(metadata={}), "0 cells are tagged `parameters`"),
    "computed parameter": (
        lambda n: cell(n, "parameters").update(source=PARAMETERS + "\nwidth = 2 * 2 + len('a')"),
        "only assignments of literals",
    ),
    "missing parameter": (
        lambda n: cell(n, "parameters").update(source="seed = 0"),
        "parameters: `profile` is missing",
    ),
    "long cell": (lambda n: cell(n, "imports").update(source="a = 1\n" * 26), "imports: has 26 lines"),
    "long median": (
        lambda n: (
            [cell(n, name).update(source="a = 1\n" * 12) for name in ("imports", "first-claim")]
            + [cell(n, f"exercise-2-{k}").update(source="a = 1\n" * 12) for k in (1, 2, 3, 4)]
        ),
        "its median code cell has 12 lines",
    ),
    "untagged claim": (lambda n: cell(n, "first-claim").update(metadata={}), "makes a claim: tag it `claim`"),
    "tag without claim": (lambda n: cell(n, "first-claim").update(source="1"), "calls no `checks.claim(…)`"),
    "backticks": (
        lambda n: cell(n, "exercises").update(source="## Exercises\n```{note}\nA\n```"),
        "exercises: has a directive in backticks",
    ),
    "no prediction": (
        lambda n: n["cells"].remove(cell(n, "prediction-2-1")),
        "asks for no prediction before its exercises",
    ),
    "no question": (
        lambda n: cell(n, "prediction-2-1").update(source=PREDICTION.replace("?", ".")),
        "prediction-2-1: asks nothing",
    ),
    "few exercises": (lambda n: cell(n, "exercise-2-4").update(metadata={}), "has 3 exercises"),
    "exercise id": (
        lambda n: cell(n, "exercise-2-1").update(id="first"),
        "first: is an exercise: give it an id",
    ),
    "no check": (
        lambda n: cell(n, "exercise-2-1").update(source="answer = ..."),
        'end in `checks.check("2.1"',
    ),
    "check of something else": (
        lambda n: cell(n, "exercise-2-1").update(source='answer = ...\nchecks.check("2.1", 3)'),
        'end in `checks.check("2.1", answer)`',
    ),
    "code after the exercises": (
        lambda n: n["cells"].append(code("late", "answer = 3")),
        "exercise-2-1: is an exercise before the code `late`: move it to the end",
    ),
    "no exercise text": (
        lambda n: cell(n, "exercise-2-1-text").update(source="Add."),
        "exercise-2-1: has no text",
    ),
    "no solution": (
        lambda n: cell(n, "solution-2-1").update(source="2"),
        "exercise-2-1: has no whole solution",
    ),
    "no summary": (lambda n: cell(n, "summary").update(source="End"), "the section `## Summary` is missing"),
    "no exercises": (
        lambda n: cell(n, "exercises").update(source="End"),
        "section `## Exercises` is missing",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_each_broken_rule_is_one_line_with_the_place(tmp_path: Path, name: str) -> None:
    break_it, expected = BROKEN[name]
    notebook = good_chapter()
    break_it(notebook)
    findings = notebooks.lint(chapter_of(tmp_path, notebook))
    assert any(expected in finding for finding in findings), findings
    assert all(finding.startswith("02-temperature.ipynb: ") and "\n" not in finding for finding in findings)


def test_fix_mends_what_needs_no_judgement(tmp_path: Path) -> None:
    notebook = good_chapter()
    cell(notebook, "first-claim").update(outputs=[IMAGE], execution_count=7)
    notebook["metadata"]["widgets"] = {}
    del cell(notebook, "imports")["id"]
    chapter = chapter_of(tmp_path, notebook)
    notebooks.mend(chapter)
    assert notebooks.lint(chapter) == []
    mended = json.loads(chapter.source.read_text())
    assert mended["cells"][4]["id"] == "cell-5-from-kdlib-import"


def test_fix_leaves_a_clean_chapter_as_it_is(tmp_path: Path) -> None:
    chapter = chapter_of(tmp_path, good_chapter())
    notebooks.mend(chapter)
    first = chapter.source.read_bytes()
    notebooks.mend(chapter)
    assert chapter.source.read_bytes() == first
    assert json.loads(first) == good_chapter()


def shown(output: dict[str, Any], *tags: str, alt: str = "") -> list[str]:
    """The findings about one executed cell with this output."""
    run = code("plot", "plot()", *tags)
    run["outputs"] = [output]
    run["metadata"]["mystnb"] = {"image": {"alt": alt}}
    return notebooks.lint_executed({"cells": [run]}, "02-temperature.ipynb")


def test_a_figure_needs_a_description_and_folded_code() -> None:
    assert shown(IMAGE, "hide-input", alt="The curve rises.") == []
    (finding,) = shown(IMAGE, "hide-input", alt=" ")
    assert "plot: its figure has no alt text" in finding
    (finding,) = shown(IMAGE, alt="The curve rises.")
    assert "plots, so tag it `hide-input`" in finding


def test_a_live_figure_needs_html_beside_its_widget() -> None:
    widget: dict[str, Any] = {"output_type": "display_data", "data": {WIDGET_VIEW: {}, "text/plain": "…"}}
    (finding,) = shown(widget)
    assert "plot: its widget is dead on the page" in finding
    widget["data"]["text/html"] = "<figure></figure>"
    assert shown(widget) == []


def test_a_progress_bar_is_no_live_figure() -> None:
    text = "training:   0%|          | 0/30 [00:00<?, ?epoch/s]"
    assert shown({"output_type": "display_data", "data": {WIDGET_VIEW: {}, "text/plain": text}}) == []
