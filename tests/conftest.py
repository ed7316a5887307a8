"""The browser of the tests that open a page: the system's Chromium, headless, driven by playwright."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ci.browser import find_chromium, open_browser

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def chromium_path() -> Path:
    """The path of an installed Chromium; where there is none, skips, or fails if KDLIB_REQUIRE_BROWSER=1."""
    if found := find_chromium():
        return found
    reason = (
        "no Chromium found: install it (Debian: apt-get install chromium) or set KDLIB_CHROMIUM to its path"
    )
    if os.environ.get("KDLIB_REQUIRE_BROWSER") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def browser(chromium_path: Path) -> Iterator[Browser]:
    """One headless Chromium for the session; each test opens its own context or page in it."""
    if os.environ.get("KDLIB_REQUIRE_BROWSER") != "1":
        pytest.importorskip("playwright", reason="playwright is not installed: pip install kdlib[dev]")
    with open_browser() as chromium:
        yield chromium
