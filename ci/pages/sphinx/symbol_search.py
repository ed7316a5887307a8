"""A Sphinx extension: search finds symbols, and words that others use for the same thing.

Sphinx's search knows nothing of 'τ'. It does compare a whole query with the entries of an index, so this adds
those of book/search.yml.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import yaml
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util import logging

log = logging.getLogger(__name__)

Place = tuple[str, str]  # a page and an anchor on it


@cache
def find_entries(app: Sphinx) -> dict[str, Place]:
    """Every entry and its place; a place that is not there is a warning, and so fails the build."""
    path = Path(app.srcdir) / "search.yml"
    listing = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    entries = {}
    for place, words in listing.items():
        page, _, anchor = place.partition("#")
        if page not in app.env.found_docs or (anchor and anchor not in app.env.get_doctree(page).ids):
            log.warning("search.yml: there is no %s: name a page, and an anchor on it.", place)
            continue
        entries.update({str(word): (page, anchor) for word in words})
    return entries


def add_entries(app: Sphinx, page: nodes.document, name: str) -> None:
    """Give a page its entries, before the search index is fed with it."""
    mine = [(entry, anchor) for entry, (place, anchor) in find_entries(app).items() if place == name]
    entries = [("single", entry, anchor, "main", None) for entry, anchor in mine]
    if entries:
        page.append(addnodes.index(entries=entries))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("doctree-resolved", add_entries)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
