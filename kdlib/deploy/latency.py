"""How long networks take to answer, measured so that they can be compared."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.benchmark import Timer

from kdlib.models.trials import modes_kept


@dataclass(frozen=True)
class Latency:
    """The times that one network took for one batch.

    Attributes:
        milliseconds: one for each repeat, in order.
        batch_size: images answered at a time.
        threads: how many PyTorch computed with.
    """

    milliseconds: tuple[float, ...]
    batch_size: int
    threads: int

    @property
    def median(self) -> float:
        """In milliseconds."""
        return float(np.median(self.milliseconds))

    @property
    def quartiles(self) -> tuple[float, float]:
        """A quarter of the times is below the first and a quarter above the second, in milliseconds."""
        low, high = np.quantile(self.milliseconds, (0.25, 0.75))
        return float(low), float(high)

    def __str__(self) -> str:
        low, high = self.quartiles
        return f"{self.median:.3g} ms ({low:.3g} to {high:.3g})"


def measure_latency(
    networks: Mapping[str, Callable[[Tensor], Any]], images: Tensor, *, repeats: int = 50, threads: int = 1
) -> dict[str, Latency]:
    """Time networks on one batch, in turns, so that whatever slows the machine for a while slows them all.

    `torch.utils.benchmark.Timer` has the clock: it waits for a GPU, which answers before it has computed, and
    asks twice before each timed answer, so that no network runs on the caches that another one has left.

    Args:
        networks: by name; modules are in evaluation mode meanwhile, and put back into the mode they were in.
        images: the batch, on the device where the networks are.
        repeats: timed answers of each network.
        threads: for PyTorch, meanwhile. Other runtimes have settings of their own.

    Raises:
        ValueError: there is no network, or a number is too small.
    """
    if not networks:
        raise ValueError("there is no network to time; give at least one, by name.")
    for name, value in (("repeats", repeats), ("threads", threads)):
        if value < 1:
            raise ValueError(f"{name} is {value}; give 1 or more.")
    timers = {
        name: Timer("network(images)", globals={"network": network, "images": images}, num_threads=threads)
        for name, network in networks.items()
    }
    times: dict[str, list[float]] = {name: [] for name in networks}
    modules = [network for network in networks.values() if isinstance(network, nn.Module)]
    with modes_kept(*modules), torch.inference_mode():
        for module in modules:
            module.eval()
        for _ in range(repeats):
            for name, timer in timers.items():
                times[name].append(1000 * timer.timeit(1).median)
    return {name: Latency(tuple(of), len(images), threads) for name, of in times.items()}
