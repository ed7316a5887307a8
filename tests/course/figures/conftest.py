"""The live figures on small numbers, and a way to open them as a reader does: from disk, offline."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("anywidget", reason="anywidget is not installed: pip install kdlib[notebook]")

from kdlib.course.figures import (
    AttentionFigure,
    BiasFigure,
    FeatureFigure,
    KLLossFigure,
    LiveFigure,
    PartsFigure,
    RelationFigure,
    SeedsFigure,
    SoftLabelFigure,
    TemperatureFigure,
)

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CLASSES = [str(digit) for digit in range(10)]

PAGE = """<!doctype html>
<html lang="en" data-theme="{theme}">
<head>
<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Figures</title>
</head>
<body style="background: {ground}"><main><h1 style="color: {ink}">Figures</h1>{figures}</main></body>
</html>"""
COLOURS = {"light": ("#ffffff", "#222222"), "dark": ("#14181e", "#dddddd")}


@pytest.fixture(scope="session")
def figure() -> Callable[[str], LiveFigure]:
    """A figure by its name, new at each call, always with the same numbers."""

    def make(name: str) -> LiveFigure:
        rng = np.random.default_rng(0)
        logits = rng.normal(scale=3, size=(10, 10)) + 5 * np.eye(10)
        images = rng.integers(0, 256, size=(10, 8, 8), dtype=np.uint8)
        labels = np.arange(10)
        if name == "temperature":
            return TemperatureFigure(logits, images, labels, CLASSES)
        if name == "soft label":
            powers = np.exp(logits)
            return SoftLabelFigure(images, labels, powers / powers.sum(axis=1, keepdims=True), CLASSES)
        if name == "kl loss":
            return KLLossFigure(logits[3] / 2 + rng.normal(size=10), logits[3], 3, CLASSES)
        if name == "feature":
            teacher = np.abs(rng.normal(size=(5, 4, 8, 8)))
            noise = rng.normal(size=(3, 5, 4, 8, 8)) * np.array([1.0, 0.5, 0.1])[:, None, None, None, None]
            return FeatureFigure(teacher, teacher + noise, images[:5], labels[:5], [0, 10, 100])
        if name == "attention":
            student, teacher = (
                {"layer1": rng.normal(size=(8, c, 8, 8)), "layer2": rng.normal(size=(8, 2 * c, 4, 4))}
                for c in (3, 5)
            )
            return AttentionFigure(student, teacher, images[:8], labels[:8])
        if name == "parts":
            student = logits / 2 + rng.normal(size=(10, 10))
            return PartsFigure(student, logits, images, labels, CLASSES)
        if name == "seeds":
            return SeedsFigure({"a − b": rng.normal(0.8, 1.4, size=20), "a − c": rng.normal(12, 2, size=20)})
        if name == "relation":
            maps = rng.normal(size=(4, 10, 2)).cumsum(axis=0)
            moments = ["epoch 0", "epoch 2", "epoch 4", "epoch 6"]
            return RelationFigure(maps, rng.normal(size=(10, 7)), images, labels // 4, moments, CLASSES)
        labels = rng.integers(0, 10, size=600)
        logits = rng.normal(scale=2, size=(600, 10)) + 5 * np.eye(10)[labels] - 4 * np.eye(10)[3]
        return BiasFigure(logits, labels, 3, CLASSES)

    return make


@pytest.fixture(scope="session")
def html_of(figure: Callable[[str], LiveFigure]) -> Callable[[str], str]:
    """A figure's HTML by the figure's name, made once."""
    return cache(lambda name: figure(name).page())


@pytest.fixture(scope="session")
def tab(browser: Browser) -> Iterator[Callable[[bool], tuple[Page, list[str]]]]:
    """A tab without a network, with or without scripts, and what its pages ask a network for or complain of.

    Loading in it is half the work of opening a new one.
    """
    tabs: dict[bool, tuple[Page, list[str]]] = {}

    def of(scripts: bool) -> tuple[Page, list[str]]:
        if scripts not in tabs:
            context = browser.new_context(offline=True, java_script_enabled=scripts, reduced_motion="reduce")
            page, complaints = context.new_page(), list[str]()
            page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("request", lambda sent: complaints.extend(filter(leaves_the_disk, [sent.url])))
            tabs[scripts] = page, complaints
        return tabs[scripts]

    yield of
    for page, _ in tabs.values():
        page.context.close()


def leaves_the_disk(url: str) -> bool:
    """Whether an address is of a network."""
    return not url.startswith(("file:", "blob:", "data:"))


@pytest.fixture
def open_html(tab: Callable[[bool], tuple[Page, list[str]]], tmp_path: Path) -> Iterator[Callable[..., Page]]:
    """Opens HTML as a page from disk, one at a time; whatever it complains of fails the test."""
    heard: list[list[str]] = []

    def open_(*figures: str, theme: str = "light", width: int = 900, scripts: bool = True) -> Page:
        ground, ink = COLOURS[theme]
        path = tmp_path / "page.html"
        text = PAGE.format(theme=theme, ground=ground, ink=ink, figures="\n".join(figures))
        path.write_text(text, encoding="utf-8")
        page, complaints = tab(scripts)
        heard.append(complaints)
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(path.as_uri())
        if scripts:
            # How many there are, because a page that is not there yet has none that is not ready.
            count = sum(one.count('class="kdlib-live"') for one in figures)
            page.wait_for_function(
                "count => document.querySelectorAll('.kdlib-live[data-live=ready]').length == count",
                arg=count,
                timeout=60_000,
            )
            # What watches a figure's width has been told, and has drawn, after two frames.
            page.evaluate(
                "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
            )
        return page

    yield open_
    said = [complaint for complaints in heard for complaint in complaints]
    for complaints in heard:
        complaints.clear()
    assert said == []


@pytest.fixture
def drag() -> Callable[[Page, float, float], None]:
    """Drags the mouse across a figure's curves, from and to a part of their width."""

    def move(page: Page, start: float, end: float) -> None:
        curves = page.locator("svg.kd-pointable")
        curves.scroll_into_view_if_needed()
        box = curves.bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + start * box["width"], box["y"] + 100)
        page.mouse.down()
        page.mouse.move(box["x"] + end * box["width"], box["y"] + 100)
        page.mouse.up()

    return move
