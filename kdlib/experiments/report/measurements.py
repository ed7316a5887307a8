"""What tables and the explorer show of runs: which value counts, and how it is written."""

import math

from kdlib.experiments.statistics import PairedDifference, Summary
from kdlib.training.record import RunRecord

NOT_RUN = "not run yet"
NOT_MEASURED = "not measured"
LEFT_OUT = "Left out, as their recipe has changed since or their precision is another"
# What a reader should know of the numbers of a profile.
PROFILES = {
    "full": "the schedule of the source",
    "short": "fewer epochs, smaller pictures or other images; no reproduction",
    "quick": "seconds on handwritten digits, live and not kept; no reproduction",
}

HEADINGS = {"full": "ours", "short": "ours, short", "quick": "digits, quick"}
# The rules that choose another number than the last epoch's.
SELECTED = {"best": "best on test", "mean": "over all epochs", "unstated": "epoch not stated"}
# For each metric that runs of ours have too, what their records call it epoch by epoch.
CURVES = {
    "accuracy": "test_accuracy",
    "loss": "test_loss",
    "logit difference": "test_logit_difference",
}


def form(metric: str) -> tuple[int, int]:
    """What a figure is multiplied by, and its decimals: accuracies are in per cent."""
    return (100, 1) if metric == "accuracy" else (1, 3)


def last_epoch(run: RunRecord, metric: str, curve: str) -> float | None:
    """After the last epoch; None where the run did not measure it.

    Args:
        run: the record.
        metric: as published tables call it.
        curve: what records call it epoch by epoch.
    """
    if metric == "accuracy" and "accuracy" in run.final:
        return run.final["accuracy"]
    return run.epochs[curve][-1] if run.epochs.get(curve) else None


def figure(summary: Summary, metric: str, *, runs: bool = True) -> str:
    """Mean ± standard deviation, and how many runs."""
    scale, digits = form(metric)
    spread = "" if math.isnan(summary.sd) else f" ± {summary.sd * scale:.{digits}f}"
    return f"{summary.mean * scale:.{digits}f}{spread}" + (f" ({summary.n})" if runs else "")


def interval(difference: PairedDifference, metric: str) -> str:
    """A mean difference with its 95 % interval."""
    mean, low, high = difference.signed(*form(metric))
    return f"{mean} ({low} to {high})"
