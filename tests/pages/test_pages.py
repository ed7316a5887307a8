"""Every built page, opened from disk: complete, quiet, light, accessible, and right on a phone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .conftest import DESKTOP, PHONE, Theme, Visit

if TYPE_CHECKING:
    from playwright.sync_api import Page

HEAVIEST_PAGE = 2_000_000  # bytes, with everything that the page loads

PROBLEMS_WITH_IMAGES = """() => [...document.querySelectorAll("img")]
    .filter((image) => !image.alt.trim() || !image.naturalWidth)
    .map((image) => (image.getAttribute("src") ?? "").slice(0, 80) + " alt: " + image.alt)"""

PROBLEMS_WITH_MATHEMATICS = r"""() => {
    const waiting = [...document.querySelectorAll(".math")].filter((math) => !math.querySelector(".katex"));
    const refused = [...document.querySelectorAll(".katex-error")];
    const text = document.querySelector("main").cloneNode(true);
    text.querySelectorAll("pre, code, script, style, svg, .katex").forEach((node) => node.remove());
    const raw = text.textContent.match(/.{0,30}(\$\$|\\\(|\\\[|\\begin\{|\\frac|\\mathrm).{0,30}/g) ?? [];
    return [...waiting, ...refused].map((node) => node.textContent.slice(0, 80)).concat(raw);
}"""

WIDER_THAN_THE_SCREEN = """() => {
    const root = document.documentElement;
    if (root.scrollWidth <= root.clientWidth) return [];
    return [...document.querySelectorAll("body *")]
        .filter((node) => node.getBoundingClientRect().right > root.clientWidth + 1)
        .map((node) => `${node.tagName} ${node.className}`.slice(0, 80));
}"""


def test_page_loads_quietly_from_disk(name: str, visit: Callable[..., Visit]) -> None:
    """Nothing from another host, no console error, under 2 MB, images and mathematics in order."""
    visited = visit(name)
    assert visited.blocked == []
    assert visited.complaints == []
    weight = sum(path.stat().st_size for path in visited.loaded if path.is_file())
    assert 0 < weight < HEAVIEST_PAGE, f"{name} loads {weight / 1e6:.2f} MB"
    assert visited.page.evaluate(PROBLEMS_WITH_IMAGES) == []
    assert visited.page.evaluate(PROBLEMS_WITH_MATHEMATICS) == []


def findings(page: Page, part: dict[str, list[list[str]]]) -> list[str]:
    """What axe-core finds in a part of a page."""
    from axe_playwright_python.sync_playwright import Axe

    # preload would fetch the stylesheets once more, which a page opened from disk may not.
    options = {"preload": False, "resultTypes": ["violations"]}
    return [
        f"{violation['id']}: {node['html'][:120]} {node['failureSummary'][:300]}"
        for violation in Axe().run(page, context=part, options=options).response["violations"]
        for node in violation["nodes"]
    ]


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_page_is_accessible(name: str, theme: Theme, width: int, visit: Callable[..., Visit]) -> None:
    """No finding of axe-core; on a phone, nothing wider than the screen."""
    page = visit(name, theme, width).page
    assert page.get_attribute("html", "data-theme") == theme
    # Code has thousands of elements, alike on all pages: the next test. Screen readers get the MathML beside
    # KaTeX's drawing of a formula, which has the colour of the text.
    assert findings(page, {"exclude": [["pre"], [".katex-html"]]}) == []
    if width == PHONE:
        assert page.evaluate(WIDER_THAN_THE_SCREEN) == []


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_code_is_accessible(html: Path, theme: Theme, width: int, visit: Callable[..., Visit]) -> None:
    """Contrast and scrolling of code and its output, on the page that has most of it."""
    most = max(html.glob("*.html"), key=lambda path: path.read_text(encoding="utf-8").count("<pre"))
    page = visit(most.stem, theme, width).page
    assert page.locator("pre").count() > 0
    assert findings(page, {"include": [["pre"]]}) == []


def test_index_leads_to_the_front_page(visit: Callable[..., Visit]) -> None:
    """Opening the folder's index shows the front page."""
    page = visit("index").page
    page.wait_for_url("**/intro.html", timeout=10_000)


def test_search_finds_temperature_from_disk(visit: Callable[..., Visit]) -> None:
    """Search needs no server: its index is a script."""
    visited = visit("search?q=temperature")
    results = visited.page.locator("#search-results li a")
    results.first.wait_for(timeout=10_000)
    targets = [link.get_attribute("href") or "" for link in results.all()]
    assert any(target.startswith("02-temperature.html") for target in targets), targets
    assert visited.blocked == []
    assert visited.complaints == []


def test_theme_button_changes_the_theme(visit: Callable[..., Visit]) -> None:
    """The button in the header goes through the themes."""
    page = visit("intro").page
    seen = set()
    for _ in range(3):
        seen.add(page.get_attribute("html", "data-theme"))
        page.locator(".theme-switch-button:visible").first.click()
    assert seen == {"light", "dark"}


def test_solutions_are_folded_and_open_by_keyboard(html: Path, visit: Callable[..., Visit]) -> None:
    """Each chapter hides its solutions until a reader asks for them."""
    chapters = sorted(path.stem for path in html.glob("[0-9][0-9]-*.html"))
    assert chapters, "no chapter was built"
    for chapter in chapters:
        page = visit(chapter).page
        solutions = page.locator("details.solution")
        assert solutions.count() >= 4, f"{chapter} has {solutions.count()} solutions"
        assert page.locator("details.solution[open]").count() == 0
        solutions.first.locator("summary").press("Enter")
        assert page.locator("details.solution[open]").count() == 1
