"""The lint of prediction questions: a good one passes, and one that is broken in each way does not."""

from __future__ import annotations

from typing import Any

import pytest
from made_up_course import code, markdown

from ci.pages import predictions

GOOD = """\
<div class="prediction" id="prediction-2-1">

**What do you expect?** Which class is the likeliest at $T = 4$?

<details data-answer="wrong"><summary>Another one</summary>

**No.** All log-odds are divided by one number, so their order stays.

</details>

<details data-answer="right"><summary>The same one</summary>

**Right.** The largest logit stays the largest, whatever divides it.

It does so at every temperature.

</details>

<details data-answer="wrong"><summary>None of them</summary>

**No.** All are alike only in the limit.

</details>

</div>"""


def notebook(*cells: dict[str, Any]) -> dict[str, Any]:
    """A chapter of these cells, with its exercises at the end."""
    return {"cells": [markdown("title", "# Heat"), *cells, markdown("exercises", "## Exercises\n\nTry.")]}


def findings(text: str, identity: str = "prediction-2-1") -> list[tuple[str, str]]:
    """What the lint says of a chapter with one prediction of this text."""
    return list(predictions.predictions(notebook(markdown(identity, text))))


def test_a_good_prediction_has_no_findings() -> None:
    assert findings(GOOD) == []


def test_the_example_for_authors_is_a_good_one() -> None:
    lines = [line.removeprefix("    ") for line in (predictions.__doc__ or "").splitlines()]
    example = "\n".join(lines[lines.index(GOOD.splitlines()[0]) : lines.index("</div>") + 1])
    assert findings(example) == []


@pytest.mark.parametrize(
    "cells",
    [
        [],
        [code("prediction-2-1", "1 + 1")],
        [markdown("exercises-first", "## Exercises"), markdown("prediction-2-1", GOOD)],
    ],
    ids=["none", "in a code cell", "among the exercises"],
)
def test_a_chapter_without_one_in_its_text_is_told(cells: list[dict[str, Any]]) -> None:
    ((where, what),) = predictions.predictions(notebook(*cells))
    assert where == "notebook"
    assert "asks for no prediction before its exercises" in what


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('id="prediction-2-1"', 'id="prediction-2-2"', "does not begin with"),
        ("</div>", "", "does not begin with"),
        ("\n\n</div>", "\n</div>", "end with `</div>` after a blank line"),
        ("$T = 4$?", "$T = 4$.", "asks nothing"),
        ('data-answer="wrong"><summary>Another', 'class="wrong"><summary>Another', "another form"),
        ("</summary>\n\n**Right", "</summary>\n**Right", "another form"),
        ('data-answer="wrong"><summary>None', 'data-answer="right"><summary>None', "has 2 right options"),
        ('data-answer="right"', 'data-answer="wrong"', "has 0 right options"),
        ('data-answer="wrong"><summary>None', 'data-answer="right"><summary>None', "has 1 wrong options"),
        ("**No.** All are", "All are", "does not explain 'None of them': write `**No.** `"),
        ("**Right.** The", "**Yes.** The", "does not explain 'The same one': write `**Right.** `"),
        (
            "**No.** All are alike only in the limit.",
            "**No.** Think again.",
            "does not explain 'None of them'",
        ),
        ("<summary>Another one<", "<summary>The same one<", "has an option twice"),
        ("<summary>Another one<", "<summary>At $T = 4$<", "a summary is HTML"),
    ],
)
def test_each_fault_is_named(old: str, new: str, words: str) -> None:
    assert old in GOOD
    found = findings(GOOD.replace(old, new))
    assert any(where == "prediction-2-1" and words in what for where, what in found), found
    assert all("\n" not in what for _, what in found)


def test_an_id_has_chapter_and_number() -> None:
    text = GOOD.replace("prediction-2-1", "prediction-heat")
    ((where, what),) = findings(text, "prediction-heat")
    assert where == "prediction-heat"
    assert "give it an id such as `prediction-2-1`" in what
