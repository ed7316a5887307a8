"""`create_model`: a network from its name, its classes and a seed."""

import difflib
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from kdlib.models.convnet import ConvNet
from kdlib.models.mobilenet import EXPANSIONS, mobilenets
from kdlib.models.resnet import CIFAR_DEPTHS, CIFAR_DEPTHS_X4, cifar_resnet, cifar_resnet_x4
from kdlib.models.vgg import VGG_STAGES, vgg
from kdlib.models.wide_resnet import WIDE_RESNETS, wide_resnet
from kdlib.models.zoo import timm_model, torchvision_model, torchvision_names

_BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "convnet": ConvNet,
    **{f"resnet{depth}": cifar_resnet(depth) for depth in CIFAR_DEPTHS},
    **{f"resnet{depth}x4": cifar_resnet_x4(depth) for depth in CIFAR_DEPTHS_X4},
    **{f"wrn_{depth}_{factor}": wide_resnet(depth, factor) for depth, factor in WIDE_RESNETS},
    **{f"vgg{depth}": vgg(depth) for depth in VGG_STAGES},
    **{f"mobilenets_{size}": mobilenets(expansion) for size, expansion in EXPANSIONS.items()},
    **{name: torchvision_model(name) for name in ("resnet18", "resnet50", "mobilenet_v2")},
}


def create_model(
    name: str, num_classes: int, *, in_channels: int = 3, seed: int | None = None, **options: Any
) -> nn.Module:
    """A new network, untrained unless `weights` are asked for.

    Args:
        name: one of `list_models()`; or the name of any other classification network of torchvision; or
            "timm:NAME" where timm is installed. "torchvision:vgg13" is torchvision's VGG-13, for large
            pictures, because "vgg13" is the one for small pictures.
        num_classes: C, the width of the logits.
        in_channels: 3 for colour, 1 for grey.
        seed: of the initial weights; the global generator is left as it was. None draws from it.
        options: what the network takes besides, such as ``width=4`` for "convnet", ``shortcut="projection"``
            for "resnet20", ``small_images=True`` (a stem for 32×32 pictures) for "resnet18" and
            ``weights="DEFAULT"`` (pretrained ones, downloaded) for all of torchvision's and timm's.

    Raises:
        ValueError: the name is unknown, there are fewer than two classes, or an option does not exist.
    """
    builder = _builder(name)
    if num_classes < 2:
        raise ValueError(f"num_classes is {num_classes}; a classifier needs at least two classes.")
    if in_channels < 1:
        raise ValueError(f"in_channels is {in_channels}; give 3 for colour or 1 for grey.")
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        try:
            return builder(num_classes=num_classes, in_channels=in_channels, **options)
        except TypeError as error:
            raise ValueError(f"{name} does not take these options, {options}: {error}.") from error


def list_models() -> list[str]:
    """The names of the networks that the course uses; `create_model` says which others it knows."""
    return list(_BUILDERS)


def count_parameters(model: nn.Module) -> int:
    """Number of trainable weights."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def _builder(name: str) -> Callable[..., nn.Module]:
    if name in _BUILDERS:
        return _BUILDERS[name]
    if name.startswith("timm:"):
        return timm_model(name.removeprefix("timm:"))
    others = torchvision_names()
    if name.removeprefix("torchvision:") in others:
        return torchvision_model(name.removeprefix("torchvision:"))
    # The course's own names first, so that "resnet-20" is near resnet20 and not resnet50.
    near = difflib.get_close_matches(name, _BUILDERS, n=1) or difflib.get_close_matches(name, others, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ValueError(
        f"no model is called {name!r}; {hint}There are: {', '.join(_BUILDERS)}; besides, all classification "
        "networks of torchvision, and timm:NAME."
    )
