"""Training through kdlib beside the plain loop, and what each step of its acceleration adds.

Every variant lives in a process of its own, and the variants take turns, round by round: a machine that
slows down meanwhile slows all of them, and one variant's memory does not help another.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import platform
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from ci.bench.report import Part, Rate, rate_lines
from ci.bench.variants import now, prepared
from ci.bench.works import WORKERS, WORKS, Work, networks, write_pictures
from ci.chapters import Repository
from kdlib import Distiller
from kdlib.training import choose_device
from kdlib.training.accelerate import step_flops

ROUNDS = 3


def bench(_repository: Repository) -> Part:
    """Measure every work; a table for each."""
    lines: list[str] = []
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        pictures = write_pictures(Path(folder))
        lines.append(f"224 pixels: {pictures}; 32 pixels: random ones, which take as long as CIFAR's.")
        for work in WORKS:
            rates = measure(work, Path(folder))
            lines += [
                "",
                work.name,
                *rate_lines(rates, work.bars),
                share_of_peak(work, rates[-1]),
            ]
            rows += [{"work": work.name, **asdict(rate), "ratio": rate.times(rates[0])} for rate in rates]
    return Part(lines, rows)


def measure(work: Work, folder: Path, rounds: int = ROUNDS) -> list[Rate]:
    """The rates of the faster plain loop and of each variant, measured in turns."""
    names = [*(f"plain loop, {workers} workers" for workers in WORKERS), *work.variants]
    context = multiprocessing.get_context("spawn")
    ends: dict[str, Connection] = {}
    taken: dict[str, list[float]] = {name: [] for name in names}
    with ExitStack() as stack, tqdm(names * (1 + rounds), desc=work.name, unit="turn") as turns:
        for name in turns:  # the first turn of each prepares it
            turns.set_postfix_str(name.strip())
            if name in ends:
                taken[name].append(_ask(ends[name]))
            else:
                ends[name] = stack.enter_context(_served(context, work.name, name, folder))
    rates = [
        Rate(name, tuple(work.steps * work.batch_size / seconds for seconds in taken[name])) for name in names
    ]
    fastest = max(rates[: len(WORKERS)], key=lambda rate: rate.median)
    return [fastest, *rates[len(WORKERS) :]]


@contextmanager
def _served(context: Any, work: str, variant: str, folder: Path) -> Iterator[Connection]:
    """A process that has a variant ready, and what to ask it through."""
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, work, variant, folder), daemon=False)
    process.start()
    theirs.close()
    try:
        ours.recv()
        yield ours
    finally:
        ours.close()
        process.join(timeout=30)


def _ask(end: Connection) -> float:
    end.send("go")
    seconds: float = end.recv()
    return seconds


def _serve(end: Connection, work_name: str, variant: str, folder: Path) -> None:
    """In its own process: prepare the variant, and time a round whenever asked."""
    work = next(work for work in WORKS if work.name == work_name)
    with prepared(work, variant, folder) as one_round:
        one_round()  # compiles, and starts the loader's workers
        answer: str | float = "ready"
        while True:
            give_memory_back()  # while the others have their turn
            end.send(answer)
            try:
                end.recv()
            except EOFError:
                return
            answer = one_round()


def give_memory_back() -> None:
    """Freed memory to the system, where the C library keeps it: ten variants at 224 pixels need it."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def share_of_peak(work: Work, rate: Rate) -> str:
    """The last variant's arithmetic beside what a product of large matrices reaches here."""
    device = choose_device()
    student, teacher = networks(work)
    objective = Distiller(student, teacher, work.terms).to(device)
    image = torch.randn(1, 3, work.size, work.size, device=device)
    reached = step_flops(objective, image) * rate.median
    peak = peak_of_products(device)
    return f"{rate.name}: {reached / 1e9:.0f} GFLOP/s, {reached / peak:.0%} of a large product in bfloat16"


def peak_of_products(device: torch.device, size: int = 2048) -> float:
    """Floating-point operations a second of a product of large bfloat16 matrices: the best of five."""
    matrix = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    seconds = []
    for _ in range(6):
        started = now()
        matrix @ matrix
        seconds.append(now() - started)
    return 2 * size**3 / min(seconds[1:])
