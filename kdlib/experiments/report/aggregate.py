"""`Aggregate`: what the runs of one recipe say together, beside a published number or a baseline."""

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kdlib.experiments.index import IndexedRun
from kdlib.experiments.report.measurements import (
    CURVES,
    LEFT_OUT,
    NOT_MEASURED,
    NOT_RUN,
    PROFILES,
    SELECTED,
    figure,
    interval,
    last_epoch,
)
from kdlib.experiments.report.table import Entry
from kdlib.experiments.statistics import PairedDifference, Summary, paired_difference


@dataclass(frozen=True)
class Aggregate:
    """What the runs of one recipe say in the place of one published number.

    Attributes:
        metric: as published tables call it.
        last: after the last epoch, over seeds; None where the runs did not measure it.
        selection: the rule that chose the published number.
        selected: by that rule, where it is not the last epoch. For "best" over seeds; for "mean" over all
            epochs of all seeds.
        difference: to the recipe that the published number is measured against, after the last epoch, seed by
            seed; None with fewer than two seeds in common.
        files: the records, as paths below ``data/results``; empty for runs that were not kept.
        data: the names of the data sets that they were trained on.
    """

    metric: str
    last: Summary | None
    selection: str
    selected: Summary | None
    difference: PairedDifference | None
    files: tuple[str, ...]
    data: frozenset[str]

    @classmethod
    def of(
        cls,
        metric: str,
        runs: Mapping[int, IndexedRun],
        baseline: Mapping[int, IndexedRun],
        selection: str = "last",
    ) -> "Aggregate":
        """What runs of one recipe say.

        Args:
            metric: as published tables call it.
            runs: of the recipe, by seed; one or more.
            baseline: those of the recipe that it is measured against.
            selection: the rule of the published number, as `PublishedCell` has it.
        """
        last, compared = _last(metric, runs), _last(metric, baseline)
        shared = [seed for seed in last if seed in compared]
        return cls(
            metric=metric,
            last=Summary.of(list(last.values())) if last else None,
            selection=selection,
            selected=_selected(metric, selection, runs),
            difference=paired_difference([last[s] for s in shared], [compared[s] for s in shared])
            if len(shared) > 1
            else None,
            files=tuple(file for _, file in runs.values() if file),
            data=frozenset(run.recipe["data"]["name"] for run, _ in runs.values() if run.recipe),
        )

    def entry(self) -> Entry:
        """As a cell: the last epoch, the figure by the published rule, the difference."""
        if self.last is None:
            return Entry([NOT_MEASURED], self._whence(), self.files)
        figures = [figure(self.last, self.metric)]
        if self.selected is not None:
            figures.append(f"{SELECTED[self.selection]} {figure(self.selected, self.metric, runs=False)}")
        if self.difference is not None:
            figures.append(f"Δ {interval(self.difference, self.metric)}")
        return Entry(figures, self._whence(), self.files)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON, unrounded; None for what is not known."""
        last, selected, difference = self.last, self.selected, self.difference
        return {
            "mean": last and last.mean, "sd": last and _known(last.sd), "n": last and last.n,
            "selected_mean": selected and selected.mean, "selected_sd": selected and _known(selected.sd),
            "difference": difference and difference.mean, "difference_low": difference and difference.low,
            "difference_high": difference and difference.high, "records": " ".join(self.files),
        }  # fmt: skip

    def _whence(self) -> str:
        many = "s" * (len(self.files) > 1)
        return f"{len(self.files)} record{many}: {', '.join(self.files)}" if self.files else ""


NOTHING = Aggregate("", None, "", None, None, (), frozenset())


def entry_of(ours: Mapping[str, Aggregate], profile: str) -> Entry:
    """The cell of a profile, also where nothing was run in it."""
    return ours[profile].entry() if profile in ours else Entry([NOT_RUN])


def caveats(
    profiles: Iterable[str], lines: Sequence[Mapping[str, Aggregate]], outdated: int
) -> Iterator[str]:
    """For a caption, what a reader should know of our numbers before comparing.

    Args:
        profiles: that are shown.
        lines: ours by profile, line by line.
        outdated: records that were left out: their recipe has changed since, or their precision is another.
    """
    for profile in profiles:
        if profile != "full":
            names = {name for ours in lines if profile in ours for name in ours[profile].data}
            data = f", on {' and '.join(sorted(names))}" if names else ""
            yield f"{profile.title()}{data}: {PROFILES[profile]}."
    if outdated:
        yield f"{LEFT_OUT}: {outdated} of our records."


def _last(metric: str, runs: Mapping[int, IndexedRun]) -> dict[int, float]:
    """After the last epoch, by seed, of the runs that measured it."""
    found = {seed: last_epoch(run, metric, CURVES[metric]) for seed, (run, _file) in runs.items()}
    return {seed: value for seed, value in found.items() if value is not None}


def _selected(metric: str, selection: str, runs: Mapping[int, IndexedRun]) -> Summary | None:
    """By the rule of the published number; None where that is the last epoch, or a run has no curve."""
    curves = [run.epochs.get(CURVES[metric]) for run, _ in runs.values()]
    known = [curve for curve in curves if curve]
    if len(known) < len(curves):
        return None
    if selection == "best":
        return Summary.of([max(curve) for curve in known])
    if selection == "mean":
        values = [value for curve in known for value in curve]
        sd = statistics.stdev(values) if len(values) > 1 else math.nan
        return Summary(statistics.fmean(values), sd, len(known))
    return None


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
