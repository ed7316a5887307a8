"""What the pages' HTML says without a browser: where links lead, and what a page is made of."""

from __future__ import annotations

from collections import Counter
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from .conftest import FOLDER, page_names


class Markup(HTMLParser):
    """A page's links, the places in it that a link can lead to, and its tags and classes."""

    def __init__(self) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.ids: Counter[str] = Counter()
        self.names: set[str] = set()
        self.kinds: set[str] = set()
        self._code = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect links, ids, names of places, tags and classes; those of code are alike on all pages."""
        attributes = {key: value for key, value in attrs if value}
        self.links.update(attributes[key] for key in ("href", "src") if key in attributes)
        self.ids.update(filter(None, [attributes.get("id")]))
        self.names.update(filter(None, [attributes.get("name")]))
        self._code += tag == "pre"
        if not self._code:
            self.kinds.update([tag, *attributes.get("class", "").split()])

    def handle_endtag(self, tag: str) -> None:
        """Notice the end of code."""
        self._code -= tag == "pre"


@cache
def read(name: str) -> Markup:
    """Read a page once."""
    markup = Markup()
    markup.feed((FOLDER / f"{name}.html").read_text(encoding="utf-8"))
    return markup


@cache
def one_of_each_kind() -> set[str]:
    """Pages that together have every tag and every class that any page has outside its code."""
    kinds = {name: read(name).kinds for name in page_names(FOLDER) if name != "index"}
    left = set().union(*kinds.values())
    chosen = set()
    while left:
        most = max(kinds, key=lambda name: len(kinds[name] & left))
        chosen.add(most)
        left -= kinds[most]
    return chosen


def dead_links(name: str) -> list[str]:
    """The links of a page that lead to no file of the book, or to no place in it."""
    folder = (FOLDER / name).parent
    dead = []
    for link in sorted(read(name).links):
        parts = urlsplit(link)
        if parts.scheme in ("http", "https", "mailto", "data"):
            continue
        target = (folder / unquote(parts.path)).resolve() if parts.path else FOLDER / f"{name}.html"
        inside = not parts.scheme and not parts.netloc and target.is_relative_to(FOLDER) and target.is_file()
        if not inside or not has_place(target, unquote(parts.fragment)):
            dead.append(link)
    return dead


def has_place(target: Path, place: str) -> bool:
    """Whether a file of the book is a page with a place of this name, where one is asked for."""
    if not place or target.suffix != ".html":
        return True
    markup = read(target.relative_to(FOLDER).with_suffix("").as_posix())
    return place in markup.ids or place in markup.names


def repeated_ids(name: str) -> list[str]:
    """The ids that a page has more than once: a link to them leads to the first."""
    return [each for each, count in read(name).ids.items() if count > 1]
