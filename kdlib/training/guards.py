"""What stops a run, a loss that is no number, memory that is not there, Ctrl-C; and the bar that it shows."""

import math
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from kdlib.losses.inputs import DivergedError

# A GPU is asked this seldom: to read one number it has to finish everything before.
_STEPS_BETWEEN_CHECKS = 20
# A log keeps every line, so that it gets one now and then and no more.
_SECONDS_BETWEEN_LOG_LINES = 30.0


class LossGuard:
    """Stops a run at the step whose loss is NaN or infinite; on a GPU within 20 steps of it."""

    def __init__(self) -> None:
        self._waiting: list[tuple[str, list[str], Tensor]] = []

    def check(self, where: str, values: Mapping[str, Tensor]) -> None:
        """Check what a step gave: at once on a CPU, together with the next steps on a GPU.

        Args:
            where: the step, as the message shall call it.
            values: the loss and its terms, by name.

        Raises:
            DivergedError: one of them is not finite.
        """
        stacked = torch.stack([value.detach() for value in values.values()])
        self._waiting.append((where, list(values), stacked))
        if stacked.device.type == "cpu" or len(self._waiting) >= _STEPS_BETWEEN_CHECKS:
            self.flush()

    def flush(self) -> None:
        """Check all that waits; to be called before anything is kept.

        Raises:
            DivergedError: a loss is not finite.
        """
        waiting, self._waiting = self._waiting, []
        for where, names, values in waiting:
            found = zip(names, values.tolist(), strict=True)
            broken = [name for name, value in found if not math.isfinite(value)]
            if broken:
                raise DivergedError(
                    f"{', '.join(broken)} became NaN or infinite {where}; try a lower learning rate, and "
                    "look at the images and the teacher's logits of this step."
                )


@contextmanager
def at_step(where: str) -> Iterator[None]:
    """Say in which step a loss found its inputs to be no numbers.

    Args:
        where: the step, as the message shall call it.

    Raises:
        DivergedError: in place of the loss's own, which knows no steps.
    """
    try:
        yield
    except DivergedError as error:
        found, semicolon, remedy = str(error).partition(";")
        raise DivergedError(f"{found.removesuffix('.')}, {where}{semicolon}{remedy}") from error


class Interrupt:
    """Ctrl-C, taken between two steps: `asked` says whether somebody has pressed it."""

    def __init__(self) -> None:
        self.asked = False


@contextmanager
def interruptible() -> Iterator[Interrupt]:
    """Hold the first Ctrl-C until the step is done, so that weights and optimiser fit together."""
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt  # signals reach the main thread only
        return

    def ask(_signal: int, _frame: object) -> None:
        if interrupt.asked:
            raise KeyboardInterrupt
        interrupt.asked = True

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, before)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an allocator said this, the GPU's or the CPU's."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


@contextmanager
def memory_errors_explained(attempt: Callable[[int], object] | None, batch_size: int) -> Iterator[None]:
    """Say which batch size would fit where one does not.

    Args:
        attempt: a step with as many images as it is told; None where it cannot be tried.
        batch_size: of the steps inside.

    Raises:
        MemoryError: in place of the allocator's own error.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        advice = "take a smaller one, or more processes" if attempt is None else _advice(attempt, batch_size)
        raise MemoryError(f"a batch of {batch_size} images does not fit into memory; {advice}.") from error


def _advice(attempt: Callable[[int], object], batch_size: int) -> str:
    fits = largest_that_fits(attempt, batch_size)
    return f"batch_size={fits} fits" if fits else "not even one image does; take a smaller network"


def largest_that_fits(attempt: Callable[[int], object], batch_size: int) -> int:
    """The first of the halves of `batch_size` at which `attempt` finds memory; 0 where none does."""
    while batch_size > 1:
        batch_size //= 2
        try:
            attempt(batch_size)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            continue
        return batch_size
    return 0


class _Lines:
    """A stream on which every state of the bar is a line of its own."""

    def write(self, text: str) -> int:
        line = text.strip("\r\n ")
        return sys.stderr.write(line + "\n") if line else 0

    def flush(self) -> None:
        sys.stderr.flush()


def progress_bar(images: int, done: int, shown: bool) -> Any:
    """A bar over all images of all epochs, with their rate and the time left.

    Args:
        images: in all epochs together.
        done: in an earlier sitting.
        shown: whether there is a bar at all.
    """
    where: dict[str, Any] = {}
    if not sys.stderr.isatty() and "ipykernel" not in sys.modules:
        where = {"file": _Lines(), "mininterval": _SECONDS_BETWEEN_LOG_LINES, "ncols": 100, "ascii": True}
    return tqdm(
        total=images,
        initial=done,
        desc="training",
        unit=" images",
        unit_scale=True,
        leave=False,
        disable=not shown,
        **where,
    )
