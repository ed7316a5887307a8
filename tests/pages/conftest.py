"""The built pages, opened from disk in a browser without a network."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote, urlsplit

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page, Request

FOLDER = Path(os.environ.get("KDLIB_PAGES", Path(__file__).parents[2] / "_build" / "html")).resolve()
LIVE_FIGURES_SETTLED = """() => [...document.querySelectorAll(".kdlib-live")]
    .every((figure) => ["ready", "failed"].includes(figure.dataset.live))"""
# After two frames what watches the width or the theme has been told, and has drawn. A button that is still
# changing to its theme's colour has neither theme's contrast.
AT_REST = """() => document.fonts.ready
    .then(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))))
    .then(() => Promise.allSettled(document.getAnimations().map((animation) => animation.finished)))"""

Theme = Literal["light", "dark"]
DESKTOP, PHONE = 1280, 360


@dataclass
class Visit:
    """A page that was opened, and all that was asked for or complained of on the way."""

    page: Page
    outside: list[str] = field(default_factory=list)
    loaded: set[Path] = field(default_factory=set)
    complaints: list[str] = field(default_factory=list)

    def watch(self) -> None:
        """Remember what the page asks for, and from where, and its errors."""

        def request(sent: Request) -> None:
            if sent.url.startswith(("data:", "blob:")):
                return
            if sent.url.startswith("file:") and path_of(sent.url).is_relative_to(FOLDER):
                self.loaded.add(path_of(sent.url))
            else:
                self.outside.append(sent.url)

        def console(message: ConsoleMessage) -> None:
            if message.type == "error":
                self.complaints.append(f"{message.text} ({message.location['url'].rpartition('/')[2]})")

        self.page.on("request", request)
        self.page.on("console", console)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def open(self, name: str, theme: Theme, width: int) -> None:
        """Load a page anew, as a reader does who has that theme and that screen."""
        for noted in (self.outside, self.loaded, self.complaints):
            noted.clear()
        self.page.mouse.move(0, 0)
        self.page.set_viewport_size({"width": width, "height": 800})
        self.page.emulate_media(media="screen", color_scheme=theme)
        file, mark, query = name.partition("?")
        self.page.goto(f"{(FOLDER / file).as_uri()}.html{mark}{query}", wait_until="load")

    def settle(self) -> None:
        """Wait until figures are drawn and nothing moves."""
        self.page.wait_for_function(LIVE_FIGURES_SETTLED, timeout=60_000)
        self.page.evaluate(AT_REST)

    def turn(self, theme: Theme, width: int) -> None:
        """Change the theme and the width under the reader's eyes."""
        self.page.emulate_media(color_scheme=theme)
        self.page.set_viewport_size({"width": width, "height": 800})
        self.page.evaluate(AT_REST)


def path_of(url: str) -> Path:
    """The file that a file: address names."""
    return Path(unquote(urlsplit(url).path)).resolve()


def page_names(folder: Path) -> list[str]:
    """Every page below a folder, such as intro or methods/fsp; 404, which works on the web alone, is none."""
    pages = (path.relative_to(folder) for path in folder.rglob("*.html") if path.name != "404.html")
    return sorted(page.with_suffix("").as_posix() for page in pages if not page.parts[0].startswith("_"))


def chapters() -> list[str]:
    """The chapters that were built."""
    return sorted(path.stem for path in FOLDER.glob("[0-9][0-9]-*.html"))


def pages_with(markup: str) -> list[str]:
    """The pages whose HTML has some text."""
    return [name for name in page_names(FOLDER) if markup in (FOLDER / f"{name}.html").read_text("utf-8")]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test once for each page, or page of some kind; with none at all it runs once, to fail."""
    kinds: dict[str, Callable[[], list[str]]] = {
        "name": lambda: [name for name in page_names(FOLDER) if name != "index"],  # which leads on to intro
        "page_with_figures": lambda: pages_with('class="kdlib-live"'),
        "page_with_explorer": lambda: pages_with("runsTable"),
        "asking": lambda: pages_with('class="prediction"'),
    }
    for kind in kinds.keys() & set(metafunc.fixturenames):
        metafunc.parametrize(kind, kinds[kind]() or ["no pages"])


@pytest.fixture(scope="session")
def html() -> Path:
    """The folder of built pages; a test without pages to test fails."""
    if not (FOLDER / "intro.html").is_file():
        pytest.fail(
            f"There are no pages in {FOLDER}. Run `make book` first, or set KDLIB_PAGES to their folder."
        )
    return FOLDER


@pytest.fixture(scope="session")
def tab(browser: Browser, html: Path) -> Iterator[Callable[..., Visit]]:
    """A browser's tab for the session, without a network; loading in it is half the work of a new one."""
    tabs: dict[tuple[bool, bool], Visit] = {}

    def of(scripts: bool, touch: bool) -> Visit:
        if (scripts, touch) not in tabs:
            context = browser.new_context(offline=True, java_script_enabled=scripts, has_touch=touch)
            tabs[scripts, touch] = Visit(context.new_page())
            tabs[scripts, touch].watch()
        return tabs[scripts, touch]

    yield of
    for visited in tabs.values():
        visited.page.context.close()


@pytest.fixture
def visit(tab: Callable[..., Visit]) -> Iterator[Callable[..., Visit]]:
    """Open a page by its name, in a theme, at a width, with or without scripts, by mouse or touch.

    A page is left when the next one is opened, and what it kept in the browser is forgotten after the test.
    """
    used = []

    def open_page(
        name: str,
        theme: Theme = "light",
        width: int = DESKTOP,
        scripts: bool = True,
        touch: bool = False,
    ) -> Visit:
        visited = tab(scripts, touch)
        visited.open(name, theme, width)
        if scripts:
            visited.settle()
            used.append(visited.page)
        return visited

    yield open_page
    for page in used:
        page.evaluate("() => { localStorage.clear(); sessionStorage.clear(); }")
