"""Live figures in the built pages: they answer without a kernel, and are pictures where scripts are off."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import DESKTOP, PHONE, Theme, Visit

# What a reader sees of a figure besides its controls: its words, and the geometry of what it draws.
APPEARANCE = """(figure) => ({
    words: figure.innerText,
    shapes: [...figure.querySelectorAll("svg")].map((svg) => svg.innerHTML).join()
        + [...figure.querySelectorAll("canvas")].map((canvas) => canvas.toDataURL()).join(),
})"""

# The lowest contrast of any visible text with the first opaque colour behind it.
LOWEST_CONTRAST = """(figure) => {
    const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
    const luminance = (colour) => channels(colour).slice(0, 3)
        .map((c) => c / 255).map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const behind = (node) => {
        for (; node; node = node.parentElement) {
            const colour = getComputedStyle(node).backgroundColor;
            if ((channels(colour)[3] ?? 1) === 1) return colour;
        }
        return getComputedStyle(document.body).backgroundColor;
    };
    const texts = [...figure.querySelectorAll("*")].filter((node) => node.getClientRects().length
        && [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim())
        && !node.closest("script, style"));
    return Math.min(...texts.map((node) => {
        const style = getComputedStyle(node);
        const [a, b] = [luminance(node.ownerSVGElement ? style.fill : style.color), luminance(behind(node))];
        return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    }));
}"""


@pytest.fixture
def chapters_with_figures(html: Path) -> list[str]:
    """The pages that hold live figures; the book has some."""
    pages = sorted(path.stem for path in html.glob("*.html") if 'class="kdlib-live"' in path.read_text())
    assert pages, "no page has a live figure"
    return pages


@pytest.mark.parametrize(("theme", "width"), [("light", DESKTOP), ("dark", DESKTOP), ("dark", PHONE)])
def test_figure_answers_to_the_keyboard(
    theme: Theme, width: int, chapters_with_figures: list[str], visit: Callable[..., Visit]
) -> None:
    """Each slider, moved by the arrow keys, changes its value, the figure's words and what it draws."""
    for chapter in chapters_with_figures:
        visited = visit(chapter, theme, width)
        for figure in visited.page.locator(".kdlib-live").all():
            sliders = figure.locator("input[type=range]").all()
            assert sliders, f"a live figure in {chapter} has no slider"
            for slider in sliders:
                slider.scroll_into_view_if_needed()
                before, value = figure.evaluate(APPEARANCE), slider.input_value()
                key = "ArrowLeft" if value == slider.get_attribute("max") else "ArrowRight"
                for _ in range(8):
                    slider.press(key)
                after = figure.evaluate(APPEARANCE)
                label = f"{chapter}: {slider.get_attribute('aria-label')}"
                assert slider.input_value() != value, label
                assert after["words"] != before["words"], label
                assert after["shapes"] != before["shapes"], label
            assert figure.evaluate(LOWEST_CONTRAST) >= 4.5, f"{chapter}: text hard to read in {theme}"
        assert visited.complaints == []
        assert visited.blocked == []


def test_figure_is_a_picture_where_scripts_are_off(
    chapters_with_figures: list[str], visit: Callable[..., Visit]
) -> None:
    """Without scripts each live figure shows its image, with words for those who cannot see it."""
    for chapter in chapters_with_figures:
        page = visit(chapter, scripts=False).page
        for figure in page.locator(".kdlib-live").all():
            image = figure.locator("img")
            assert image.is_visible()
            box = image.bounding_box()
            assert box is not None
            assert min(box["width"], box["height"]) > 100
            assert len(image.get_attribute("alt") or "") > 40


@pytest.fixture
def chapters_with_explorers(chapters_with_figures: list[str], html: Path) -> list[str]:
    """Of these, the ones with menus: the sweep explorer of part III."""
    return [page for page in chapters_with_figures if "runsTable" in (html / f"{page}.html").read_text()]


@pytest.mark.parametrize(("theme", "width"), [("light", DESKTOP), ("dark", PHONE)])
def test_explorer_answers_for_every_choice(
    theme: Theme, width: int, chapters_with_explorers: list[str], visit: Callable[..., Visit]
) -> None:
    """Each entry of each menu has a table; what has not been run has a command; all can be read."""
    for chapter in chapters_with_explorers:
        visited = visit(chapter, theme, width)
        page = visited.page
        for figure in page.locator(".kdlib-live").filter(has=page.locator("select")).all():
            data, *others = figure.locator("select").all()
            for entry in data.locator("option").all():
                data.select_option(entry.get_attribute("value"))
                rows = figure.locator(".kd-runs tbody tr").all_inner_texts()
                assert rows
                commands = figure.locator(".kd-missing code").text_content() or ""
                assert ("not run yet" in "".join(rows)) <= ("kd run " in commands), chapter
                assert figure.evaluate(LOWEST_CONTRAST) >= 4.5, f"{chapter}: text hard to read in {theme}"
                assert page.evaluate("document.documentElement.scrollWidth") <= width
            for menu in others:
                before = figure.evaluate(APPEARANCE)
                menu.press("ArrowDown")
                assert figure.evaluate(APPEARANCE)["words"] != before["words"], chapter
        assert visited.complaints == []
        assert visited.blocked == []


def test_practice_chapters_have_an_explorer(html: Path, chapters_with_explorers: list[str]) -> None:
    """Each chapter that compares published numbers with ours, of those that were built."""
    with_tables = {
        page.stem
        for page in html.glob("[0-9][0-9]-*.html")
        if 'class="kdlib-table kdlib-comparison' in page.read_text()
    }
    assert with_tables <= set(chapters_with_explorers)
