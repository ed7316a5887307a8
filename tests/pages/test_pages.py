"""Every built page, opened from disk: complete, quiet, light, accessible, and right on a phone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import AT_REST, DESKTOP, PHONE, Theme, Visit, chapters
from .faults import (
    OPEN_FOLDS,
    THIN_OUT,
    WIDER_THAN_THE_SCREEN,
    accessibility,
    in_words,
    of_first_sight,
    of_loading,
    of_turned_page,
)
from .markup import dead_links, one_of_each_kind, repeated_ids


def test_page(name: str, visit: Callable[..., Visit]) -> None:
    """One visit: all that is wrong with a page, at once.

    Each page is loaded in light on a desktop, and then, its folds open, seen in light on a phone and in dark
    on a desktop. Of each kind of page one is also seen in light on the desktop and loaded in dark on a phone,
    and looked at with its header, sidebar and footer, which are the same on all.
    """
    whole = name in one_of_each_kind()
    visited = visit(name)
    page = visited.page
    faults = of_first_sight(visited, chapter=name in chapters())
    faults |= {"dead links": dead_links(name), "ids that are there twice": repeated_ids(name)}
    if whole:
        faults |= of_turned_page(visited, "light", DESKTOP, whole)

    visited.turn("light", PHONE)
    faults["wider than a phone"] = page.evaluate(WIDER_THAN_THE_SCREEN)
    page.evaluate(OPEN_FOLDS)
    page.evaluate(AT_REST)
    faults["wider than a phone with folds open"] = page.evaluate(WIDER_THAN_THE_SCREEN)
    page.evaluate(THIN_OUT)
    faults |= of_turned_page(visited, "light", PHONE, whole)
    visited.turn("dark", DESKTOP)
    faults |= of_turned_page(visited, "dark", DESKTOP, whole)
    faults |= of_loading(visited)

    if whole:
        visited = visit(name, "dark", PHONE)
        faults |= of_turned_page(visited, "dark", PHONE, whole)
        faults["console (loaded in dark, on a phone)"] = list(visited.complaints)
    assert not any(faults.values()), f"{name}\n{in_words(faults)}"


@pytest.mark.parametrize(("theme", "width"), [("light", DESKTOP), ("dark", PHONE)])
def test_code_is_accessible(html: Path, theme: Theme, width: int, visit: Callable[..., Visit]) -> None:
    """Contrast and scrolling of code and its output, on the page that has most of it."""
    most = max(html.glob("*.html"), key=lambda path: path.read_text(encoding="utf-8").count("<pre"))
    page = visit(most.stem, theme, width).page
    assert page.locator("pre").count() > 0
    assert accessibility(page, {"include": [["pre"]]}) == []


def test_index_leads_to_the_front_page(visit: Callable[..., Visit]) -> None:
    """Opening the folder's index shows the front page."""
    page = visit("index").page
    page.wait_for_url("**/intro.html", timeout=60_000)


def test_theme_button_changes_the_theme(visit: Callable[..., Visit]) -> None:
    """The button in the header goes through the themes."""
    page = visit("intro").page
    seen = set()
    for _ in range(3):
        seen.add(page.get_attribute("html", "data-theme"))
        page.locator(".theme-switch-button:visible").first.click()
    assert seen == {"light", "dark"}
