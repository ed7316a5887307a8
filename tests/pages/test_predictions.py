"""Prediction questions in the built pages: they answer to a click and to keys, with no kernel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .conftest import PHONE, Theme, Visit, chapters, pages_with
from .faults import accessibility

if TYPE_CHECKING:
    from playwright.sync_api import Locator

# A fold that opens says so a moment later, and only then are the others closed.
SAYS = "([node, words]) => node.textContent.startsWith(words)"
ONE_OPEN = "(box) => box.querySelectorAll('details[open]').length === 1"
MARK = """(option) => getComputedStyle(option.querySelector("summary"), "::before").content"""


@pytest.fixture
def first_asking(html: Path) -> str:
    """The first page that asks for a prediction; every chapter does."""
    pages = pages_with('class="prediction"')
    assert pages
    assert set(chapters()) <= set(pages)
    return pages[0]


def open_options(box: Locator) -> int:
    """How many options of a question are open."""
    return box.locator("details[open]").count()


def test_only_pages_that_ask_load_what_it_takes(first_asking: str, visit: Callable[..., Visit]) -> None:
    """The script and stylesheet are loaded by these pages, and by no others."""
    for name in (first_asking, "glossary"):
        loaded = {path.name for path in visit(name).loaded}
        assert ({"predictions.js", "predictions.css"} <= loaded) == (name == first_asking)


def test_a_click_shows_one_answer_and_why(asking: str, visit: Callable[..., Visit]) -> None:
    """Each option, clicked, shows and reads out its reason with a mark, and closes the one before."""
    visited = visit(asking)
    for box in visited.page.locator(".prediction").all():
        reply, again = box.locator("[role=status]"), box.get_by_role("button", name="Try again")
        assert open_options(box) == 0
        assert again.is_hidden()
        marks = set()
        for option in box.locator("details[data-answer]").all():
            kind = option.get_attribute("data-answer")
            option.locator("summary").click()
            visited.page.wait_for_function(ONE_OPEN, arg=box.element_handle())
            option.locator("p").first.wait_for(state="visible")
            said = "Right." if kind == "right" else "No."
            assert option.locator("p").first.inner_text().startswith(said)
            visited.page.wait_for_function(SAYS, arg=[reply.element_handle(), said])
            marks.add((kind, option.evaluate(MARK)))
        assert len(marks) == 2, marks
        again.click()
        assert open_options(box) == 0
    assert visited.complaints == []


def test_keys_do_what_a_click_does(first_asking: str, visit: Callable[..., Visit]) -> None:
    """Tab leads to each option, Enter and space open it, and trying again leads back to the first."""
    page = visit(first_asking, "dark", PHONE).page
    box = page.locator(".prediction").first
    first = box.locator("summary").first
    first.focus()
    page.keyboard.press("Enter")
    assert box.locator("details").nth(0).get_attribute("open") is not None
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    page.wait_for_function(ONE_OPEN, arg=box.element_handle())
    assert box.locator("details").nth(1).get_attribute("open") is not None
    while page.evaluate("document.activeElement.textContent") != "Try again":
        page.keyboard.press("Tab")
        assert page.evaluate("(box) => box.contains(document.activeElement)", box.element_handle())
    page.keyboard.press("Enter")
    page.wait_for_function("(box) => !box.querySelector('details[open]')", arg=box.element_handle())
    assert first.evaluate("(summary) => summary === document.activeElement")
    reply = box.locator("[role=status]").element_handle()
    page.wait_for_function("(node) => !node.textContent", arg=reply)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_answers_are_accessible(first_asking: str, theme: Theme, visit: Callable[..., Visit]) -> None:
    """A question has a name; right and wrong, once shown, have the contrast that text needs."""
    page = visit(first_asking, theme).page
    box = page.locator(".prediction").first
    assert box.get_attribute("role") == "group"
    for option in box.locator("summary").all():
        option.click()
        option.locator("xpath=../p").first.wait_for(state="visible")
        assert accessibility(page, {"include": [[".prediction"]]}) == []


def test_nothing_is_kept(first_asking: str, visit: Callable[..., Visit]) -> None:
    """After a reload the questions are as new."""
    page = visit(first_asking).page
    page.locator(".prediction summary").first.click()
    page.reload()
    assert page.locator(".prediction details[open]").count() == 0
    assert page.evaluate("document.cookie") == ""


def test_without_scripts_the_folds_answer(first_asking: str, visit: Callable[..., Visit]) -> None:
    """Folds are HTML's own: a click shows the reason, with nothing loaded."""
    page = visit(first_asking, scripts=False).page
    option = page.locator('.prediction details[data-answer="right"]').first
    assert option.locator("p").first.is_hidden()
    option.locator("summary").click()
    assert option.locator("p").first.is_visible()


def test_in_print_the_answers_are_at_the_end(first_asking: str, visit: Callable[..., Visit]) -> None:
    """All options are printed and none of the reasons beside them; each right one follows after the text."""
    page = visit(first_asking).page
    page.locator(".prediction summary").first.click()
    assert page.locator(".prediction-answers").is_hidden()
    page.emulate_media(media="print")
    boxes = page.locator(".prediction")
    assert boxes.first.locator("summary").first.is_visible()
    assert boxes.first.locator("details p").first.is_hidden()
    answers = page.locator(".prediction-answers")
    assert answers.is_visible()
    assert answers.locator("li").count() == boxes.count()
    for box, answer in zip(boxes.all(), answers.locator("li").all(), strict=True):
        right = box.locator('details[data-answer="right"] summary').inner_text()
        assert right in answer.inner_text()
        assert "Right." not in answer.inner_text()
    assert answers.locator("[id]").count() == 0
