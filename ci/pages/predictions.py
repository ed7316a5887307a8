"""Prediction questions: how a chapter asks one, and what the lint says of it.

A prediction stands in the running text, before the text that gives it away. It is a Markdown cell of its own
with the id `prediction-N-M` (chapter, number), and reads like this::

    <div class="prediction" id="prediction-2-1">

    **What do you expect?** The temperature rises from 1 to 4. Which class is the likeliest then?

    <details data-answer="wrong"><summary>Another one on most images</summary>

    **No.** All log-odds are divided by the same number, so their order stays.

    </details>

    <details data-answer="right"><summary>The same one on every image</summary>

    **Right.** Dividing all logits by the same positive number leaves the largest the largest.

    </details>

    <details data-answer="wrong"><summary>None: at T = 4 all are alike</summary>

    **No.** That is the limit for very high temperatures; at 4 the odds are not even.

    </details>

    </div>

One option is right and at least two are wrong, in any order. Each wrong one is a mistake that people make,
and its sentence says what is wrong with it. A summary is HTML: write T², not $T^2$. The folds work anywhere;
on the course's pages `predictions.js` lets one be open at a time and reads its sentence out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ci.chapters import Notebook, source_of

FEWEST_WRONG = 2
FEWEST_WORDS = 5
LEAD = {"right": "**Right.** ", "wrong": "**No.** "}
INVITATION = "**What do you expect?**"
READABLE_ID = re.compile(r"prediction-\d+-\d+")
OPTION = re.compile(
    r'<details data-answer="(right|wrong)"><summary>([^\n]+)</summary>\n\n(.+?)\n\n</details>', re.DOTALL
)

Finding = tuple[str, str]


def predictions(notebook: Notebook) -> Iterator[Finding]:
    """A chapter asks for a prediction in its text, and each one can be answered by a click."""
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "markdown"]
    asked = [cell for cell in cells if cell["id"].startswith("prediction-")]
    ends = (n for n, cell in enumerate(cells) if source_of(cell).startswith("## Exercises"))
    if not any(cell in asked for cell in cells[: next(ends, None)]):
        yield (
            "notebook",
            "asks for no prediction before its exercises: add one, see ci/pages/predictions.py.",
        )
    for cell in asked:
        for fault in [*faults_of_frame(cell["id"], source_of(cell)), *faults_of_options(source_of(cell))]:
            yield cell["id"], fault


def faults_of_frame(identity: str, text: str) -> Iterator[str]:
    """What is wrong with a prediction's id, its first and last line, and its question."""
    first = f'<div class="prediction" id="{identity}">'
    if READABLE_ID.fullmatch(identity) is None:
        yield "is a prediction: give it an id such as `prediction-2-1`."
    if not (text.startswith(f"{first}\n\n") and text.rstrip().endswith("\n\n</div>")):
        yield f"does not begin with `{first}` before a blank line, and end with `</div>` after a blank line."
    if "?" not in text.replace(INVITATION, "").split("<details", 1)[0]:
        yield "asks nothing: put the question, with its question mark, before the options."


def faults_of_options(text: str) -> Iterator[str]:
    """What is wrong with a prediction's options."""
    options = OPTION.findall(text)
    kinds, summaries = [kind for kind, _, _ in options], [summary for _, summary, _ in options]
    if len(options) != text.count("<details"):
        yield "has an option of another form: copy the lines from the example in ci/pages/predictions.py."
    if kinds.count("right") != 1:
        yield f"has {kinds.count('right')} right options: it needs exactly one."
    if kinds.count("wrong") < FEWEST_WRONG:
        yield f"has {kinds.count('wrong')} wrong options: it needs at least {FEWEST_WRONG}."
    if len(set(summaries)) < len(summaries):
        yield "has an option twice: say something else in one of them."
    for kind, summary, why in options:
        if "$" in summary:
            yield f"has mathematics in '{summary}', and a summary is HTML: write T² for $T^2$."
        if not why.startswith(LEAD[kind]) or len(why.split()) <= FEWEST_WORDS:
            yield f"does not explain '{summary}': write `{LEAD[kind]}` and a sentence that says why."
