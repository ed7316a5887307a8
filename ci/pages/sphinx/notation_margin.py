"""A Sphinx extension: beside each section, the symbols of notation.md that occur in its mathematics."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.builders.html import StandaloneHTMLBuilder

NOTATION = "notation"
CHAPTER = re.compile(r"\d\d-")

TOKEN = re.compile(r"\\[A-Za-z]+|\\.|\S")
SPACING = {
    "\\,",
    "\\;",
    "\\!",
    "\\:",
    "\\quad",
    "\\qquad",
    "\\ ",
    "&",
    "\\bigl",
    "\\bigr",
    "\\left",
    "\\right",
}
ACCENTS = {"\\hat", "\\bar", "\\tilde", "\\overline"}
UPRIGHT = {"\\mathrm", "\\operatorname", "\\text", "\\mathcal"}


@dataclass(frozen=True)
class Atom:
    """A letter or a name in a formula with its indices, and whether it stands as a function or by itself."""

    base: str
    above: str
    below: str
    arguments: int  # how many follow in parentheses; 0 without parentheses
    defined: bool  # an equals sign follows


@dataclass(frozen=True)
class Symbol:
    """One row of the table of symbols: how to recognise it, and the HTML of what to show."""

    patterns: tuple[Atom, ...]
    shown: str
    meaning: str


def atoms(tex: str) -> Iterator[Atom]:
    """The letters and names of a formula, those within indices and fractions too."""
    yield from _read([token for token in TOKEN.findall(tex) if token not in SPACING])


def _read(tokens: list[str]) -> Iterator[Atom]:
    place = 0
    while place < len(tokens):
        token = tokens[place]
        place += 1
        if token in UPRIGHT | ACCENTS:
            group, place = _group(tokens, place)
            token = "".join(group) if token in UPRIGHT else token + "".join(group)
        elif not (token.isalpha() or token.startswith("\\")):
            continue
        marks = {"^": "", "_": ""}
        inner: list[str] = []
        while place < len(tokens) and tokens[place] in marks:
            mark = tokens[place]
            group, place = _group(tokens, place + 1)
            marks[mark] = "".join(group)
            inner += group
        after = tokens[place] if place < len(tokens) else ""
        arguments = _count_arguments(tokens, place) if after == "(" else 0
        yield Atom(token, marks["^"], marks["_"], arguments, after == "=")
        yield from _read(inner)


def _group(tokens: list[str], place: int) -> tuple[list[str], int]:
    """The tokens of one argument of TeX, without its braces, and the place after it."""
    if place < len(tokens) and tokens[place] in UPRIGHT | ACCENTS:
        group, end = _group(tokens, place + 1)
        return [tokens[place], "{", *group, "}"], end
    if place >= len(tokens) or tokens[place] != "{":
        return tokens[place : place + 1], place + 1
    depth, end = 1, place + 1
    while end < len(tokens) and depth:
        depth += {"{": 1, "}": -1}.get(tokens[end], 0)
        end += 1
    return tokens[place + 1 : end - 1], end


def _count_arguments(tokens: list[str], place: int) -> int:
    """How many arguments the parentheses that open here hold."""
    depth, count = 0, 1
    for token in tokens[place:]:
        depth += {"(": 1, ")": -1}.get(token, 0)
        count += depth == 1 and token in (",", "\\Vert", "\\|")
        if depth == 0:
            break
    return count


def is_bare(atom: Atom) -> bool:
    """Whether it is a single letter with nothing on it."""
    return len(atom.base) == 1 and not (atom.above or atom.below or atom.arguments)


def patterns_of(formulas: list[str]) -> tuple[Atom, ...]:
    """What to look for, given a row's symbols; a bare letter beside a marked one could mean anything."""
    found = [next(atoms(formula)) for formula in formulas]
    marked = [atom for atom in found if not is_bare(atom)]
    return tuple(marked or found)


def fits(pattern: Atom, atom: Atom) -> bool:
    """Whether a letter of a formula is the symbol: it may carry more indices, but not fewer."""
    if pattern.base != atom.base or pattern.above not in ("", atom.above):
        return False
    if not set(pattern.below) <= set(atom.below):
        return False
    if pattern.arguments and len(pattern.base) == 1:
        return pattern.arguments == atom.arguments or (pattern.arguments == 1 and atom.defined)
    return not (is_bare(pattern) and pattern.base.islower() and (atom.above or atom.below))


def symbols_in(formulas: list[str], symbols: list[Symbol]) -> set[int]:
    """The places in the table of the symbols that occur; where two fit one letter, the closer one."""
    found = set()
    for atom in (atom for formula in formulas for atom in atoms(formula)):
        fitting = [
            (len(pattern.above), len(pattern.below), -place)
            for place, symbol in enumerate(symbols)
            for pattern in symbol.patterns
            if fits(pattern, atom)
        ]
        if fitting:
            found.add(-max(fitting)[2])
    return found


@cache
def load_symbols(app: Sphinx) -> list[Symbol]:
    """The first table of the page on notation, its cells as HTML; none where a book has no such page."""
    if NOTATION not in app.env.found_docs:
        return []
    page = app.env.get_and_resolve_doctree(NOTATION, app.builder)
    table = next(page.findall(nodes.tbody))
    builder = cast(StandaloneHTMLBuilder, app.builder)
    symbols = []
    for row in table.findall(nodes.row):
        first, _, meaning = row.children
        formulas = [node.astext() for node in first.findall(nodes.math)]
        shown, told = (
            builder.render_partial(cell.children[0])["fragment"]
            .strip()
            .removeprefix("<p>")
            .removesuffix("</p>")
            for cell in (first, meaning)
        )
        symbols.append(Symbol(patterns_of(formulas), shown, told))
    return symbols


def sections_of(page: nodes.document) -> Iterator[tuple[str, list[str]]]:
    """The page's head and its sections of the second level: the id of each, and its formulas."""
    for top in page.findall(lambda node: isinstance(node, nodes.section) and node.parent is page):
        parts = [child for child in top.children if isinstance(child, nodes.section)]
        head = [child for child in top.children if child not in parts]
        yield top["ids"][0], [tex for node in head for tex in formulas_of(node)]
        for part in parts:
            yield part["ids"][0], formulas_of(part)


def formulas_of(node: nodes.Node) -> list[str]:
    """The TeX of all mathematics below a node."""
    return [math.astext() for kind in (nodes.math, nodes.math_block) for math in node.findall(kind)]


def margin(page: nodes.document, symbols: list[Symbol]) -> str:
    """The HTML of the margin: each symbol once, with the sections that it belongs to."""
    places: dict[int, list[str]] = {}
    for section, formulas in sections_of(page):
        for place in symbols_in(formulas, symbols):
            places.setdefault(place, []).append(section)
    rows = "".join(
        f'<div data-sections="{html.escape(" ".join(sections))}"><dt>{symbols[place].shown}</dt>'
        f"<dd>{symbols[place].meaning}</dd></div>\n"
        for place, sections in sorted(places.items())
    )
    return (
        '<aside class="kd-notation" aria-label="Symbols"><details open><summary>Symbols here</summary>\n'
        f'<dl>{rows}</dl>\n<p><a href="{NOTATION}.html">All symbols</a></p></details></aside>\n'
        if rows
        else ""
    )


def add_margin(
    app: Sphinx, page: str, _template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Put the margin at the end of a chapter's text; notation-margin.js takes it to where the reader is."""
    if doctree is not None and CHAPTER.match(page) and (text := margin(doctree, load_symbols(app))):
        context["body"] += text
        app.add_js_file("notation-margin.js", priority=910, loading_method="defer")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx; course_pages adds KaTeX afterwards, because the margin has mathematics."""
    app.connect("html-page-context", add_margin, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
