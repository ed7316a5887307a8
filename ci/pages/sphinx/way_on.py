"""A Sphinx extension: previous and next lead through the chapters, or one kind of page, and end there.

Sphinx strings all pages together, so that 'next' would lead from the last chapter into notes on machines, and
through every page that the build wrote.
"""

from __future__ import annotations

import re
from typing import Any, cast

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.builders.html import StandaloneHTMLBuilder

CHAPTER = re.compile(r"\d\d-")
MAP = "map"
START = ("intro", MAP)


def group_of(page: str | None) -> str | None:
    """What a page is read together with; None for pages that are looked up, one at a time."""
    if page is None:
        return None
    if page in START or CHAPTER.match(page):
        return "chapters"
    folder, slash, _ = page.partition("/")
    return folder if slash else ("records" if page.startswith("records") else None)


def keep_to_the_group(
    app: Sphinx, page: str, _template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Take away previous and next where they lead elsewhere; the last chapter leads back to the map."""
    if doctree is None:
        return
    group = group_of(page)
    _, before, after = cast(StandaloneHTMLBuilder, app.builder).relations.get(page, [None, None, None])
    if group is None or group_of(before) != group:
        context["prev"] = None
    if group is None or group_of(after) != group:
        there = CHAPTER.match(page) and MAP in app.env.found_docs
        context["next"] = {"link": f"{MAP}.html", "title": app.env.titles[MAP].astext()} if there else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("html-page-context", keep_to_the_group)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
