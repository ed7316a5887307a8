"""How long networks take to answer, measured so that they can be compared."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


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
    networks: Mapping[str, Callable[[Tensor], Any]],
    images: Tensor,
    *,
    repeats: int = 50,
    warm_up: int = 10,
    threads: int = 1,
) -> dict[str, Latency]:
    """Time networks on one batch, in turns, so that whatever slows the machine for a while slows them all.

    Each repeat asks every network once, and begins with the next one, so that none always runs on the caches
    that a certain other one leaves. The first answers, for which memory is allocated and kernels are chosen,
    are not timed.

    Args:
        networks: by name; modules are in evaluation mode meanwhile, and put back into the mode they were in.
        images: the batch, on the device where the networks are.
        repeats: timed answers of each network.
        warm_up: answers of each before.
        threads: for PyTorch, meanwhile. Other runtimes have settings of their own.

    Raises:
        ValueError: there is no network, or a number is too small.
    """
    if not networks:
        raise ValueError("there is no network to time; give at least one, by name.")
    for name, value, least in (("repeats", repeats, 1), ("warm_up", warm_up, 0), ("threads", threads, 1)):
        if value < least:
            raise ValueError(f"{name} is {value}; give {least} or more.")
    times: dict[str, list[float]] = {name: [] for name in networks}
    with _ready([*networks.values()], threads), torch.inference_mode():
        for network in networks.values():
            for _ in range(warm_up):
                network(images)
        for repeat in range(repeats):
            for name in _turned(list(networks), repeat):
                times[name].append(_milliseconds(networks[name], images))
    return {name: Latency(tuple(of), len(images), threads) for name, of in times.items()}


def _turned(names: list[str], by: int) -> list[str]:
    start = by % len(names)
    return names[start:] + names[:start]


def _milliseconds(network: Callable[[Tensor], Any], images: Tensor) -> float:
    _finish(images.device)
    start = time.perf_counter_ns()
    network(images)
    _finish(images.device)
    return (time.perf_counter_ns() - start) / 1e6


def _finish(device: torch.device) -> None:
    """Wait for a GPU, which answers before it has computed."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def _ready(networks: list[Callable[[Tensor], Any]], threads: int) -> Iterator[None]:
    modules = [network for network in networks if isinstance(network, nn.Module)]
    modes = [module.training for module in modules]
    threads_before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for module in modules:
            module.eval()
        yield
    finally:
        torch.set_num_threads(threads_before)
        for module, was_training in zip(modules, modes, strict=True):
            module.train(was_training)
