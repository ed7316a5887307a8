"""A sentence of the book, and the number that has to bear it out."""

import html
from typing import Any

MIME_TYPE = "application/vnd.kdlib.claim+json"


def claim(
    sentence: str,
    value: float,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    unit: str = "",
) -> None:
    """Stop the chapter unless `value` is within its bounds; show the sentence with the value where it is.

    The build collects every claim, with the value of its last run, on the page "Claims".

    Args:
        sentence: what the chapter says.
        value: the number it rests on.
        at_least, at_most: bounds; one of them, or both.
        unit: of the number.

    Raises:
        AssertionError: the value is outside its bounds, or NaN.
        ValueError: no bound is given.
    """
    if at_least is None and at_most is None:
        raise ValueError(f"the claim {sentence!r} has no bound; give at_least, at_most or both.")
    low = at_least is None or value >= at_least
    high = at_most is None or value <= at_most
    bounds = _bounds(at_least, at_most, unit)
    if not (low and high):
        raise AssertionError(f"{sentence}: the value is {_number(value, unit)}, and should be {bounds}.")
    _show(
        f"{sentence}: {_number(value, unit)} ({bounds})",
        f'<p class="kdlib-claim">{html.escape(sentence)} '
        f'<span class="kdlib-claim-value">{html.escape(f"{_number(value, unit)}, {bounds}")}</span></p>',
        {"sentence": sentence, "value": float(value), "at_least": at_least, "at_most": at_most, "unit": unit},
    )


def _bounds(at_least: float | None, at_most: float | None, unit: str) -> str:
    bounds = [("at least", at_least), ("at most", at_most)]
    return " and ".join(f"{word} {_number(bound, unit)}" for word, bound in bounds if bound is not None)


def _number(value: float, unit: str) -> str:
    sign = "−" if value < 0 else ""
    return f"{sign}{abs(value):.3g} {unit}".rstrip()


def _show(text: str, markup: str, data: dict[str, Any]) -> None:
    try:
        from IPython import get_ipython
        from IPython.display import display
    except ImportError:
        print(text)
        return
    if get_ipython() is None:
        print(text)
    else:
        display({"text/plain": text, "text/html": markup, MIME_TYPE: data}, raw=True)
