"""A Sphinx extension: a map of the course, drawn from chapters.yml, with a route for each kind of reader.

The directive `course-map` has one line a route: `letter | name | chapters | who it is for`. On the left of
the map an arrow leads from each chapter to those that need it; on the right each route has a line with its
stops.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

# In sixteenths of a rem: a row of the list and a part's caption are as high as course-map.css makes them.
ROW, CAPTION, GUTTER, STOP = 44, 40, 56, 21
TIP = (
    '<defs><marker id="map-tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6"'
    ' orient="auto"><path d="M0 0L8 4L0 8z"/></marker></defs>'
)
EXPLANATION = "An arrow leads from a chapter to those that need it. Each letter is a route."


@dataclass(frozen=True)
class Station:
    """A chapter on the map, and how far down its middle is."""

    number: int
    slug: str
    needs: tuple[int, ...]
    middle: float


@dataclass(frozen=True)
class Route:
    """A way through the course: its letter, its name, its chapters and whom it suits."""

    letter: str
    name: str
    chapters: tuple[int, ...]
    who: str


class course_map(nodes.General, nodes.Element):  # type: ignore[misc]  # docutils is not typed
    """Stands for the map until every chapter has been read, and its reading time is known."""


class CourseMap(SphinxDirective):
    """The directive `course-map`."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Keep the routes until the page is written."""
        routes = [read_route(line) for line in self.content if line.strip()]
        for name in ("chapters.yml", "_toc.yml"):
            self.env.note_dependency(name)
        return [course_map("", routes=routes)]


def read_route(line: str) -> Route:
    """One line of the directive."""
    letter, name, chapters, who = (cell.strip() for cell in line.split("|"))
    return Route(letter, name, tuple(int(number) for number in chapters.split()), who)


def read_parts(folder: Path) -> tuple[list[tuple[str, list[Station]]], float]:
    """The parts of the course with their chapters, placed from the top down, and the height of them all."""
    entries = yaml.safe_load((folder / "chapters.yml").read_text(encoding="utf-8"))
    parts, down = [], 0.0
    for part in yaml.safe_load((folder / "_toc.yml").read_text(encoding="utf-8"))["parts"]:
        slugs = [page["file"] for page in part["chapters"] if page["file"] in entries]
        if not slugs:
            continue
        down += CAPTION
        stations = []
        for slug in slugs:
            needs = tuple(int(number) for number in entries[slug].get("needs", ()))
            stations.append(Station(int(slug[:2]), slug, needs, down + ROW / 2))
            down += ROW
        parts.append((part["caption"], stations))
    return parts, down


def draw_needs(stations: Sequence[Station], height: float) -> str:
    """Arrows from each chapter to those that need it: straight to the next one, in an arc to a later one."""
    by_number = {station.number: station for station in stations}
    paths = []
    for station in stations:
        for number in station.needs:
            start, end = by_number[number].middle + 9, station.middle - 9
            if station.number == number + 1:
                paths.append(f"M{GUTTER - 14} {start}V{end}")
            else:
                reach = GUTTER - 26 - min(3.4 * (station.number - number), GUTTER - 30)
                top, bottom = start - 9, end + 9
                paths.append(f"M{GUTTER - 24} {top}C{reach} {top} {reach} {bottom} {GUTTER - 26} {bottom}")
    arrows = "".join(f'<path class="need" d="{path}"/>' for path in paths)
    dots = "".join(f'<circle class="stop" cx="{GUTTER - 14}" cy="{s.middle}" r="5"/>' for s in stations)
    return drawing(GUTTER, height, TIP + arrows + dots)


def draw_routes(stations: Sequence[Station], routes: Sequence[Route], height: float) -> str:
    """One line a route, from its first stop to its last."""
    shapes = []
    for place, route in enumerate(routes):
        x = STOP * (place + 0.5)
        stops = [station.middle for station in stations if station.number in route.chapters]
        shapes.append(f'<path class="route-{place}" d="M{x} {stops[0]}V{stops[-1]}"/>')
        shapes += [f'<circle class="route-{place}" cx="{x}" cy="{y}" r="6"/>' for y in stops]
        shapes.append(f'<text x="{x}" y="{CAPTION / 2 + 6}">{html.escape(route.letter)}</text>')
    return drawing(STOP * len(routes), height, "".join(shapes))


def drawing(width: float, height: float, shapes: str) -> str:
    """An SVG of so many units, in rem; the list beside it says the same in words."""
    size = f'viewBox="0 0 {width} {height}" style="width: {width / 16}rem; height: {height / 16}rem"'
    return f'<svg aria-hidden="true" {size}>{shapes}</svg>'


def list_stations(
    parts: Sequence[tuple[str, list[Station]]], routes: Sequence[Route], titles: Mapping[str, nodes.title]
) -> str:
    """The chapters as links, part by part; what the drawings show is there for screen readers."""
    lines = []
    for caption, stations in parts:
        lines.append(f'<p class="kd-map-part">{html.escape(caption)}</p><ol start="{stations[0].number}">')
        for station in stations:
            letters = ", ".join(route.letter for route in routes if station.number in route.chapters)
            needs = (
                f"needs chapter {' and '.join(map(str, station.needs))}" if station.needs else "needs nothing"
            )
            lines.append(
                f'<li><a href="{station.slug}.html"><span class="kd-map-number">{station.number}</span>'
                f"<span>{html.escape(titles[station.slug].astext())}</span></a>"
                f'<span class="kd-map-words"> ({needs}; routes {letters})</span></li>'
            )
        lines.append("</ol>")
    return f'<div class="kd-map-chapters">{"".join(lines)}</div>'


def list_routes(routes: Sequence[Route], minutes: dict[int, int]) -> str:
    """What each route is for, its chapters as links would have them, and how long they take to read."""
    rows = []
    for place, route in enumerate(routes):
        hours = sum(minutes.get(number, 0) for number in route.chapters) / 60
        chapters = in_words(route.chapters)
        rows.append(
            f'<dt><span class="kd-map-letter route-{place}">{html.escape(route.letter)}</span> '
            f"{html.escape(route.name)}</dt><dd>{html.escape(route.who)} Chapters {chapters}, "
            f"about {hours:.2g} hours of reading.</dd>"
        )
    return f'<dl class="kd-map-routes">{"".join(rows)}</dl>'


def in_words(numbers: Sequence[int]) -> str:
    """Numbers with each run of neighbours as a range: 1 to 4, 6 and 9."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    words: list[str] = []
    for run in runs:
        words += [f"{run[0]} to {run[-1]}"] if len(run) > 2 else map(str, run)
    flat = ", ".join(words[:-1])
    return f"{flat} and {words[-1]}" if flat else words[-1]


def draw_map(app: Sphinx, page: nodes.document, _name: str) -> None:
    """Put the finished map in its place."""
    for node in list(page.findall(course_map)):
        parts, height = read_parts(Path(app.srcdir))
        stations = [station for _, chapters in parts for station in chapters]
        there = {station.number for station in stations}
        routes = [kept(route, there) for route in node["routes"]]
        noted: dict[str, dict[str, Any]] = app.env.metadata
        minutes = {s.number: noted[s.slug].get("reading_minutes", 0) for s in stations}
        drawn = [
            '<figure class="kd-map"><div class="kd-map-body">',
            draw_needs(stations, height),
            list_stations(parts, routes, app.env.titles),
            draw_routes(stations, routes, height),
            f"</div><figcaption>{EXPLANATION}</figcaption>",
            f"</figure>{list_routes(routes, minutes)}",
        ]
        node.replace_self(nodes.raw("", "\n".join(drawn), format="html"))


def kept(route: Route, there: set[int]) -> Route:
    """The route without chapters that are not in this book."""
    return Route(route.letter, route.name, tuple(n for n in route.chapters if n in there), route.who)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_node(course_map)
    app.add_directive("course-map", CourseMap)
    app.add_css_file("course-map.css", priority=910)
    app.connect("doctree-resolved", draw_map)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
