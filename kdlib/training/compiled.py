"""Networks and losses compiled for batches of one shape, and when that pays."""

import copy
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from kdlib.distiller import Distiller, Objective
from kdlib.terms import EMBEDDING, Term
from kdlib.training import processes

# Steps and floating-point operations in a run from which compiling pays. It takes half a minute and saves a
# tenth of the time, so the run should take a quarter of an hour: on two CPU cores, and on a GPU.
_LEAST_STEPS = 1000
_LEAST_OPERATIONS = {"cpu": 5e14, "cuda": 5e16}


@contextmanager
def compiled(objective: Objective, example: Tensor) -> Iterator[None]:
    """Compile student, teacher and the terms on maps for batches of the example's shape.

    The compiler joins batch norm, ReLU and the sums of a residual network into few passes through the maps,
    and lays out the weights of the teacher, which do not change, once. A term on layers goes through large
    maps several times: attention, FSP and NST then take about half as long. The modules, their paths and
    their weights stay the same objects. An epoch's last, smaller batch and every evaluation run uncompiled,
    because each new shape would be compiled anew.
    """
    parts = [network for network in (*objective.learners, objective.teacher) if network is not None]
    if isinstance(objective, Distiller):
        parts += [term for term in objective.terms if isinstance(term, Term) and gains_by_compiling(term)]
    calls: dict[nn.Module, Any] = {part: torch.compile(part._call_impl, dynamic=False) for part in parts}

    def begin(_objective: nn.Module, inputs: tuple[Any, ...]) -> None:
        if inputs[0].shape == example.shape:
            for part, call in calls.items():
                part._compiled_call_impl = call

    def end(*_: Any) -> None:
        for part in calls:
            part._compiled_call_impl = None

    hooks = [
        objective.register_forward_pre_hook(begin),
        objective.register_forward_hook(end, always_call=True),
    ]
    try:
        with (
            # What the compiler cannot compile runs as it is; and what it compiled for a network without taps
            # is not used for one of the same kind with taps.
            torch._dynamo.config.patch(suppress_errors=True, skip_nnmodule_hook_guards=False),
            # Of what runs without gradients, the teacher, the weights are constants.
            torch._inductor.config.patch(freezing=True),
        ):
            yield
    finally:
        for hook in hooks:
            hook.remove()
        # What was compiled for these networks is of no use to the next ones, and PyTorch stops compiling
        # when it has eight versions of a function.
        torch.compiler.reset()


def gains_by_compiling(term: Term) -> bool:
    """Whether a term only goes through maps; embeddings and the convolutions of connectors gain nothing."""
    return not term.has_connectors and any(layer != EMBEDDING for layer, _ in term.pairs)


def pays_to_compile(objective: Objective, example: Tensor, steps: int) -> bool:
    """Whether a run of so many steps is long enough, and what compiling needs is here.

    Judged by the operations of the run and not by the clock, so that a resumed run computes with the same
    kernels, and so to the same bits, as one that was never stopped.
    """
    if processes.count() > 1:
        return False  # a batch norm that asks other processes cannot be joined with its neighbours
    least = _LEAST_OPERATIONS.get(example.device.type)
    if least is None or steps < _LEAST_STEPS or steps * operations(objective, example) < least:
        return False
    if example.device.type == "cpu" and not _has_compiler():
        warnings.warn(
            "no C++ compiler was found, so the networks are not compiled, which would save about a tenth of "
            "the time; install g++ to have it.",
            stacklevel=2,
        )
        return False
    return True


def operations(objective: Objective, example: Tensor) -> int:
    """Floating-point operations of one step: the gradients cost a student twice what its answers do."""
    learners = 3 * sum(_operations_forward(network, example) for network in objective.learners)
    return learners + (0 if objective.teacher is None else _operations_forward(objective.teacher, example))


@torch.no_grad()
def _operations_forward(network: nn.Module, example: Tensor) -> int:
    # One image, and a copy: a control teacher draws random numbers whenever it runs.
    with FlopCounterMode(display=False) as counter:
        copy.deepcopy(network).eval()(example[:1])
    return len(example) * int(counter.get_total_flops())


def _has_compiler() -> bool:
    return any(shutil.which(name) for name in (os.environ.get("CXX", ""), "g++", "clang++", "cl") if name)
