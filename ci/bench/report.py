"""What a part of the bench gives back, and the figures it is made of."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from ci.execute import find_versions
from ci.machine import core_count


@dataclass(frozen=True)
class Part:
    """The lines to print, and the same as rows for the JSON."""

    lines: Sequence[str]
    rows: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Rate:
    """What one variant did in each round, in images a second."""

    name: str
    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.rounds)

    def times(self, plain: Rate) -> float:
        """How many times as fast as the plain variant: the median over the rounds, each side by side."""
        return median(ours / theirs for ours, theirs in zip(self.rounds, plain.rounds, strict=True))


def rate_lines(rates: Sequence[Rate], bars: Mapping[str, str]) -> list[str]:
    """A table: median, slowest and fastest round, ratio to the first variant, and the bar for some."""
    lines = [f"{'':<44} {'images/s':>9} {'(slowest to fastest)':>22} {'ratio':>7}  bar"]
    for rate in rates:
        spread = f"({min(rate.rounds):.0f} to {max(rate.rounds):.0f})"
        bar = bars.get(rate.name, "")
        lines.append(f"{rate.name:<44} {rate.median:9.0f} {spread:>22} {rate.times(rates[0]):6.2f}×  {bar}")
    return lines


def describe_machine() -> dict[str, str]:
    """Processor, cores, threads, the instructions that decide the speed, and versions."""
    import torch

    found = {
        "processor": processor_name(),
        "cores": str(core_count()),
        "threads": str(torch.get_num_threads()),
    }
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    found["bfloat16 instructions"] = "yes" if torch.cpu._is_avx512_bf16_supported() else "no"
    found["AMX"] = "yes" if torch.cpu._is_amx_tile_supported() else "no"
    return found | find_versions()


def processor_name() -> str:
    """The model of the processor, as the system names it."""
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        for line in listing.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
