"""The browser of the tests that open a page: the system's Chromium, headless, driven by playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

# Chromium looks up its maker's hosts at every start; these flags keep it quiet on a closed network.
CHROMIUM_FLAGS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
)


@pytest.fixture(scope="session")
def chromium_path() -> Path:
    """The path of an installed Chromium; where there is none, skips, or fails if KDLIB_REQUIRE_BROWSER=1."""
    for name in (os.environ.get("KDLIB_CHROMIUM", ""), *CHROMIUM_NAMES):
        if name and (found := shutil.which(name)):
            return Path(found)
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
    from playwright import sync_api as playwright

    # Chromium's sandbox refuses to start as root, which is what containers and CI run as.
    as_root = hasattr(os, "geteuid") and os.geteuid() == 0
    flags = [*CHROMIUM_FLAGS, *(["--no-sandbox"] if as_root else [])]
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=str(chromium_path), headless=True, args=flags)
        yield chromium
        chromium.close()
