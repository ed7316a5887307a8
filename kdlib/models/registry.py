"""`create_model`: a network from its name, its classes and a seed."""

import difflib
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from kdlib.models.convnet import ConvNet
from kdlib.models.resnet import CIFAR_DEPTHS, cifar_resnet

_BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "convnet": ConvNet,
    **{f"resnet{depth}": cifar_resnet(depth) for depth in CIFAR_DEPTHS},
}


def create_model(
    name: str, num_classes: int, *, in_channels: int = 3, seed: int | None = None, **options: Any
) -> nn.Module:
    """A new, untrained network.

    Args:
        name: one of `list_models()`.
        num_classes: C, the width of the logits.
        in_channels: 3 for colour, 1 for grey.
        seed: of the initial weights; the global generator is left as it was. None draws from it.
        options: what the network takes besides, such as ``width=4`` for "convnet".

    Raises:
        ValueError: the name is unknown, there are fewer than two classes, or an option does not exist.
    """
    if name not in _BUILDERS:
        near = difflib.get_close_matches(name, _BUILDERS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"no model is called {name!r}; {hint}There are: {', '.join(_BUILDERS)}.")
    if num_classes < 2:
        raise ValueError(f"num_classes is {num_classes}; a classifier needs at least two classes.")
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        try:
            return _BUILDERS[name](num_classes=num_classes, in_channels=in_channels, **options)
        except TypeError as error:
            raise ValueError(f"{name} does not take these options, {options}: {error}.") from error


def list_models() -> list[str]:
    """The names that `create_model` knows."""
    return list(_BUILDERS)


def count_parameters(model: nn.Module) -> int:
    """Number of trainable weights."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
