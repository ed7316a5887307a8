"""A Sphinx extension: search finds symbols, names of kdlib, and words that others use for the same thing.

Sphinx's search takes words apart at dots and knows nothing of 'τ'. It does compare a whole query with the
entries of an index, so this adds entries: those of book/search.yml, and every name of kdlib that a chapter
uses, which leads to the section that speaks of it first.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import yaml
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util import logging

log = logging.getLogger(__name__)
PACKAGE = "kdlib"
MODULES = {"losses", "metrics", "results", "plots", "models", "data", "terms", "schemes", "tables"}
CHAPTER = re.compile(r"\d\d-")
MAGIC = re.compile(r"^\s*[%!].*$", re.MULTILINE)

Place = tuple[str, str]  # a page and an anchor on it


@cache
def find_entries(app: Sphinx) -> dict[str, Place]:
    """Every entry, and the place that it leads to; those that were written by hand come before names."""
    return names_of_the_package(app) | written_entries(app)


def written_entries(app: Sphinx) -> dict[str, Place]:
    """The entries of search.yml; a place that is not there is a warning, and so fails the build."""
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


def names_of_the_package(app: Sphinx) -> dict[str, Place]:
    """Each name of kdlib that the chapters use, with the first section that writes of it, or else uses it."""
    pages = {name: app.env.get_doctree(name) for name in sorted(app.env.found_docs) if CHAPTER.match(name)}
    used: dict[str, Place] = {}
    told: dict[str, Place] = {}
    for page, tree in pages.items():
        for cell in tree.findall(
            lambda node: "cell_input" in getattr(node, "attributes", {}).get("classes", ())
        ):
            for name in names_in(cell.astext()):
                used.setdefault(name, (page, anchor_of(cell)))
        for literal in tree.findall(nodes.literal):
            for name in re.findall(r"\w+", literal.astext()):
                told.setdefault(name, (page, anchor_of(literal)))
    entries: dict[str, Place] = {}
    for dotted, place in used.items():
        parts = dotted.split(".")
        best = place if parts[-1] in MODULES else told.get(parts[-1], place)
        for start in range(len(parts)):
            entries.setdefault(".".join(parts[start:]), best)
        entries.setdefault(f"{PACKAGE}.{parts[-1]}", best)
    return entries


def names_in(code: str) -> Iterator[str]:
    """The dotted names of kdlib that a cell imports, or takes from a module that it has imported."""
    try:
        tree = ast.parse(MAGIC.sub("", code))
    except SyntaxError:  # code that is shown because it is wrong
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE:
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in MODULES:
            yield f"{PACKAGE}.{node.value.id}.{node.attr}"


def anchor_of(node: nodes.Node) -> str:
    """The anchor of the section that a node is in."""
    while node is not None and not isinstance(node, nodes.section):
        node = node.parent
    return str(node["ids"][0]) if node is not None else ""


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
