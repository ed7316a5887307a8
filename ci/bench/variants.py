"""The variants of one work, each a function that trains for a round and says how long it took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ci.bench import plain
from ci.bench.works import FIT, RUNGS, Work, networks, our_data, random_pictures
from kdlib import Distiller, fit
from kdlib.data import Split
from kdlib.training import choose_device
from kdlib.training.accelerate import (
    channels_last,
    compiled,
    folded_teacher,
    retained_memory,
    strided_depthwise_in_float32,
)
from kdlib.training.answers import Answers


@contextmanager
def prepared(work: Work, variant: str, folder: Path) -> Iterator[Callable[[], float]]:
    """A function that trains for a round and returns the seconds that its timed steps took."""
    device = choose_device()
    torch.manual_seed(0)
    student, teacher = networks(work)
    if variant.startswith("plain"):
        yield _plain_round(work, variant, folder, student.to(device), teacher.to(device))
        return
    objective = Distiller(student, teacher, work.terms).to(device)
    train = our_data(work, folder)
    if variant == FIT:
        yield lambda: _fit_round(work, objective, train)
        return
    with ExitStack() as stack:
        yield _rung_round(work, objective, train, RUNGS[variant], folder, stack)


def _plain_round(
    work: Work, variant: str, folder: Path, student: nn.Module, teacher: nn.Module
) -> Callable[[], float]:
    needed = (work.steps + 1) * work.batch_size
    if work.size == 32:
        images, labels = random_pictures(needed)
        data = plain.small_pictures(images.permute(0, 2, 3, 1).numpy(), labels.tolist())
    else:
        data = torch.utils.data.Subset(plain.photographs(folder), range(needed))
    loader = plain.loader(data, work.batch_size, workers=int(variant.split()[2]))
    optimizer = make_optimizer(student)
    device = next(student.parameters()).device

    def one_round() -> float:
        clock = Clock()
        plain.train_epoch(student, teacher, work.plain_loss, clock.watch(loader), optimizer, device)
        return clock.seconds()

    return one_round


def _rung_round(
    work: Work,
    objective: Distiller,
    train: Split,
    parts: tuple[str, ...],
    folder: Path,
    stack: ExitStack,
) -> Callable[[], float]:
    """The parts of `kdlib.training.accelerate` that this rung has, and the engine's step."""
    device = choose_device()
    example = next(train.batches(work.batch_size, device=device)).images
    objective.connect(example[:2])
    teacher = objective.teacher
    optimizer = make_optimizer(objective)
    if "memory" in parts:
        stack.enter_context(retained_memory())
    if "channels" in parts:
        stack.enter_context(channels_last(objective, example))
    if "autocast" in parts:
        stack.enter_context(strided_depthwise_in_float32(objective))
    if "folded" in parts:
        stack.enter_context(folded_teacher(objective, example))
    if "compiled" in parts:
        stack.enter_context(compiled(objective, example))
    if "answers" in parts and teacher is not None:
        kept = Answers(folder / "answers", teacher, {"work": work.name})
        stack.enter_context(kept.kept(objective, len(train), lambda: 0, is_compiled=True))
    half = torch.autocast(device.type, torch.bfloat16, enabled="autocast" in parts)

    def one_round() -> float:
        clock = Clock()
        objective.train()
        for batch in clock.watch(train.batches(work.batch_size, seed=0, augment=True, device=device)):
            with half:
                loss, _ = objective(*batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return clock.seconds()

    return one_round


def _fit_round(work: Work, objective: Distiller, train: Split) -> float:
    watched = TimedSplit(**vars(train))
    fit(objective, watched, epochs=1, batch_size=work.batch_size, learning_rate=0.01, progress=False)
    return watched.clock.seconds()


def make_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """The same for every variant."""
    return torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, nesterov=True, weight_decay=5e-4)


class Clock:
    """Evaluator the steps of a round after the first, in which memory is laid out."""

    def __init__(self) -> None:
        self._started: float | None = None

    def watch(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Hand the batches on; the clock starts when the second is asked for."""
        for batch in batches:
            yield batch
            if self._started is None:
                self._started = now()

    def seconds(self) -> float:
        """Since the second batch was asked for."""
        assert self._started is not None, "no batch was watched"
        return now() - self._started


@dataclass(frozen=True)
class TimedSplit(Split):
    """A split whose augmented batches, those that are trained on, run a clock."""

    clock: Clock = field(default_factory=Clock)

    def batches(self, batch_size: int, **options: Any) -> Iterator[Any]:
        batches = super().batches(batch_size, **options)
        return self.clock.watch(batches) if options.get("augment") else batches


def now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
