"""A sentence of the book, and the number that has to bear it out."""

import html
from typing import Any

from kdlib.experiments.statistics import PairedDifference

MIME_TYPE = "application/vnd.kdlib.claim+json"


def claim(
    sentence: str,
    value: float | PairedDifference,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    unit: str = "",
) -> None:
    """Stop the chapter unless `value` is within its bounds; show the sentence with the value where it is.

    Of a paired difference the whole 95 % interval has to be within the bounds, in points: one that begins
    above 0 bears out a gain, and one that ends below 2 bears out that it is small. The build collects every
    claim, with the value of its last run, on the page "Claims".

    Args:
        sentence: what the chapter says.
        value: the number it rests on, or the difference over recorded seeds.
        at_least, at_most: bounds; one of them, or both.
        unit: of the number; of a difference it is points.

    Raises:
        AssertionError: the value, or an end of the interval, is outside its bounds, or NaN.
        ValueError: no bound is given.
    """
    if at_least is None and at_most is None:
        raise ValueError(f"the claim {sentence!r} has no bound; give at_least, at_most or both.")
    interval = {}
    if isinstance(value, PairedDifference):
        low, high, mean, unit = 100 * value.low, 100 * value.high, 100 * value.mean, "points"
        interval = {"low": low, "high": high, "seeds": value.n}
        told = f"{value}, {value.n} seeds"
    else:
        low = high = mean = float(value)
        told = _number(mean, unit)
    bounds = _bounds(at_least, at_most, unit)
    if not ((at_least is None or low >= at_least) and (at_most is None or high <= at_most)):
        kind = "interval" if interval else "value"
        raise AssertionError(f"{sentence}: the {kind} is {told}, and should be {bounds}.")
    _show(
        f"{sentence}: {told} ({bounds})",
        f'<p class="kdlib-claim">{html.escape(sentence)} '
        f'<span class="kdlib-claim-value">{html.escape(f"{told}, {bounds}")}</span></p>',
        {"sentence": sentence, "value": mean, "at_least": at_least, "at_most": at_most, "unit": unit}
        | interval,
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
