"""Weights that follow the run: functions from its progress, 0 to 1, to the factor of a term."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any

from kdlib.losses.inputs import check_weights

# A number, or a function of the progress of the run, 0 at its first step and 1 at its end.
Weight = float | Callable[[float], float]


@dataclass(frozen=True)
class LinearWarmUp:
    r"""A weight that rises from 0 along a line, and then stays.

    .. code-block:: python

        DKD(LinearWarmUp(1.0, 20 / 240))

    .. math:: w(p) = w \min(1, p / r)

    where p is the progress of the run and r the share. The authors' code of DKD and that of ReviewKD raise
    the weight over the first 20 of 240 epochs: ``LinearWarmUp(1.0, 20 / 240)``.

    Args:
        weight: w, where it stays, 0 or more.
        share: of the run in which it rises, above 0 and at most 1.

    Raises:
        ValueError: the weight is negative or not finite, or the share is out of range.
    """

    weight: float
    share: float

    def __post_init__(self) -> None:
        check_weights(**{"the weight of LinearWarmUp": self.weight})
        if not 0 < self.share <= 1:
            raise ValueError(
                f"the share of LinearWarmUp is {self.share}; give the part of the run in which the weight "
                "rises, above 0 and at most 1, such as 20 / 240."
            )

    def __call__(self, progress: float) -> float:
        """The weight when so much of the run is done."""
        return self.weight * min(1.0, progress / self.share)


def weight_of(weight: Weight, progress: float, name: str) -> float:
    """The weight at this progress of a run; `name` is the term's, for the message.

    Raises:
        ValueError: its function gives no number, or one that is negative or not finite.
    """
    if not callable(weight):
        return weight
    value: Any = weight(progress)
    if isinstance(value, Real) and 0 <= float(value) < math.inf:
        return float(value)
    raise ValueError(
        f"the weight of {name!r} is {value!r} at progress {progress:g}; have its function give a finite "
        "number of 0 or more."
    )
