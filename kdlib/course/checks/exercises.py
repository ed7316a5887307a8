"""Exercises that check themselves: an answer goes in, one sentence comes out."""

import html
import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Checker = Callable[[Any], str | None]
_CHECKERS: dict[str, Checker] = {}


@dataclass(frozen=True)
class Feedback:
    """What is said of an answer; a notebook shows it below the cell.

    Attributes:
        number: of the exercise, such as "2.1".
        state: "right", "wrong", or "open" where the answer is still ``...``.
        message: one sentence.
    """

    number: str
    state: Literal["right", "wrong", "open"]
    message: str

    def _repr_html_(self) -> str:
        return (
            f'<p class="kdlib-check" data-state="{self.state}"><strong>Exercise {self.number}: '
            f"{self.state}.</strong> {html.escape(self.message)}</p>"
        )

    def __repr__(self) -> str:
        return f"Exercise {self.number}: {self.state}. {self.message}"


def exercise(number: str) -> Callable[[Checker], Checker]:
    """Make a function the checker of an exercise.

    It takes the answer and returns None where it is right, and otherwise one sentence that says what is
    wrong with it. The checkers of chapter 2 are in ``kdlib/course/checks/chapter02.py``.
    """

    def register(checker: Checker) -> Checker:
        _CHECKERS[number] = checker
        return checker

    return register


def check(number: str, answer: Any) -> Feedback:
    """Check an answer. It never raises for an answer that is wrong, unfinished or broken.

    Args:
        number: of the exercise, chapter first: "2.1".
        answer: a value or a function, as the exercise asks; ``...`` is no answer yet.

    Raises:
        ValueError: there is no such exercise.
    """
    checker = _find(number)
    if answer is ...:
        return Feedback(number, "open", "Replace the dots with your answer and run the cell again.")
    try:
        mistake = checker(answer)
    except Exception as error:
        return Feedback(number, "wrong", f"Your answer could not be checked: {type(error).__name__}: {error}")
    if mistake is None:
        return Feedback(number, "right", "Well done.")
    return Feedback(number, "wrong", mistake)


def _find(number: str) -> Checker:
    chapter = number.partition(".")[0]
    if number not in _CHECKERS and chapter.isdigit():
        module = f"kdlib.course.checks.chapter{int(chapter):02d}"
        if importlib.util.find_spec(module) is not None:
            importlib.import_module(module)
    if number not in _CHECKERS:
        raise ValueError(f"there is no exercise {number!r}; write it as in the text, such as '2.1'.")
    return _CHECKERS[number]
