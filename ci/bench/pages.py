"""How soon a reader can use a page: from opening it to its first live figure answering, in a real browser."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from tqdm import tqdm

from ci.bench.commands import Timing
from ci.bench.report import Part
from ci.chapters import CourseError, Repository
from ci.pages.browser import open_browser

if TYPE_CHECKING:
    from playwright.sync_api import Browser

LIMIT = 2.0  # seconds
ROUNDS = 3


def bench(repository: Repository) -> Part:
    """Time every page that has a live figure, from a cold browser's empty cache; the median of three."""
    pages = [
        path for path in sorted(repository.html.glob("*.html")) if "kdlib-live" in path.read_text("utf-8")
    ]
    if not pages:
        raise CourseError(f"No page in {repository.html} has a live figure: run `make book` first.")
    with open_browser() as browser:
        first_answer(browser, pages[0])  # starts the browser's own processes
        timings = [
            Timing(page.stem, round(median(first_answer(browser, page) for _ in range(ROUNDS)), 2), LIMIT)
            for page in tqdm(pages, desc="opening pages", unit="page")
        ]
    lines = [
        f"{timing.what:<55} {timing.seconds:7.2f} s of {timing.limit:4.0f} s"
        f"{'  over' if timing.seconds > timing.limit else ''}"
        for timing in timings
    ]
    return Part(["First live figure answers, from opening the page:", *lines], [asdict(t) for t in timings])


def first_answer(browser: Browser, path: Path) -> float:
    """Seconds until the first figure of a page has changed after a key on its first control."""
    page = browser.new_context().new_page()
    started = time.perf_counter()
    page.goto(path.as_uri(), wait_until="commit")
    figure = page.locator(".kdlib-live[data-live=ready]").first
    figure.wait_for(state="attached")
    slider = figure.locator("input[type=range]").first
    before = slider.input_value()
    slider.press("ArrowLeft" if before == slider.get_attribute("max") else "ArrowRight")
    taken = time.perf_counter() - started
    if slider.input_value() == before:
        raise CourseError(f"The first figure of {path.name} does not answer: run `make test`.")
    page.context.close()
    return taken
