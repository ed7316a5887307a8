"""Runs recorded as "METHOD, weight W": one method with several weights of its loss."""

import re
from collections.abc import Mapping, Sequence
from statistics import fmean

from kdlib.training.record import RunRecord


def validation_by_weight(recorded: Mapping[str, Sequence[RunRecord]], method: str) -> dict[float, float]:
    """Mean accuracy on the validation images by weight, in rising order; empty where none is recorded.

    Args:
        recorded: runs by label, as `recorded` gives them; those of other methods are passed over.
        method: what stands before ", weight".
    """
    return {weight: _validation(recorded[label]) for weight, label in _by_weight(recorded, method).items()}


def best_weight(recorded: Mapping[str, Sequence[RunRecord]], method: str) -> str | None:
    """The label whose weight was best on the validation images; None where no weight is recorded.

    Of equally good ones it is the smallest.

    Args:
        recorded: runs by label, as `recorded` gives them; those of other methods are passed over.
        method: what stands before ", weight".
    """
    labels = _by_weight(recorded, method).values()
    return max(labels, key=lambda label: _validation(recorded[label]), default=None)


def _by_weight(recorded: Mapping[str, Sequence[RunRecord]], method: str) -> dict[float, str]:
    """The labels of a method by their weights, in rising order."""
    matches = [re.fullmatch(rf"{re.escape(method)}, weight (\S+)", label) for label in recorded]
    return dict(sorted((float(match[1]), match[0]) for match in matches if match))


def _validation(runs: Sequence[RunRecord]) -> float:
    return fmean(run.final["val"] for run in runs)
