"""The map has every chapter, an arrow for every need, and routes in words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from docutils import nodes

from ci.pages.sphinx.course_map import (
    Route,
    draw_needs,
    draw_routes,
    in_words,
    list_stations,
    read_parts,
    read_route,
)

BOOK = Path(__file__).parents[3] / "book"


@pytest.mark.parametrize(
    ("numbers", "text"),
    [([1], "1"), ([1, 2], "1 and 2"), ([1, 2, 3, 4], "1 to 4"), ([1, 2, 3, 6, 9, 10], "1 to 3, 6, 9 and 10")],
)
def test_runs_of_chapters_are_ranges(numbers: list[int], text: str) -> None:
    assert in_words(numbers) == text


def test_every_chapter_is_on_the_map_below_what_it_needs() -> None:
    parts, height = read_parts(BOOK)
    stations = [station for _, chapters in parts for station in chapters]
    assert [station.slug for station in stations] == sorted(path.stem for path in BOOK.glob("[0-9]*.ipynb"))
    assert all(need < station.number for station in stations for need in station.needs)
    assert all(station.needs for station in stations[1:])
    needs = sum(len(station.needs) for station in stations)
    assert len(re.findall(r'class="need"', draw_needs(stations, height))) == needs


def test_every_route_has_what_its_chapters_need() -> None:
    text = (BOOK / "map.md").read_text(encoding="utf-8")
    routes = [read_route(line) for line in text.splitlines() if re.match(r"[A-Z] \|", line)]
    assert [route.letter for route in routes] == ["A", "B", "C"]
    parts, height = read_parts(BOOK)
    stations = [station for _, chapters in parts for station in chapters]
    needs = {station.number: station.needs for station in stations}
    for route in routes:
        assert route.chapters == tuple(sorted(set(route.chapters)))
        assert {need for number in route.chapters for need in needs.get(number, ())} <= set(route.chapters)
    assert draw_routes(stations, routes, height).count("<text") == 3


def test_the_list_says_in_words_what_the_drawing_shows() -> None:
    parts, _ = read_parts(BOOK)
    titles = {s.slug: nodes.title("", f"<{s.number}>") for _, stations in parts for s in stations}
    text = list_stations(parts, [Route("A", "…", (1, 2), "…")], titles)
    assert (
        '<a href="02-temperature.html"><span class="kd-map-number">2</span><span>&lt;2&gt;</span></a>' in text
    )
    assert "(needs chapter 1; routes A)" in text
