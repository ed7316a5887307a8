"""What the checkers of all chapters ask of an answer: is it the number, the tensor, the measurements."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


def number(answer: Any, right: float, slips: Mapping[float, str], otherwise: str) -> str | None:
    """Compare a number with the right one, and with the results of known slips, each to within 0.5 %.

    Args:
        answer: what the reader gave.
        right: the number asked for.
        slips: for each wrong result, the sentence about the mistake that leads to it.
        otherwise: the sentence for any other number.

    Raises:
        TypeError: the answer is not a number.
    """
    try:
        value = float(answer)
    except (TypeError, ValueError):
        raise TypeError(f"the answer is {answer!r}; give one number.") from None
    if math.isclose(value, right, rel_tol=0.005):
        return None
    for slip, sentence in slips.items():
        if math.isclose(value, slip, rel_tol=0.005):
            return sentence
    return otherwise


def measured(answer: Any, *keys: Any) -> list[float]:
    """The numbers that an experiment gave, in the order of the keys.

    Raises:
        TypeError: the answer is not a dict with these keys and no others, or a value is not a number.
    """
    if not (isinstance(answer, Mapping) and set(answer) == set(keys)):
        raise TypeError(f"the answer is {answer!r}; give a dict with the keys {', '.join(map(repr, keys))}.")
    try:
        return [float(answer[key]) for key in keys]
    except (TypeError, ValueError):
        raise TypeError(f"the answer is {answer!r}; give a number for each key.") from None


def called(function: Callable[..., Any], *arguments: Any) -> Any:
    """What the reader's function returns for these arguments.

    Raises:
        TypeError: the answer is not a function.
    """
    if not callable(function):
        raise TypeError(f"the answer is {function!r}; give the function itself, without calling it.")
    return function(*arguments)


def result(function: Callable[..., Any], *arguments: Any, shape: Sequence[int]) -> Tensor:
    """Call the reader's function, and return its tensor of the shape asked for as float64.

    Raises:
        TypeError: the answer is not a function, or it does not return a tensor.
        ValueError: the tensor has another shape.
    """
    value = called(function, *arguments)
    if not isinstance(value, Tensor):
        raise TypeError(f"the function returns {value!r}; return a tensor.")
    if value.shape != torch.Size(shape):
        raise ValueError(f"the function returns shape {tuple(value.shape)}; return {tuple(shape)}.")
    return value.detach().double()


def same(value: Tensor, expected: Tensor) -> bool:
    """Whether two tensors of one shape agree to within 0.1 %, or 1e-6 near zero."""
    return torch.allclose(value, expected.double(), rtol=1e-3, atol=1e-6)


def compared(value: Tensor, right: Tensor, slips: Mapping[str, Tensor], otherwise: str) -> str | None:
    """None where a tensor is the right one, and otherwise the sentence about the slip that it comes from.

    Args:
        value: what the reader's function gave.
        right: what was asked for.
        slips: for each sentence about a known mistake, the tensor that it leads to.
        otherwise: the sentence for any other tensor.
    """
    if same(value, right):
        return None
    return next((sentence for sentence, slip in slips.items() if same(value, slip)), otherwise)
