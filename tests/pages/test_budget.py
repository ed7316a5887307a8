"""What a page may cost its reader: bytes, requests, and nothing that moves sideways on a phone."""

from __future__ import annotations

from collections.abc import Callable

from .conftest import PHONE, Visit

HEAVIEST = 2_000_000  # bytes
MOST_REQUESTS = 60


def test_page_is_light(name: str, visit: Callable[..., Visit]) -> None:
    """Everything that a page loads from top to bottom, images below the fold too."""
    visited = visit(name)
    visited.page.evaluate("scrollTo(0, document.body.scrollHeight)")
    visited.page.wait_for_load_state("networkidle")
    weight = sum(path.stat().st_size for path in visited.loaded if path.is_file())
    assert 0 < weight < HEAVIEST, f"{name} loads {weight / 1e6:.2f} MB"
    assert len(visited.loaded) < MOST_REQUESTS, f"{name} asks for {len(visited.loaded)} files"
    assert visited.blocked == []


def test_page_fits_the_narrowest_phone(name: str, visit: Callable[..., Visit]) -> None:
    """Nothing moves sideways at 360 pixels, with every fold open too."""
    page = visit(name, width=PHONE).page
    page.evaluate("document.querySelectorAll('article details').forEach((fold) => (fold.open = true))")
    root = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert root[0] <= root[1], f"{name} is {root[0]} wide on a screen of {root[1]}"
