"""Several processes that train one network: who they are, how they agree, and how they share a batch.

``torchrun --nproc-per-node 8 -m kdlib.cli run RECIPE`` starts them, on one machine or on several that share
the folder of runs; ``kd run RECIPE --processes 8`` does on one machine. Everything here is for one process
too, which is of rank 0, and agrees with itself.

One rule keeps them together: what one process alone knows, a clock, a file, a key that was pressed, is told
to all of them before anything is decided by it.

Each computes the networks and the loss on its share of every batch, and Fabric's DDP averages the gradients:

- A loss that is a mean over images is taken of the own rows, times their part of the batch, so that the
  average over processes is the mean over all images, also where shares are uneven.
- A loss that compares images with one another (RKD, SP, CC, PKT, DIST, CRD) is computed on the whole batch by
  every process. What it reads, and nothing else, is gathered; see `kdlib.terms.Term.needs_whole_batch`.
- Batch norm takes the statistics of the whole batch on GPUs (`torch.nn.SyncBatchNorm`), and of the own rows
  on CPUs, where torch has none that asks the others. The running ones that are kept are the first process's.
- What networks and losses of the own rows draw, dropout's masks for instance, each process draws anew in
  every step, from a seed of its own. What a loss of the whole batch draws is the same everywhere.

The loss that is shown, kept and checked is that of the whole batch, so that all stop at a NaN, for instance.
The batch size of a run is that of all processes together, and the learning rate is the same for any number.
"""

import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from multiprocessing import cpu_count
from typing import Any, TypeVar
from uuid import uuid4

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from kdlib.distiller import Objective, evaluate_terms
from kdlib.models.controls import generators
from kdlib.terms import Outputs, Term

_Made = TypeVar("_Made")

_PATIENCE = timedelta(seconds=10)
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def world_size() -> int:
    """How many processes torchrun has started; 1 without it."""
    return _number("WORLD_SIZE", 1)


def rank() -> int:
    """The number of this process among all, from 0."""
    return _number("RANK", 0)


def local_world_size() -> int:
    """How many of the processes are on this machine."""
    return _number("LOCAL_WORLD_SIZE", 1)


def is_rank_zero() -> bool:
    """Whether this process is the one that writes and speaks for all."""
    return rank() == 0


def shard() -> tuple[int, int]:
    """Which share of every batch is this process's, as `kdlib.data.Split.batches` takes it."""
    return rank(), world_size()


def local_gpu() -> torch.device:
    """The GPU of this process: each process on a machine has its own.

    Raises:
        ValueError: there are more processes on this machine than GPUs.
    """
    if local_world_size() > torch.cuda.device_count():
        raise ValueError(
            f"there are {local_world_size()} processes and {torch.cuda.device_count()} GPUs on this machine; "
            "give --nproc-per-node the number of GPUs, or take device 'cpu'."
        )
    return torch.device("cuda", _number("LOCAL_RANK", 0))


def init_process_group() -> None:
    """Find the other processes; a second call does nothing."""
    if world_size() > 1 and not dist.is_initialized():
        # What they agree on lies in the CPU's memory, so that no GPU is made to wait for it.
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")


def destroy_process_group() -> None:
    """Part from the others once all is done. After an error nobody waits: torchrun ends the others."""
    if world_size() > 1 and dist.is_initialized():
        dist.destroy_process_group()


def from_rank_zero(make: Callable[[], _Made]) -> _Made:
    """What the first process makes or finds, on all of them.

    Raises:
        Exception: what stopped the first process stops all.
    """
    if world_size() == 1:
        return make()
    init_process_group()
    told: list[Any] = [None, None]
    if is_rank_zero():
        try:
            told[0] = make()
        except Exception as error:
            told[1] = error
    dist.broadcast_object_list(told)
    if told[1] is not None:
        raise told[1]
    made: _Made = told[0]
    return made


def any_rank(*flags: bool) -> Sequence[bool]:
    """For each flag whether it is up on any process."""
    if world_size() == 1:
        return flags
    raised = torch.tensor(flags, dtype=torch.uint8)
    dist.all_reduce(raised, dist.ReduceOp.MAX)
    return raised.bool().tolist()


def mean_over_ranks(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The mean of every number over all processes; no gradient passes."""
    if world_size() == 1:
        return dict(values)
    stacked = torch.stack([value.detach() for value in values.values()])
    dist.all_reduce(stacked)
    return dict(zip(values, stacked / world_size(), strict=True))


def broadcast_buffers(module: nn.Module) -> None:
    """Give all processes the first one's buffers: on CPUs batch norms have seen other images in each."""
    if world_size() > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, 0)


def shares(images: int) -> list[int]:
    """How many images of a batch each process has, in order, as `kdlib.data.Split.batches` gives them."""
    fewest, larger = divmod(images, world_size())
    return [fewest + (process < larger) for process in range(world_size())]


def all_gather(rows: Tensor, images: int) -> Tensor:
    """The rows of all processes, in order; no gradient passes.

    Args:
        rows: of this process's images; all have the same shape but for their number.
        images: of all processes together.
    """
    if world_size() == 1:
        return rows
    sizes = shares(images)
    # They travel in equal shapes, and shares differ by one row at most.
    padded = rows.new_zeros(max(sizes), *rows.shape[1:])
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(parts, padded)
    return torch.cat([piece[:size] for piece, size in zip(parts, sizes, strict=True)])


def is_first_to_fail() -> bool:
    """Whether no other process has ended with an error before, so that one sentence says why and not many."""
    if world_size() == 1:
        return True
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    try:
        # The launcher keeps this store, which outlives every process.
        store = dist.TCPStore(host, port, is_master=False, timeout=_PATIENCE)  # type: ignore[attr-defined]
        ended: int = store.add(f"kdlib/ended/{_number('TORCHELASTIC_RESTART_COUNT', 0)}", 1)
    except RuntimeError:  # the launcher is gone
        return True
    return ended == 1


def is_lost_connection(error: Exception) -> bool:
    """Whether an error says only that another process has ended; that one, or its launcher, says why."""
    return world_size() > 1 and (isinstance(error, dist.DistError) or "gloo" in str(error))


def _number(name: str, alone: int) -> int:
    # Some clusters set WORLD_SIZE for every program, so that its being there says little.
    launched = dist.is_available() and dist.is_torchelastic_launched()
    return int(os.environ.get(name, alone)) if launched else alone


@contextmanager
def shared_batches(
    objective: Objective, images: Callable[[], int], step: Callable[[], tuple[int, ...]]
) -> Iterator[None]:
    """Let an objective that is given its share of each batch compute its part of the loss of the whole.

    One process has all of each batch, and nothing is changed.

    Args:
        objective: connected, on its device.
        images: how many the batch of the step under way has, in all processes together.
        step: numbers, 0 or more, that tell the step under way from all others of this run and of other seeds.

    Raises:
        ValueError: a network does to a batch what cannot be done to its shares.
    """
    if world_size() == 1:
        yield
        return
    _check(objective)
    device = next(objective.parameters()).device
    share = _Share(images, step, [device] if device.type == "cuda" else [])
    with ExitStack() as stack, share.own_numbers:
        stack.callback(objective.register_forward_pre_hook(share.begin).remove)
        stack.enter_context(objective.evaluating(share.evaluate))
        if device.type == "cuda":
            stack.enter_context(_synchronised(objective))
        yield


class _Share:
    """The rows that this process has of the batch that is being computed.

    Args:
        images, step: as for `shared_batches`.
        gpus: whose generators are to be put back.

    Attributes:
        own_numbers: holds torch's generators back while this process draws its own numbers.
    """

    def __init__(
        self, images: Callable[[], int], step: Callable[[], tuple[int, ...]], gpus: list[torch.device]
    ) -> None:
        self.own_numbers = ExitStack()
        self._images, self._step, self._gpus = images, step, gpus

    def begin(self, _objective: nn.Module, _inputs: tuple[Any, ...]) -> None:
        """Before the networks are asked."""
        self.own_numbers.enter_context(torch.random.fork_rng(self._gpus))
        state = np.random.SeedSequence((*self._step(), rank())).generate_state(1, np.uint64)
        torch.manual_seed(int(state[0]))

    def evaluate(self, terms: Sequence[Term], outputs: Outputs) -> dict[str, Tensor]:
        """Every term, such that its mean over the processes is that of the whole batch."""
        whole = [term for term in terms if term.needs_whole_batch]
        factor = len(outputs.labels) * world_size() / self._images()
        own = evaluate_terms([term for term in terms if term not in whole], outputs)
        self.own_numbers.close()
        values = {name: factor * value for name, value in own.items()}
        if whole:
            values |= evaluate_terms(whole, self._gathered(outputs, whole))
        return {term.name: values[term.name] for term in terms}

    def _gathered(self, outputs: Outputs, terms: Sequence[Term]) -> Outputs:
        """The outputs for all rows, as far as the terms look at them."""
        pairs = [pair for term in terms for pair in term.pairs]
        return Outputs(
            student_logits=self._rows(outputs.student_logits),
            teacher_logits=None if outputs.teacher_logits is None else self._rows(outputs.teacher_logits),
            labels=self._rows(outputs.labels),
            student_maps={ours: self._rows(outputs.student_maps[ours]) for ours, _ in pairs},
            teacher_maps={theirs: self._rows(outputs.teacher_maps[theirs]) for _, theirs in pairs},
            indices=None if outputs.indices is None else self._rows(outputs.indices),
        )

    def _rows(self, own: Tensor) -> Tensor:
        rows: Tensor = _Gather.apply(own, self._images())
        return rows


class _Gather(torch.autograd.Function):
    """All rows; backwards, what comes for this process's own.

    Every process has the same loss of all rows, and with it the whole gradient of these. DDP averages the
    weights' gradients afterwards, where those of a network's shares have to be summed: hence the factor. A
    term's own modules see all rows in every process, and their average is right as it is.
    """

    @staticmethod
    def forward(ctx: Any, own: Tensor, images: int) -> Tensor:
        ctx.images = images
        return all_gather(own, images)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient.split(shares(ctx.images))[rank()] * world_size(), None


class _SyncBatchNorm(nn.SyncBatchNorm):
    """A batch norm that was made as another class has no process group of its own."""

    process_group = None  # all processes


@contextmanager
def _synchronised(objective: Objective) -> Iterator[None]:
    """Normalise by the whole batch."""
    changed = [(module, type(module)) for module in objective.modules() if type(module) in _BATCH_NORMS]
    for module, _ in changed:
        # Another class for the same object keeps its weights, its path and its hooks.
        module.__class__ = _SyncBatchNorm
    try:
        yield
    finally:
        for module, own in changed:
            module.__class__ = own


def _check(objective: Objective) -> None:
    for network in (*objective.students, objective.teacher):
        if network is not None and any(True for _ in generators(network)):
            raise ValueError(
                f"{type(network).__name__} draws random numbers for a whole batch, of which each of "
                f"the {world_size()} processes has a share; train in one process."
            )


def launch(module: str, arguments: Sequence[str], number: int) -> int:
    """Run ``python -m module arguments`` in so many processes that train together, and wait for them.

    The first that fails ends the others. Ctrl-C is passed on to all.

    Returns:
        The exit code of the first that failed; 0 where none did, and 130 after Ctrl-C.

    Raises:
        RuntimeError: a process did not come to its own end.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cpu_count() // number)))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=number,
        run_id=uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
    )
    # What a failed process has to say it says itself.
    logging.disable(logging.CRITICAL)
    try:
        elastic_launch(config, sys.executable)("-m", module, *arguments)
    except SignalException as stopped:
        return 128 + int(stopped.sigval)
    except ChildFailedError as failed:
        rank, failure = failed.get_first_failure()
        if failure.exitcode < 0:
            raise RuntimeError(
                f"process {rank} of {number} was ended by {failure.signal_name()}, and the others with it; "
                "the same command goes on from the last checkpoint."
            ) from failed
        return int(failure.exitcode)
    finally:
        logging.disable(logging.NOTSET)
    return 0
