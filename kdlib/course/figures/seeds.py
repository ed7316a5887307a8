"""The live figure of chapter 13: what the first few of many seeds say of a difference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from kdlib.course.figures import inputs, stills
from kdlib.course.figures.live import LiveFigure, module

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FEWEST_SEEDS, MOST_SEEDS, MOST_QUESTIONS = 4, 40, 4
ORDERS, GROUPS = 20, 4000


class SeedsFigure(LiveFigure):
    r"""Paired differences of many seeds, seen as if there had been only n.

    The seeds come in one of several orders. The figure shows the mean of the first n with its 95 % interval
    by Student's t, and, over groups of n drawn at random, the share whose mean has the other sign than that
    of all seeds, and the share whose interval leaves 0 out.

    Args:
        differences: for each question the paired difference of every seed, in points.
        seeds: n to begin with.

    `figure.question`, `figure.seeds` and `figure.order` follow the reader's choice in a notebook.

    Raises:
        ValueError: for too few or too many seeds or questions, or differences that are all the same.
    """

    _esm = module("seeds")
    controls = ("question", "seeds", "order")
    size = (8.4, 3.0)

    question = traitlets.Int(0).tag(sync=True)
    seeds = traitlets.Int(3).tag(sync=True)
    order = traitlets.Int(0).tag(sync=True)

    def __init__(self, differences: Mapping[str, Sequence[float]], seeds: int = 3) -> None:
        if not 1 <= len(differences) <= MOST_QUESTIONS:
            raise ValueError(
                f"the figure shows 1 to {MOST_QUESTIONS} questions, but there are {len(differences)}"
            )
        values = {name: _differences(name, given) for name, given in differences.items()}
        counts = {len(given) for given in values.values()}
        if len(counts) > 1:
            raise ValueError(f"all questions must have as many seeds, but have {sorted(counts)}")
        (count,) = counts
        from scipy import stats

        rng = np.random.default_rng(0)
        quantiles = stats.t.ppf(0.975, np.arange(1, count))
        orders = [np.arange(count), *(rng.permutation(count) for _ in range(ORDERS - 1))]
        shares = [_shares(given, quantiles, rng) for given in values.values()]
        state = {
            "questions": list(values),
            "differences": [given.tolist() for given in values.values()],
            # The same in every order; intervals of two seeds would reach far out of any picture.
            "reaches": [_reach(given, float(quantiles[1])) for given in values.values()],
            "quantiles": quantiles.tolist(),
            "orders": [order.tolist() for order in orders],
            "wrong": [wrong for wrong, _ in shares],
            "clear": [clear for _, clear in shares],
        }
        super().__init__(state=state, seeds=seeds)

    @traitlets.validate("question", "seeds", "order")
    def _check_choice(self, proposal: Any) -> int:
        name = proposal.trait.name
        count = len(self.state["differences"][0])
        low, high = {
            "question": (0, len(self.state["questions"]) - 1),
            "seeds": (2, count),
            "order": (0, ORDERS - 1),
        }[name]
        return int(inputs.between(name, proposal.value, low, high))

    def interval(self, seeds: int) -> tuple[float, float, float]:
        """The mean of the first so many seeds, and both ends of its interval, in points."""
        values = np.array(self.state["differences"][self.question])[self.state["orders"][self.order][:seeds]]
        mean = values.mean()
        half = self.state["quantiles"][seeds - 2] * values.std(ddof=1) / np.sqrt(seeds)
        return float(mean), float(mean - half), float(mean + half)

    def alt_text(self) -> str:
        count = len(self.state["differences"][0])
        (mean, low, high), (whole, low_all, high_all) = (self.interval(n) for n in (self.seeds, count))
        wrong = self.state["wrong"][self.question][self.seeds - 2]
        return (
            f"{self.state['questions'][self.question]}: {_signed(whole)} points with {count} seeds, 95 % "
            f"interval {_signed(low_all)} to {_signed(high_all)}. With {self.seeds} of them it is "
            f"{_signed(mean)}, from {_signed(low)} to {_signed(high)}. Of groups of {self.seeds}, "
            f"{100 * wrong:.0f} % have the other sign."
        )

    def draw(self, figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        count = np.arange(2, len(self.state["differences"][0]) + 1)
        mean, low, high = np.array([self.interval(int(n)) for n in count]).T
        left.fill_between(count, low, high, color=stills.ACCENT, alpha=0.2, linewidth=0)
        left.plot(count, mean, color=stills.ACCENT)
        left.axhline(0, color=stills.LINE, linestyle=":", linewidth=1)
        reach = self.state["reaches"][self.question]
        left.set_ylim(-reach, reach)
        left.set_title("Difference in points, and its interval", fontsize=10, loc="left")
        right.plot(count, self.state["wrong"][self.question], color=stills.STRONG, label="the other sign")
        right.plot(
            count, self.state["clear"][self.question], color=stills.PLAIN, label="interval leaves out 0"
        )
        right.set_ylim(0, 1)
        right.legend(frameon=False, fontsize=8)
        right.set_title("Share of groups of so many seeds", fontsize=10, loc="left")
        for axis in (left, right):
            axis.axvline(self.seeds, color=stills.LINE, linestyle=":", linewidth=1)
            axis.set_xticks([n for n in (2, 3, 5, 10, 15, 20, 30, 40) if n <= count[-1]])
            axis.set_xlabel("seeds")


def _reach(values: np.ndarray, quantile: float) -> float:
    """How far from 0 the interval of three typical seeds goes."""
    return float(abs(values.mean()) + quantile * values.std(ddof=1) / np.sqrt(3))


def _signed(points: float) -> str:
    return f"{points:+.2f}".replace("-", "−")


def _differences(name: str, given: Sequence[float]) -> np.ndarray:
    values = inputs.array(name, given, "N").round(4)
    if not FEWEST_SEEDS <= len(values) <= MOST_SEEDS:
        raise ValueError(f"{name} must have {FEWEST_SEEDS} to {MOST_SEEDS} seeds, but has {len(values)}")
    if values.min() == values.max():
        raise ValueError(f"{name} must differ from seed to seed, but is {values[0]:g} for all")
    return values


def _shares(
    values: np.ndarray, quantiles: np.ndarray, rng: np.random.Generator
) -> tuple[list[float], list[float]]:
    """For groups of 2 seeds up to all: the share of the other sign, and of intervals that leave 0 out."""
    drawn = values[rng.permuted(np.tile(np.arange(len(values)), (GROUPS, 1)), axis=1)]
    wrong, clear = [], []
    for n in range(2, len(values) + 1):
        mean = drawn[:, :n].mean(axis=1)
        half = quantiles[n - 2] * drawn[:, :n].std(axis=1, ddof=1) / np.sqrt(n)
        wrong.append(round(float(np.mean(mean * values.mean() < 0)), 4))
        clear.append(round(float(np.mean(abs(mean) > half)), 4))
    return wrong, clear
