"""Networks that are tried and left as they were, and copies of networks where one can be had."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from kdlib.models.answers import compute_logits
from kdlib.models.controls import generators

_Module = TypeVar("_Module", bound=nn.Module)


def copied(module: _Module) -> _Module | None:
    """A deep copy; None where none can be had.

    PyTorch copies no tensor that has a gradient's history: networks that keep a map of their last pass, or
    are pruned or weight-normed, hold such. And what a network holds besides may refuse, as a session does.
    """
    try:
        with torch.no_grad():  # or the copied weights of TorchScript would have a history themselves
            return copy.deepcopy(module)
    except Exception:  # of any kind, because any object may be inside
        return None


@contextmanager
def modes_kept(*networks: nn.Module) -> Iterator[None]:
    """Put every module back into the mode it was in: a network may train while a part of it does not."""
    modules = [module for network in networks for module in network.modules()]
    # What torch.jit.freeze has made has no mode.
    modes = {module: module.training for module in modules if hasattr(module, "training")}
    try:
        yield
    finally:
        for module, was_training in modes.items():
            module.training = was_training


@contextmanager
def untouched(*networks: nn.Module) -> Iterator[None]:
    """Run networks without gradients, and put back what that changes.

    Put back are the mode of every module, the buffers (such as a batch norm's statistics), the sources of
    random numbers that networks hold, and the global ones.
    """
    buffers = [(buffer, buffer.clone()) for network in networks for buffer in network.buffers()]
    states = [(source, source.get_state()) for network in networks for _, source in generators(network)]
    devices = {buffer.device for buffer, _ in buffers}
    devices |= {weight.device for network in networks for weight in network.parameters()}
    with (
        modes_kept(*networks),
        torch.random.fork_rng(devices=[device for device in devices if device.type == "cuda"]),
        torch.no_grad(),
    ):
        try:
            yield
        finally:
            for buffer, value in buffers:
                buffer.copy_(value)
            for source, state in states:
                source.set_state(state)


def can_answer(network: nn.Module, images: Tensor, dtype: torch.dtype = torch.float32) -> bool:
    """Whether a network answers to these images, in half precision as autocast has it."""
    half = torch.autocast(images.device.type, dtype, enabled=dtype != torch.float32)
    try:
        with untouched(network), half:
            compute_logits(network.eval(), images.to(dtype))
    except Exception:  # of any kind, because any network may be asked
        return False
    return True
