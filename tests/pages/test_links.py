"""Links between the built pages: each leads to a file that exists and to an anchor in it."""

from __future__ import annotations

from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Anchors(HTMLParser):
    """The places that a page's links lead to, and the places in it that a link can lead to."""

    def __init__(self) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.ids: set[str] = {""}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect href, src and id."""
        attributes = dict(attrs)
        self.ids.update(value for key, value in attrs if key in ("id", "name") and value)
        if tag not in ("script", "link"):
            self.links.update(value for key in ("href", "src") if (value := attributes.get(key)))


@cache
def anchors(path: Path) -> Anchors:
    """Read a page once."""
    parser = Anchors()
    parser.feed(path.read_text(encoding="utf-8"))
    return parser


def test_internal_links_lead_somewhere(name: str, html: Path) -> None:
    """No link within the book is broken."""
    page = html / f"{name}.html"
    broken = []
    for link in anchors(page).links:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        target = (page.parent / unquote(parts.path)) if parts.path else page
        anchor = unquote(parts.fragment)
        found = target.is_file() and (target.suffix != ".html" or anchor in anchors(target).ids)
        if not found:
            broken.append(link)
    assert broken == []
