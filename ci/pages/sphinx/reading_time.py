"""A Sphinx extension: how long a chapter takes to read, and how long its last run took, below its title.

The estimate counts 200 words a minute, and for what is not words: 20 seconds for a displayed equation, 4
seconds for a line of code that is in view, 30 seconds for a figure or table. The exercises are not in it.
"""

from __future__ import annotations

import datetime
import html
import json
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

WORDS_A_MINUTE = 200
SECONDS = {"equation": 20, "line": 4, "figure": 30}
CHAPTER = re.compile(r"\d\d-")
FOLDED = ("tag_hide-input", "tag_hide-cell", "tag_remove-input", "tag_setup")


def reading_minutes(page: nodes.document) -> int:
    """The minutes that the page's text, equations, visible code and figures take, rounded, at least 1."""
    words = equations = lines = figures = 0
    for node in page.findall(condition=lambda node: not in_exercises(node)):
        classes = node.get("classes", []) if isinstance(node, nodes.Element) else []
        if isinstance(node, nodes.Text) and not in_code_or_mathematics(node):
            words += len(node.astext().split())
        equations += isinstance(node, nodes.math_block)
        figures += "cell_output" in classes and shows_a_figure(node)
        if "cell_input" in classes and not any(tag in node.parent["classes"] for tag in FOLDED):
            lines += len(node.astext().splitlines())
    extra = equations * SECONDS["equation"] + lines * SECONDS["line"] + figures * SECONDS["figure"]
    return max(1, round(words / WORDS_A_MINUTE + extra / 60))


def in_exercises(node: nodes.Node) -> bool:
    """Whether a node is in the section of exercises."""
    while node is not None:
        if isinstance(node, nodes.section) and "exercises" in node["ids"]:
            return True
        node = node.parent
    return False


def in_code_or_mathematics(text: nodes.Text) -> bool:
    """Whether a text is not read as words: code, what cells print, and TeX."""
    node = text.parent
    while node is not None:
        if isinstance(node, nodes.FixedTextElement | nodes.math | nodes.raw):
            return True
        node = node.parent
    return False


def shows_a_figure(output: nodes.Element) -> bool:
    """Whether a cell put out a picture, a live figure or a table."""
    markup = "".join(raw.astext() for raw in output.findall(nodes.raw))
    return next(output.findall(nodes.image), None) is not None or "kdlib-live" in markup or "<table" in markup


def last_runs(app: Sphinx) -> dict[str, dict[str, Any]]:
    """What ci/pages/build.py noted of each chapter's last execution, by the chapter's name."""
    path = Path(app.srcdir) / "runs.json"
    runs: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return runs


def told(run: dict[str, Any]) -> str:
    """A run in a few words, such as '31 s to run (quick, CPU, 21 November 2026)'."""
    day = datetime.datetime.fromisoformat(run["started"])
    return f"{duration(run['seconds'])} to run ({run['profile']}, {run['device']}, {day.day} {day:%B %Y})"


def duration(seconds: float) -> str:
    """Seconds up to two minutes, then minutes, then hours."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def note_minutes(app: Sphinx, page: nodes.document) -> None:
    """Keep a chapter's reading time, for its own page and for the map."""
    if CHAPTER.match(app.env.docname):
        app.env.metadata[app.env.docname]["reading_minutes"] = reading_minutes(page)


def add_times(
    app: Sphinx, page: str, _template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Put the line below the chapter's title."""
    if doctree is None or not CHAPTER.match(page):
        return
    minutes = app.env.metadata[page]["reading_minutes"]
    parts = [f"About {minutes} min to read, exercises aside"]
    if run := last_runs(app).get(page):
        parts.append(f'<a href="status.html">{html.escape(told(run))}</a>')
    line = f'</h1>\n<p class="kd-times">{" · ".join(parts)}</p>'
    context["body"] = context["body"].replace("</h1>", line, 1)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("doctree-read", note_minutes)
    app.connect("html-page-context", add_times)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
