"""The built pages, opened from disk in a browser that may load nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote, urlsplit

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

FOLDER = Path(os.environ.get("KDLIB_PAGES", Path(__file__).parents[2] / "_build" / "html"))
LIVE_FIGURES_SETTLED = """() => [...document.querySelectorAll(".kdlib-live")]
    .every((figure) => ["ready", "failed"].includes(figure.dataset.live))"""
# A button that is still changing to its theme's colour has neither theme's contrast.
AT_REST = """() => document.fonts.ready
    .then(() => new Promise(requestAnimationFrame))
    .then(() => Promise.allSettled(document.getAnimations().map((animation) => animation.finished)))"""

Theme = Literal["light", "dark"]
DESKTOP, PHONE = 1280, 360


@dataclass
class Visit:
    """A page that was opened, and all that was asked for or complained of on the way."""

    page: Page
    blocked: list[str] = field(default_factory=list)
    loaded: set[Path] = field(default_factory=set)
    complaints: list[str] = field(default_factory=list)

    def request(self, route: Route) -> None:
        """Let files through and remember them; stop everything that would leave the folder."""
        url = route.request.url
        if url.startswith("file:") and path_of(url).is_relative_to(FOLDER.resolve()):
            self.loaded.add(path_of(url))
            route.continue_()
        elif url.startswith(("data:", "blob:")):
            route.continue_()
        else:
            self.blocked.append(url)
            route.abort()


def path_of(url: str) -> Path:
    """The file that a file: address names."""
    return Path(unquote(urlsplit(url).path)).resolve()


def page_names(folder: Path) -> list[str]:
    """Every page below a folder, such as intro or methods/fsp."""
    pages = (path.relative_to(folder) for path in folder.rglob("*.html"))
    return sorted(page.with_suffix("").as_posix() for page in pages if not page.parts[0].startswith("_"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that takes `name` once for each page; with no pages at all it runs once, to fail."""
    if "name" in metafunc.fixturenames:
        pages = set(page_names(FOLDER)) - {"index"}  # index only leads on to intro
        metafunc.parametrize("name", sorted(pages) or ["no pages"])


@pytest.fixture(scope="session")
def html() -> Path:
    """The folder of built pages; a test without pages to test fails."""
    if not (FOLDER / "intro.html").is_file():
        pytest.fail(
            f"There are no pages in {FOLDER}. Run `make book` first, or set KDLIB_PAGES to their folder."
        )
    return FOLDER.resolve()


@pytest.fixture
def visit(browser: Browser, html: Path) -> Iterator[Callable[..., Visit]]:
    """Open a page by its name, in a theme, at a width, with or without scripts, by mouse or touch."""
    contexts = []

    def open_page(
        name: str,
        theme: Theme = "light",
        width: int = DESKTOP,
        scripts: bool = True,
        touch: bool = False,
    ) -> Visit:
        context = browser.new_context(
            viewport={"width": width, "height": 800},
            color_scheme=theme,
            java_script_enabled=scripts,
            has_touch=touch,
        )
        contexts.append(context)
        visited = Visit(context.new_page())
        page = visited.page
        page.route("**/*", visited.request)
        page.on("pageerror", lambda error: visited.complaints.append(f"page error: {error}"))
        page.on(
            "console",
            lambda message: (
                visited.complaints.append(f"console: {message.text}") if message.type == "error" else None
            ),
        )
        file, _, query = name.partition("?")
        page.goto(f"{(html / file).as_uri()}.html{f'?{query}' if query else ''}", wait_until="load")
        if scripts:
            page.wait_for_function(LIVE_FIGURES_SETTLED, timeout=10_000)
            page.evaluate(AT_REST)
        return visited

    yield open_page
    for context in contexts:
        context.close()
