"""Live figures in the built pages: they answer without a kernel, and are pictures where scripts are off."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from .conftest import DESKTOP, PHONE, Theme, Visit, chapters, pages_with
from .faults import WIDER_THAN_THE_SCREEN

if TYPE_CHECKING:
    from playwright.sync_api import Locator

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


def test_figures_answer_to_the_keyboard(page_with_figures: str, visit: Callable[..., Visit]) -> None:
    """Each slider, moved by the arrow keys, changes its value, the figure's words and what it draws.

    In a dark theme and on a phone too: figures draw themselves anew for each.
    """
    visited = visit(page_with_figures)
    faults = []
    turns: list[tuple[Theme, int]] = [("light", DESKTOP), ("dark", PHONE)]
    for theme, width in turns:
        visited.turn(theme, width)
        for figure in visited.page.locator(".kdlib-live").all():
            sliders = figure.locator("input[type=range]").all()
            if not sliders:
                faults.append(f"{theme}, {width} pixels: a figure without a slider")
            for slider in sliders:
                label = f"{theme}, {width} pixels, {slider.get_attribute('aria-label')}"
                faults += [f"{label}: {fault}" for fault in unanswered(figure, slider)]
            if figure.evaluate(LOWEST_CONTRAST) < 4.5:
                faults.append(f"{theme}, {width} pixels: text hard to read")
    assert faults + visited.complaints + visited.outside == []


def unanswered(figure: Locator, slider: Locator) -> list[str]:
    """What stays as it was when a slider is moved."""
    before, value = figure.evaluate(APPEARANCE), slider.input_value()
    key = "ArrowLeft" if value == slider.get_attribute("max") else "ArrowRight"
    for _ in range(8):
        slider.press(key)
    after = figure.evaluate(APPEARANCE) | {"value": slider.input_value()}
    return [f"the same {what}" for what, old in (before | {"value": value}).items() if after[what] == old]


def test_figures_are_pictures_where_scripts_are_off(
    page_with_figures: str, visit: Callable[..., Visit]
) -> None:
    """Without scripts each live figure shows its image, with words for those who cannot see it."""
    page = visit(page_with_figures, scripts=False).page
    for figure in page.locator(".kdlib-live").all():
        image = figure.locator("img")
        assert image.is_visible()
        box = image.bounding_box()
        assert box is not None
        assert min(box["width"], box["height"]) > 100
        assert len(image.get_attribute("alt") or "") > 40


def test_explorer_answers_for_every_choice(page_with_explorer: str, visit: Callable[..., Visit]) -> None:
    """Each entry of each menu has a table; what has not been run has a command; all can be read."""
    visited = visit(page_with_explorer)
    turns: list[tuple[Theme, int]] = [("light", DESKTOP), ("dark", PHONE)]
    for theme, width in turns:
        visited.turn(theme, width)
        for figure in visited.page.locator(".kdlib-live").filter(has=visited.page.locator("select")).all():
            data, *others = figure.locator("select").all()
            for entry in data.locator("option").all():
                data.select_option(entry.get_attribute("value"))
                rows = figure.locator(".kd-runs tbody tr").all_inner_texts()
                assert rows
                commands = figure.locator(".kd-missing code").text_content() or ""
                assert ("not run yet" in "".join(rows)) <= ("kd run " in commands)
                assert figure.evaluate(LOWEST_CONTRAST) >= 4.5, f"text hard to read in {theme}"
                assert visited.page.evaluate(WIDER_THAN_THE_SCREEN) == []
            for menu in others:
                before, last = figure.evaluate(APPEARANCE), menu.locator("option").last
                is_last = menu.input_value() == last.get_attribute("value")
                menu.press("ArrowUp" if is_last else "ArrowDown")
                assert figure.evaluate(APPEARANCE)["words"] != before["words"]
    assert visited.complaints == []
    assert visited.outside == []


def test_practice_chapters_have_an_explorer(html: Path) -> None:
    """Each chapter that compares published numbers with ours, of those that were built."""
    compared = set(pages_with('class="kdlib-table kdlib-comparison')) & set(chapters())
    assert compared <= set(pages_with("runsTable"))
