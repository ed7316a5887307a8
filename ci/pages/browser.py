"""The installed Chromium, headless: for the print edition, and for timing pages."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ci.chapters import CourseError

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Chromium looks up its maker's hosts at every start; these flags keep it quiet on a closed network.
FLAGS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
)


def find_chromium() -> Path | None:
    """The Chromium or Chrome that KDLIB_CHROMIUM names, or else the first on the path."""
    for name in (os.environ.get("KDLIB_CHROMIUM", ""), *NAMES):
        if name and (found := shutil.which(name)):
            return Path(found)
    return None


@contextmanager
def open_browser() -> Iterator[Browser]:
    """A headless browser that is closed at the end.

    Raises:
        CourseError: there is no Chromium.
    """
    from playwright import sync_api as playwright

    found = find_chromium()
    if found is None:
        raise CourseError(
            "No Chromium found: install it (Debian: apt-get install chromium), or set KDLIB_CHROMIUM to "
            "its path."
        )
    # Chromium's sandbox refuses to start as root, which is what containers and CI run as.
    as_root = hasattr(os, "geteuid") and os.geteuid() == 0
    flags = [*FLAGS, *(["--no-sandbox"] if as_root else [])]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(found), headless=True, args=flags)
        yield browser
        browser.close()
