"""The reading time counts what is read, at the rate that its module states."""

from __future__ import annotations

from docutils import nodes
from docutils.utils import new_document

from ci.pages.sphinx.reading_time import SECONDS, WORDS_A_MINUTE, duration, reading_minutes, told


def minutes(*children: nodes.Node) -> int:
    page = new_document("page")
    page += children
    return reading_minutes(page)


def words(count: int) -> nodes.paragraph:
    return nodes.paragraph("", "word " * count)


def cell(*inside: nodes.Node, part: str, tag: str = "") -> nodes.container:
    return nodes.container("", nodes.container("", *inside, classes=[part]), classes=["cell", tag])


def test_words_are_read_at_one_rate_and_a_page_takes_at_least_a_minute() -> None:
    assert minutes(words(5 * WORDS_A_MINUTE)) == 5
    assert minutes() == 1


def test_equations_code_and_figures_take_longer_than_their_letters() -> None:
    for kind, node in (
        ("equation", nodes.math_block("", "x")),
        ("line", cell(nodes.literal_block("", "a\n"), part="cell_input")),
        ("figure", cell(nodes.image(), part="cell_output")),
    ):
        in_three_minutes = round(180 / SECONDS[kind])
        assert minutes(*(node.deepcopy() for _ in range(in_three_minutes))) == 3, kind


def test_what_is_folded_or_only_printed_is_not_read() -> None:
    code = nodes.literal_block("", "a\n" * 400)
    assert minutes(cell(code.deepcopy(), part="cell_input", tag="tag_hide-input")) == 1
    assert minutes(cell(code.deepcopy(), part="cell_output")) == 1


def test_exercises_are_not_in_it() -> None:
    assert minutes(words(400), nodes.section("", words(4000), ids=["exercises"])) == 2


def test_a_run_in_words() -> None:
    run = {"seconds": 31.4, "profile": "quick", "device": "CPU", "started": "2026-11-01T09:06:56+00:00"}
    assert told(run) == "31 s to run (quick, CPU, 1 November 2026)"
    assert [duration(seconds) for seconds in (119, 121, 7300)] == ["119 s", "2 min", "2.0 h"]
