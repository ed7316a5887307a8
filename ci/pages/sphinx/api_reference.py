"""A Sphinx extension: the API reference has each name once, and what names it leads there.

That is a name between backticks in a docstring, and in a chapter or on a method's card the first place where
a name stands as code. A paper in a docstring leads to the bibliography.
"""

from __future__ import annotations

import importlib
import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode

PACKAGE = "kdlib"
LINKING = re.compile(r"\d\d-|methods/")
NAME = re.compile(r"([\w.]+)(\(.*\))?", re.DOTALL)
PAPER = re.compile(r'"([^"]+)",\s+(\d{4})')
MEMBERS = ("attribute", "method", "property")


def keep_to_one_place(
    app: Sphinx, what: str, name: str, member: object, _skip: bool, _options: object
) -> bool | None:
    """Leave out a name that another room offers and defines; all else that a room offers is on its page."""
    room = app.env.temp_data["autodoc:module"]
    if what != "module" or name not in names_of(room):
        return None
    home = ".".join(str(getattr(member, "__module__", room)).split(".")[:2])
    return home != room and home.startswith(PACKAGE) and name in names_of(home)


def names_of(room: str) -> list[str]:
    """The names that a module says are public."""
    return getattr(importlib.import_module(room), "__all__", [])


def cite_papers(
    app: Sphinx, _what: str, _name: str, _member: object, _options: object, lines: list[str]
) -> None:
    """Make a citation of the year that follows a title of references.bib."""
    bibliography: Any = app.env.get_domain("cite")

    def cited(found: re.Match[str]) -> str:
        title, year = found.groups()
        for key, entry in bibliography.bibdata.data.entries.items():
            # A docstring may leave out what comes after the colon.
            if entry.fields["year"] == year and letters(entry.fields["title"]).startswith(letters(title)):
                return f'"{title}", :cite:year:`{key}`'
        return found[0]

    lines[:] = PAPER.sub(cited, "\n".join(lines)).split("\n")


def letters(title: str) -> str:
    """A title without what differs from one place to another: case, braces, dashes and breaks."""
    return re.sub(r"\W+", " ", re.sub(r"[{}]", "", title.lower()))


def documented(env: BuildEnvironment) -> dict[str, str]:
    """What the reference has, by all that it is called: `kdlib.losses.hint_loss`, `hint_loss` and between."""
    found: dict[str, str] = {}
    for full, entry in env.domaindata["py"]["objects"].items():
        parts = full.split(".")
        own = len(parts) - 1 - (entry.objtype in MEMBERS)
        if not entry.aliased:
            found |= {".".join(parts[start:]): full for start in range(own + 1)}
            found.setdefault(".".join([PACKAGE, *parts[own:]]), full)
    return found


def link_to(app: Sphinx, name: str, page: str, content: nodes.Node) -> nodes.reference | None:
    """A link from a page to a name of the reference, or None for another name."""
    full = documented(app.env).get(name)
    if full is None:
        return None
    entry = app.env.domaindata["py"]["objects"][full]
    return make_refnode(app.builder, page, entry.docname, entry.node_id, content, full)


def resolve(
    app: Sphinx, _env: BuildEnvironment, node: nodes.Element, content: nodes.Node
) -> nodes.reference | None:
    """A name that a docstring calls by its last part, or by the package that passes it on."""
    return link_to(app, node["reftarget"], node["refdoc"], content) if node.get("refdomain") == "py" else None


def link_names(app: Sphinx, page: nodes.document, name: str) -> None:
    """Link the first place of each name that stands as code in the text of a chapter or card."""
    if not LINKING.match(name):
        return
    seen = set()
    for literal in list(page.findall(nodes.literal)):
        found = NAME.fullmatch(literal.astext())
        if found is None or isinstance(literal.parent, nodes.reference | nodes.title):
            continue
        link = link_to(app, found[1], name, literal.deepcopy())
        if link is None or link["reftitle"] in seen:
            continue
        seen.add(link["reftitle"])
        literal.replace_self(link)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx; papers are looked for before napoleon makes reStructuredText of a docstring."""
    app.connect("autodoc-skip-member", keep_to_one_place)
    app.connect("autodoc-process-docstring", cite_papers, priority=400)
    app.connect("missing-reference", resolve)
    app.connect("doctree-resolved", link_names)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
