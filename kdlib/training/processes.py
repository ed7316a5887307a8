"""Several processes that train one network together: who they are, and how they agree.

``torchrun --nproc-per-node 8 -m kdlib.cli run RECIPE`` starts them, on one machine or on several that share
the folder of runs; ``kd run RECIPE --processes 8`` does on one machine. Everything here is for one process
too, which is the first, and agrees with itself.

One rule keeps them together: what one process alone knows, a clock, a file, a key that was pressed, is told
to all of them before anything is decided by it.
"""

import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

_Made = TypeVar("_Made")

_PATIENCE = timedelta(seconds=10)


def count() -> int:
    """How many processes torchrun has started; 1 without it."""
    return _number("WORLD_SIZE", 1)


def rank() -> int:
    """The number of this process among all, from 0."""
    return _number("RANK", 0)


def on_this_machine() -> int:
    """How many of the processes are on this machine."""
    return _number("LOCAL_WORLD_SIZE", 1)


def is_first() -> bool:
    """Whether this process is the one that writes and speaks for all."""
    return rank() == 0


def part() -> tuple[int, int]:
    """Which share of every batch is this process's, as `kdlib.data.Split.batches` takes it."""
    return rank(), count()


def own_gpu() -> torch.device:
    """The GPU of this process: each process on a machine has its own.

    Raises:
        ValueError: there are more processes on this machine than GPUs.
    """
    if on_this_machine() > torch.cuda.device_count():
        raise ValueError(
            f"there are {on_this_machine()} processes and {torch.cuda.device_count()} GPUs on this machine; "
            "give --nproc-per-node the number of GPUs, or take device 'cpu'."
        )
    return torch.device("cuda", _number("LOCAL_RANK", 0))


def join() -> None:
    """Find the other processes; a second call does nothing."""
    if count() > 1 and not distributed.is_initialized():
        # What they agree on lies in the CPU's memory, so that no GPU is made to wait for it.
        distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")


def leave() -> None:
    """Part from the others once all is done. After an error nobody waits: torchrun ends the others."""
    if count() > 1 and distributed.is_initialized():
        distributed.destroy_process_group()


def from_first(make: Callable[[], _Made]) -> _Made:
    """What the first process makes or finds, on all of them.

    Raises:
        Exception: what stopped the first process stops all.
    """
    if count() == 1:
        return make()
    join()
    told: list[Any] = [None, None]
    if is_first():
        try:
            told[0] = make()
        except Exception as error:
            told[1] = error
    distributed.broadcast_object_list(told)
    if told[1] is not None:
        raise told[1]
    made: _Made = told[0]
    return made


def any_of(*flags: bool) -> Sequence[bool]:
    """For each flag whether it is up on any process."""
    if count() == 1:
        return flags
    raised = torch.tensor(flags, dtype=torch.uint8)
    distributed.all_reduce(raised, distributed.ReduceOp.MAX)
    return raised.bool().tolist()


def sizes_of(rows: int) -> list[int]:
    """How many rows every process has, in order."""
    if count() == 1:
        return [rows]
    sizes = torch.zeros(count(), dtype=torch.int64)
    sizes[rank()] = rows
    distributed.all_reduce(sizes)
    return sizes.tolist()


def gather(rows: Tensor, sizes: Sequence[int] | None = None) -> Tensor:
    """The rows of all processes, in order; no gradient passes.

    Args:
        rows: of this process; all have the same shape but for their number.
        sizes: of all, if they are known.
    """
    if count() == 1:
        return rows
    sizes = sizes or sizes_of(len(rows))
    # They travel in equal shapes, and shares differ by one row at most.
    padded = rows.new_zeros(max(sizes), *rows.shape[1:])
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in sizes]
    distributed.all_gather(parts, padded)
    return torch.cat([piece[:size] for piece, size in zip(parts, sizes, strict=True)])


def is_first_to_end() -> bool:
    """Whether no other process has ended with an error before, so that one sentence says why and not many."""
    if count() == 1:
        return True
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    try:
        # The launcher keeps this store, which outlives every process.
        store = distributed.TCPStore(host, port, is_master=False, timeout=_PATIENCE)  # type: ignore[attr-defined]
        ended: int = store.add(f"kdlib/ended/{_number('TORCHELASTIC_RESTART_COUNT', 0)}", 1)
    except RuntimeError:  # the launcher is gone
        return True
    return ended == 1


def is_lost(error: Exception) -> bool:
    """Whether an error says only that another process has ended; that one, or its launcher, says why."""
    return count() > 1 and (isinstance(error, distributed.DistError) or "gloo" in str(error))


def _number(name: str, alone: int) -> int:
    # Some clusters set WORLD_SIZE for every program, so that its being there says little.
    launched = distributed.is_available() and distributed.is_torchelastic_launched()
    return int(os.environ.get(name, alone)) if launched else alone
