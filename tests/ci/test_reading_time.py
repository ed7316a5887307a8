"""The reading time counts what is read, at the rate that its module states."""

from __future__ import annotations

from docutils import nodes
from docutils.utils import new_document

from ci.sphinx.reading_time import duration, reading_minutes, told


def minutes(*children: nodes.Node) -> int:
    page = new_document("page")
    page += children
    return reading_minutes(page)


def words(count: int) -> nodes.paragraph:
    return nodes.paragraph("", "word " * count)


def test_200_words_are_a_minute_and_a_page_takes_at_least_one() -> None:
    assert minutes(words(1000)) == 5
    assert minutes() == 1


def test_equations_and_code_take_longer_than_their_letters() -> None:
    equations = [nodes.math_block("", "x") for _ in range(9)]
    assert minutes(*equations) == 3
    code = nodes.container("", nodes.literal_block("", "a\n" * 45), classes=["cell_input"])
    assert minutes(nodes.container("", code, classes=["cell"])) == 3
    assert minutes(nodes.container("", code.deepcopy(), classes=["cell", "tag_hide-input"])) == 1


def test_exercises_are_not_in_it() -> None:
    assert minutes(words(400), nodes.section("", words(4000), ids=["exercises"])) == 2


def test_a_run_in_words() -> None:
    run = {"seconds": 31.4, "profile": "quick", "device": "CPU", "started": "2026-11-01T09:06:56+00:00"}
    assert told(run) == "31 s to run (quick, CPU, 1 November 2026)"
    assert [duration(seconds) for seconds in (119, 121, 7300)] == ["119 s", "2 min", "2.0 h"]
