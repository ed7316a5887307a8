"""What the runs of several seeds say together."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Summary:
    """Mean and sample standard deviation over seeds. Written in per cent: 92.1 ± 0.6 % (4 seeds)."""

    mean: float
    sd: float
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Summary":
        """Of fractions, one per seed.

        Raises:
            ValueError: there is no value.
        """
        if not values:
            raise ValueError("there is nothing to summarise; give one value per seed.")
        sd = statistics.stdev(values) if len(values) > 1 else math.nan
        return cls(statistics.fmean(values), sd, len(values))

    def __str__(self) -> str:
        spread = "" if self.n == 1 else f" ± {100 * self.sd:.1f}"
        return f"{100 * self.mean:.1f}{spread} % ({self.n} seed{'s' * (self.n > 1)})"


@dataclass(frozen=True)
class PairedDifference:
    """Mean difference over the same seeds, with its 95 % interval by Student's t. Written in points.

    Attributes:
        comparisons: for how many, of which this is one, the interval was widened.
    """

    mean: float
    low: float
    high: float
    n: int
    comparisons: int = 1

    def __str__(self) -> str:
        mean, low, high = self.signed(100, 1)
        together = f", {self.comparisons} together," if self.comparisons > 1 else ""
        return f"{mean} points (95 % interval{together} {low} to {high})"

    def signed(self, scale: float, digits: int) -> list[str]:
        """Mean, low and high times `scale`, each with its sign and so many decimals."""
        values = (self.mean, self.low, self.high)
        return [f"{scale * value:+.{digits}f}".replace("-", "−") for value in values]


def paired_difference(
    first: Sequence[float], second: Sequence[float], comparisons: int = 1
) -> PairedDifference:
    """How much `first` is above `second`, seed by seed.

    Args:
        first, second: fractions; position k of both is from the same seed.
        comparisons: how many are made, this one among them. With each at 95 %, one of twenty intervals would
            miss; each is taken at 1 − 0.05 / comparisons (Bonferroni), so that all hold at once with 95 %.

    Raises:
        ValueError: the lengths differ, there are fewer than two seeds, or no comparison.
    """
    if comparisons < 1:
        raise ValueError(f"comparisons is {comparisons}; give how many there are, 1 or more.")
    if len(first) != len(second) or len(first) < 2:
        raise ValueError(
            f"there are {len(first)} and {len(second)} values; give as many of each, one per seed, 2 or more."
        )
    # Imported here because scipy.stats takes most of a second, which `import kdlib` should not.
    from scipy import stats

    # Not by `stats.ttest_rel`, which warns where all differences are equal, as those of two seeds may be.
    differences = [a - b for a, b in zip(first, second, strict=True)]
    mean, n = statistics.fmean(differences), len(differences)
    quantile = float(stats.t.ppf(1 - 0.025 / comparisons, n - 1))
    margin = quantile * statistics.stdev(differences) / math.sqrt(n)
    return PairedDifference(mean, mean - margin, mean + margin, n, comparisons)
