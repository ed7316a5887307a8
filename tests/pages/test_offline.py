"""The archive of `make offline`: unpacked elsewhere and opened from disk, it is alive without a network."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import pytest

from ci.pages.offline import FOLDER, pack

from .conftest import LIVE_FIGURES_SETTLED, page_names
from .markup import read

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Request


@pytest.fixture(scope="module")
def unpacked(html: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive's folder, in a place with a space in its name."""
    place = tmp_path_factory.mktemp("a reader's folder")
    pack(html, place / "course.zip")
    with zipfile.ZipFile(place / "course.zip") as archive:
        archive.extractall(place)
    return place / FOLDER


@pytest.fixture
def reader(browser: Browser) -> Iterator[tuple[Page, list[str]]]:
    """A page in a browser without a network, and the list of what goes wrong on it."""
    context = browser.new_context(offline=True)
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))

    def failed(request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # what a page that was left had still to load
            wrong.append(f"{request.url}: {request.failure}")

    page.on("requestfailed", failed)
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    yield page, wrong
    context.close()


def test_the_archive_is_alive_from_disk(unpacked: Path, reader: tuple[Page, list[str]]) -> None:
    """From the index to a chapter: its figure moves, its mathematics is drawn, its predictions answer."""
    page, wrong = reader
    page.goto((unpacked / "index.html").as_uri())
    page.wait_for_url("**/intro.html")
    page.goto((unpacked / "02-temperature.html").as_uri())
    page.wait_for_function(LIVE_FIGURES_SETTLED)
    assert page.locator(".katex").count() > 10
    assert page.evaluate("document.fonts.ready.then(() => document.fonts.check('16px KaTeX_Main'))")
    slider = page.locator(".kdlib-live input[type=range]").first
    before = page.locator(".kdlib-live").first.inner_text()
    slider.press("ArrowRight")
    assert page.locator(".kdlib-live").first.inner_text() != before
    prediction = page.locator(".prediction details").first
    prediction.locator("summary").click()
    assert prediction.get_attribute("open") is not None
    assert wrong == []


def test_search_works_in_the_archive(unpacked: Path, reader: tuple[Page, list[str]]) -> None:
    page, wrong = reader
    page.goto(f"{(unpacked / 'search.html').as_uri()}?q=temperature")
    page.locator('#search-results li a[href^="02-temperature.html"]').first.wait_for(timeout=60_000)
    assert wrong == []


def test_nothing_that_a_page_refers_to_is_missing(html: Path, unpacked: Path) -> None:
    """Links, images, scripts and styles of every page are in the archive."""
    names = page_names(unpacked)
    assert names == page_names(html)
    for name in names:
        links = [urlsplit(link) for link in read(name).links]
        missing = [
            link.path
            for link in links
            if not link.scheme and not (unpacked / name).parent.joinpath(unquote(link.path)).exists()
        ]
        assert missing == [], name


def test_no_map_of_a_minified_file_is_in_it(unpacked: Path) -> None:
    assert {path.suffix for path in unpacked.rglob("*")} & {".map", ".ttf", ".inv"} == set()
