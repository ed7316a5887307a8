"""What finds and shares a page: its address, description and preview, the sitemap, and the page not found."""

from __future__ import annotations

from collections import Counter
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import yaml

from .conftest import FOLDER, page_names

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Route

CONFIGURATION = yaml.safe_load((Path(__file__).parents[2] / "_config.yml").read_text(encoding="utf-8"))
BASE = CONFIGURATION["html"]["baseurl"]
SHORTEST = 40  # characters of a description that says something
# Written by a template: nobody shares the search.
NO_TEXT = {"search"}


class Head(HTMLParser):
    """What the head of a page says of it, by name or property."""

    def __init__(self) -> None:
        super().__init__()
        self.says: dict[str, str] = {}
        self.base = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect descriptions and previews, the canonical address, and what links are relative to."""
        found = {key: value or "" for key, value in attrs}
        if tag == "meta":
            self.says[found.get("name") or found.get("property", "")] = found.get("content", "")
        if tag == "link" and found.get("rel") == "canonical":
            self.says["canonical"] = found["href"]
        if tag == "base":
            self.base = found["href"]


@cache
def head_of(name: str) -> Head:
    """Read a page's head once."""
    head = Head()
    head.feed((FOLDER / f"{name}.html").read_text(encoding="utf-8").partition("</head>")[0])
    return head


def shared_pages() -> list[str]:
    """The pages that people find and pass on."""
    return [name for name in page_names(FOLDER) if name not in NO_TEXT]


def test_each_page_has_a_description_of_its_own(html: Path) -> None:
    found = {name: head_of(name).says.get("description", "") for name in shared_pages()}
    assert {name: text for name, text in found.items() if len(text) < SHORTEST} == {}
    written = Counter(text for name, text in found.items() if name != "index")
    assert [text for text, count in written.items() if count > 1] == []
    assert found["index"] == found["intro"]


def test_each_page_has_its_address_and_a_picture_that_is_there(html: Path) -> None:
    for name in shared_pages():
        says = head_of(name).says
        address = f"{BASE}{'intro' if name == 'index' else name}.html"
        assert (says["og:url"], says["canonical"]) == (address, address), name
        assert says["og:image"].startswith(BASE), name
        assert (html / says["og:image"].removeprefix(BASE)).is_file(), name
        assert says["og:image:alt"], name
        assert says["og:site_name"] == CONFIGURATION["title"], name


def test_the_sitemap_lists_every_page(html: Path) -> None:
    places = (
        ElementTree.parse(html / "sitemap.xml")
        .getroot()
        .iter("{http://www.sitemaps.org/schemas/sitemap/0.9}loc")
    )
    listed = [place.text for place in places]
    assert listed == [head_of(name).says["canonical"] for name in shared_pages() if name != "index"]


def test_a_page_not_found_is_whole_at_any_address(html: Path, browser: Browser) -> None:
    """As GitHub does it: a file that is there, or else the text of 404.html at the address that was asked."""
    assert head_of("404").base == BASE
    missing = []

    def serve(route: Route) -> None:
        path = html / route.request.url.removeprefix(BASE).partition("?")[0]
        if path.is_file():
            route.fulfill(path=path)
        else:
            missing.append(route.request.url)
            route.fulfill(path=html / "404.html", status=404)

    context = browser.new_context(offline=True)
    page = context.new_page()
    context.route(f"{BASE}**", serve)
    asked = f"{BASE}methods/no/such/page.html"
    page.goto(asked)
    assert page.locator("article h1").inner_text() == "There is no page at this address"
    assert missing == [asked], "its styles and scripts are found"
    page.locator("article a", has_text="front page").click()
    page.wait_for_url(f"{BASE}intro.html")
    context.close()


def test_the_changelog_is_a_page(html: Path) -> None:
    text = (html / "changelog.html").read_text(encoding="utf-8")
    assert "Keep a Changelog" in text
    assert "Unreleased" in text
