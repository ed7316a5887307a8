"""What helps in reading: symbols and definitions at hand, times, the map, the way on, search, and paper."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from bs4 import BeautifulSoup

from .conftest import DESKTOP, PHONE, Visit, page_names

if TYPE_CHECKING:
    from playwright.sync_api import Page

# The TeX that KaTeX keeps beside its drawing, of the symbols that the margin shows.
SYMBOLS = """() => [...document.querySelectorAll(".kd-notation [data-sections]")]
    .filter((row) => row.checkVisibility())
    .map((row) => row.querySelector("dt annotation").textContent)"""


def go_to(page: Page, section: str) -> None:
    """Scroll a section to the top, and wait until the page has noticed."""
    page.evaluate("id => document.getElementById(id).scrollIntoView({behavior: 'instant'})", section)
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def test_symbols_of_the_section_in_view_are_in_the_margin(visit: Callable[..., Visit]) -> None:
    page = visit("03-the-kl-loss", width=DESKTOP).page
    assert page.locator(".bd-sidebar-secondary .kd-notation").count() == 1
    go_to(page, "the-gradient")
    here = page.evaluate(SYMBOLS)
    assert {"z^s", "z^t", "p^s", "p^t", "T"} <= set(here)
    assert "w_h" not in here
    go_to(page, "alpha-means-two-things")
    there = page.evaluate(SYMBOLS)
    assert {"w_h", "w_s"} <= set(there)
    assert page.locator(".kd-notation dd").last.inner_text()


def test_on_a_phone_the_symbols_are_behind_a_button(visit: Callable[..., Visit]) -> None:
    page = visit("03-the-kl-loss", width=PHONE).page
    go_to(page, "the-gradient")
    button = page.locator(".kd-notation summary")
    assert page.evaluate(SYMBOLS) == []
    box = button.bounding_box()
    assert box is not None
    assert box["y"] + box["height"] <= 800, "the button is not on the screen"
    button.press("Enter")
    assert "p^s" in page.evaluate(SYMBOLS)
    page.keyboard.press("Escape")
    assert page.evaluate(SYMBOLS) == []


def test_without_scripts_the_symbols_stand_at_the_end(visit: Callable[..., Visit]) -> None:
    page = visit("03-the-kl-loss", scripts=False).page
    assert page.locator("article > .kd-notation dd").first.is_visible()


def test_a_term_is_explained_on_hover_and_focus_until_escape(visit: Callable[..., Visit]) -> None:
    page = visit("02-temperature").page
    term = page.locator("a.kd-term", has_text=re.compile("^temperature$", re.IGNORECASE)).first
    definition = page.locator("#definition-term-temperature")
    assert term.get_attribute("aria-describedby") == "definition-term-temperature"
    assert not definition.is_visible()
    term.hover()
    assert definition.is_visible()
    assert "logits are divided" in definition.inner_text()
    page.keyboard.press("Escape")
    assert not definition.is_visible()
    page.mouse.move(0, 0)
    term.focus()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    assert definition.is_visible()
    page.keyboard.press("Tab")
    assert not definition.is_visible()


def test_a_first_touch_explains_and_a_second_leads_to_the_glossary(
    html: Path, visit: Callable[..., Visit]
) -> None:
    page = visit("02-temperature", width=PHONE, touch=True).page
    term = page.locator("a.kd-term").first
    anchor = (term.get_attribute("href") or "").partition("#")[2]
    definition = page.locator(f"#definition-{anchor}")
    term.tap()
    assert definition.is_visible()
    box = definition.bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= PHONE
    term.tap()
    page.wait_for_url(f"**/glossary.html#{anchor}")


def test_every_chapter_says_how_long_it_takes(html: Path) -> None:
    chapters = sorted(html.glob("[0-9][0-9]-*.html"))
    assert chapters
    for chapter in chapters:
        found = re.search(r'<p class="kd-times">About (\d+) min to read', chapter.read_text(encoding="utf-8"))
        assert found, chapter.name
        assert 5 <= int(found[1]) <= 90, chapter.name


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_the_map_shows_every_chapter_in_view_and_links_it(
    width: int, html: Path, visit: Callable[..., Visit]
) -> None:
    page = visit("map", width=width).page
    links = page.locator(".kd-map li a")
    shown = [link.get_attribute("href") for link in links.all()]
    assert shown == sorted(path.name for path in html.glob("[0-9][0-9]-*.html"))
    for link in links.all():
        # A title that does not fit its row would run over the next one.
        assert link.evaluate("link => link.scrollHeight <= link.clientHeight + 1"), link.inner_text()
    assert page.locator(".kd-map .need").count() >= len(shown) - 1


def test_the_way_on_goes_through_the_chapters_and_stays_out_of_the_back_matter(html: Path) -> None:
    def way(name: str) -> dict[str, str]:
        area = (html / f"{name}.html").read_text(encoding="utf-8").partition('class="prev-next-area"')[2]
        return dict(re.findall(r'class="(left-prev|right-next)"\s*href="([^"#]+)', area))

    chapters = sorted(path.stem for path in html.glob("[0-9][0-9]-*.html"))
    path = ["intro", "map", *chapters]
    for here, after in itertools.pairwise(path):
        assert way(here).get("right-next") == f"{after}.html"
        assert way(after).get("left-prev") == f"{here}.html"
    assert way(chapters[-1]).get("right-next") == "map.html"
    assert way("glossary") == {}
    assert way("status") == {}


FIRST_FOUND = {
    "τ": "02-temperature",
    "T²": "03-the-kl-loss",
    "KL": "03-the-kl-loss",
    "soft_target_loss": "api/losses",
    "losses.soft_target_loss": "api/losses",
    "Distiller": "api/index",
    "kdlib.Distiller": "api/index",
    "tap": "glossary",
    "kdlib.fit": "api/training",
    "kdlib.losses": "api/losses",
    "α": "notation",
    "w_h": "notation",
    "κ": "13-did-it-learn",
    "FitNets": "05-features",
}


def test_search_puts_the_right_page_first(visit: Callable[..., Visit]) -> None:
    """From disk, without a server: its index is a script."""
    found = {}
    for query in FIRST_FOUND:
        visited = visit(f"search?q={quote(query)}")
        first = visited.page.locator("#search-results li a").first
        first.wait_for(timeout=60_000)
        found[query] = (first.get_attribute("href") or "").partition(".html")[0]
        assert visited.complaints + visited.outside == []
    assert found == FIRST_FOUND


def test_the_search_index_is_that_of_the_pages(html: Path) -> None:
    """It knows each page by its heading; records it knows of and does not search."""
    index = json.loads((html / "searchindex.js").read_text(encoding="utf-8")[len("Search.setIndex(") : -1])
    titles = [BeautifulSoup(title, "html.parser").get_text() for title in index["titles"]]
    headings = {}
    for name in set(page_names(html)) - {"index", "search"}:
        (heading,) = re.findall("<h1>(.*?)<a class=.headerlink", (html / f"{name}.html").read_text("utf-8"))
        text = BeautifulSoup(heading, "html.parser").get_text()
        headings[name] = "" if name.startswith("records-") else text
    assert dict(zip(index["docnames"], titles, strict=True)) == headings


def test_a_dark_page_prints_light_and_without_what_is_no_use_on_paper(visit: Callable[..., Visit]) -> None:
    page = visit("03-the-kl-loss", theme="dark").page
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.get_attribute("html", "data-theme") == "light"
    for what in (
        ".kd-notation",
        ".prev-next-area",
        ".bd-sidebar-primary",
        ".bd-header-article",
        ".headerlink",
    ):
        assert not page.locator(what).first.is_visible(), what
    cut = """() => [...document.querySelectorAll("pre")]
        .filter((code) => code.checkVisibility() && code.scrollWidth > code.clientWidth + 1).length"""
    page.set_viewport_size({"width": 660, "height": 900})  # the width of A4 between its margins
    assert page.evaluate(cut) == 0, "code is cut off on paper"
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.get_attribute("html", "data-theme") == "dark"
