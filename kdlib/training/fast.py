"""The fast path: what is done to the networks before the first step, and undone after the last."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor

from kdlib.distiller import Distiller, Objective
from kdlib.models.controls import generators
from kdlib.models.frozen import freeze, pack_weights
from kdlib.terms import EMBEDDING, Term
from kdlib.training.compiled import compiled, pays_to_compile
from kdlib.training.depthwise import strided_depthwise_in_float32
from kdlib.training.memory import kept_pages

_DTYPES = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


@contextmanager
def fast_path(objective: Objective, example: Tensor, precision: str, steps: int) -> Iterator[Objective]:
    """Make an objective's networks fast while they are trained.

    What each part brings is said where it is done, and measured by ``make bench``. None of them changes what
    is computed by more than rounding.

    Args:
        objective: connected, on its device.
        example: a batch of images as the networks will see them, on that device.
        precision: "32-true", "bf16-mixed" or "16-mixed".
        steps: how many will be taken: what takes long to prepare has to pay for itself.
    """
    with ExitStack() as stack:
        stack.enter_context(kept_pages())
        stack.enter_context(channels_last(objective))
        stack.enter_context(strided_depthwise_in_float32(objective))
        is_compiled = pays_to_compile(objective, example, steps)
        stack.enter_context(fast_teacher(objective, example, _DTYPES[precision], pack=not is_compiled))
        if is_compiled:
            stack.enter_context(compiled(objective, example))
        yield objective


@contextmanager
def channels_last(objective: Objective) -> Iterator[None]:
    """Keep the channels of a pixel side by side in memory, as convolutions read them.

    Saves a fifth to a quarter of a CIFAR ResNet's training on a CPU, and half of MobileNetV2's.
    """
    for network in objective.children():
        network.to(memory_format=torch.channels_last)
    try:
        yield
    finally:
        for network in objective.children():
            network.to(memory_format=torch.contiguous_format)


@contextmanager
def fast_teacher(objective: Objective, example: Tensor, dtype: torch.dtype, *, pack: bool) -> Iterator[None]:
    """Ask a frozen copy of the teacher instead of the teacher, where there is one."""
    if not isinstance(objective, Distiller) or objective.teacher is None:
        yield
        return
    terms = [term for term in objective.terms if isinstance(term, Term)]
    tapped = {path for term in terms for _, path in term.pairs} - {EMBEDDING}
    frozen = freeze(objective.teacher, example[:8], dtype, tapped=tapped)
    with objective.taught_by(pack_weights(frozen) if pack else frozen):
        yield
    # A control teacher is left as if it had been asked itself.
    for (_, drawn), (_, own) in zip(generators(frozen), generators(objective.teacher), strict=True):
        own.set_state(drawn.get_state())
