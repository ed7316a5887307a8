"""A Sphinx extension: terms of glossary.md in the chapters, with their definitions at hand.

In each section of the second level the first place of a term becomes a link to its entry; for the commonest
terms only their first place on the page. The definitions that a page needs are at its end, and
glossary-hints.js shows them on hover, focus and touch.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.builders.html import StandaloneHTMLBuilder

GLOSSARY = "glossary"
CHAPTER = re.compile(r"\d\d-")
# Terms that the chapters also use as everyday words; their entries are found from the glossary and by search.
EVERYDAY = {"claim", "profile", "reduction", "relation", "tap"}
# Words of nearly every section: marked once a page.
ONCE = {"student", "teacher", "epoch", "seed"}
NOT_PROSE = (nodes.reference, nodes.literal, nodes.FixedTextElement, nodes.title, nodes.math, nodes.table)


@dataclass(frozen=True)
class Entry:
    """A term of the glossary: the anchor of its entry, and its definition as HTML."""

    anchor: str
    definition: str


@cache
def load_glossary(app: Sphinx) -> dict[str, Entry]:
    """The entries by term, in small letters; none where a book has no glossary."""
    if GLOSSARY not in app.env.found_docs:
        return {}
    page = app.env.get_and_resolve_doctree(GLOSSARY, app.builder)
    builder = cast(StandaloneHTMLBuilder, app.builder)
    entries = {}
    for glossary in page.findall(addnodes.glossary):
        for item in glossary.findall(nodes.definition_list_item):
            definition = next(item.findall(nodes.definition))
            text = builder.render_partial(definition)["fragment"]
            text = re.sub(r"^\s*<dd>|</dd>\s*$", "", text)
            for term in item.findall(nodes.term):
                entries[term.astext().lower()] = Entry(term["ids"][0], text)
    return entries


@cache
def pattern_of(terms: tuple[str, ...]) -> re.Pattern[str]:
    """Any of the terms as whole words, in the singular or plural, across line breaks; longer ones first."""
    words = sorted(set(terms) - EVERYDAY, key=len, reverse=True)
    choices = "|".join(re.escape(word).replace(r"\ ", r"\s+") for word in words)
    return re.compile(rf"(?<![\w-])({choices})(?:e?s)?(?![\w-])", re.IGNORECASE)


def mark_terms(app: Sphinx, page: nodes.document, name: str) -> None:
    """Turn the first place of each term in each section of a chapter into a link to the glossary."""
    if not CHAPTER.match(name) or not (entries := load_glossary(app)):
        return
    pattern = pattern_of(tuple(entries))
    once = {entries[word].anchor for word in ONCE & entries.keys()}
    seen: dict[nodes.Node, set[str]] = {}
    for text in list(page.findall(nodes.Text)):
        if is_prose(text):
            here = seen.setdefault(section_of(text), set().union(*seen.values()) & once)
            marked = list(with_links(text, pattern, entries, here))
            text.parent.replace(text, marked)


def is_prose(text: nodes.Text) -> bool:
    """Whether a text is part of a sentence, and neither code, a heading, a link nor what a cell put out."""
    around = list(ancestors(text))
    outputs = any(
        "cell_output" in node.get("classes", ()) for node in around if isinstance(node, nodes.Element)
    )
    return not outputs and not any(isinstance(node, NOT_PROSE) for node in around)


def ancestors(node: nodes.Node) -> Iterator[nodes.Node]:
    """What a node lies in, from the inside out."""
    while node.parent is not None:
        node = node.parent
        yield node


def section_of(node: nodes.Node) -> nodes.Node:
    """The section of the second level that a node is in, or the page's first where it is above them."""
    sections = [around for around in ancestors(node) if isinstance(around, nodes.section)]
    return sections[-2] if len(sections) > 1 else sections[-1]


def with_links(
    text: nodes.Text, pattern: re.Pattern[str], entries: dict[str, Entry], seen: set[str]
) -> Iterator[nodes.Node]:
    """A text in pieces, with a link at each entry that has not been seen."""
    words, done = text.astext(), 0
    for found in pattern.finditer(words):
        anchor = entries[re.sub(r"\s+", " ", found[1].lower())].anchor
        if anchor in seen:
            continue
        seen.add(anchor)
        yield nodes.Text(words[done : found.start()])
        address = f"{GLOSSARY}.html#{anchor}"
        yield nodes.reference("", found[0], internal=True, refuri=address, classes=["kd-term"])
        done = found.end()
    yield nodes.Text(words[done:])


def add_definitions(
    app: Sphinx, _page: str, _template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Put the definitions that a page needs at its end, hidden."""
    links = doctree.findall(nodes.reference) if doctree is not None else []
    needed = {link["refuri"].partition("#")[2] for link in links if "kd-term" in link["classes"]}
    if not needed:
        return
    entries = {entry.anchor: entry.definition for entry in load_glossary(app).values()}
    shown = "".join(
        f'<div class="kd-definition" role="tooltip" id="definition-{html.escape(anchor)}" hidden>'
        f"{entries[anchor]}</div>\n"
        for anchor in sorted(needed)
    )
    context["body"] += shown
    app.add_js_file("glossary-hints.js", priority=910, loading_method="defer")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx, before course_pages looks for mathematics."""
    app.connect("doctree-resolved", mark_terms)
    app.connect("html-page-context", add_definitions, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
