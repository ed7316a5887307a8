"""`create_model`: a network from its name, its classes and a seed."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import nn

from kdlib.models.convnet import ConvNet
from kdlib.models.efficientnet import efficientnet_lite0
from kdlib.models.external import timm_model, torchvision_model, torchvision_names
from kdlib.models.mobilenet import EXPANSIONS, mobilenets
from kdlib.models.resnet import CIFAR_DEPTHS, CIFAR_DEPTHS_X4, cifar_resnet, cifar_resnet_x4
from kdlib.models.vgg import VGG_STAGES, vgg
from kdlib.models.wide_resnet import WIDE_RESNETS, wide_resnet
from kdlib.names import close
from kdlib.own import enter, registered

Builder = TypeVar("Builder", bound=Callable[..., nn.Module])

_BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "convnet": ConvNet,
    **{f"resnet{depth}": cifar_resnet(depth) for depth in CIFAR_DEPTHS},
    **{f"resnet{depth}x4": cifar_resnet_x4(depth) for depth in CIFAR_DEPTHS_X4},
    **{f"wrn_{depth}_{factor}": wide_resnet(depth, factor) for depth, factor in WIDE_RESNETS},
    **{f"vgg{depth}": vgg(depth) for depth in VGG_STAGES},
    **{f"mobilenets_{size}": mobilenets(expansion) for size, expansion in EXPANSIONS.items()},
    "efficientnet_lite0": efficientnet_lite0,
    **{name: torchvision_model(name) for name in ("resnet18", "resnet50", "mobilenet_v2")},
}


def create_model(
    name: str, num_classes: int, *, in_channels: int = 3, seed: int | None = None, **options: Any
) -> nn.Module:
    """A new network, untrained unless `weights` are asked for.

    Args:
        name: one of `list_models()`, what you registered included; or the name of any other classification
            network of torchvision; or "timm:NAME" where timm is installed. "torchvision:vgg13" is
            torchvision's VGG-13, for large pictures, because "vgg13" is the one for small pictures.
        num_classes: C, the width of the logits.
        in_channels: 3 for colour, 1 for grey.
        seed: of the initial weights; the global generator is left as it was. None draws from it.
        options: what the network takes besides, such as ``width=4`` for "convnet", ``shortcut="projection"``
            for "resnet20", ``small_images=True`` (a stem for 32×32 pictures) for "resnet18" and
            ``weights="DEFAULT"`` (pretrained ones, downloaded) for all of torchvision's and timm's. For
            "efficientnet_lite0", ``weights="imagenet"`` come with ``kdlib[weights]``, without a download, and
            ``blocks=(1, 1, 1, 2, 2, 2, 1)`` leaves out blocks at the end of its stages.

    Raises:
        ValueError: the name is unknown, there are fewer than two classes, or an option does not exist.
        OSError: pretrained weights are not here and cannot be downloaded; the message says where to put them.
    """
    builder = _builder(name)
    if num_classes < 2:
        raise ValueError(f"num_classes is {num_classes}; a classifier needs at least two classes.")
    if in_channels < 1:
        raise ValueError(f"in_channels is {in_channels}; give 3 for colour or 1 for grey.")
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        if name in registered("network"):
            return _own(name, num_classes=num_classes, in_channels=in_channels, **options)
        try:
            return builder(num_classes=num_classes, in_channels=in_channels, **options)
        except TypeError as error:
            raise ValueError(f"{name} does not take these options, {options}: {error}.") from error


def register(name: str) -> Callable[[Builder], Builder]:
    """A decorator: a network of your own, under a name that `create_model` and recipes know it by.

    .. code-block:: python

        @register("tiny")
        def tiny(num_classes: int, in_channels: int, width: int = 8) -> nn.Module:
            maps = nn.Sequential(nn.Conv2d(in_channels, width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
            return nn.Sequential(maps, nn.Flatten(), nn.Linear(width, num_classes))

        create_model("tiny", 10, width=16)

    A recipe file that has ``modules = ["my_networks"]`` imports ``my_networks.py``, which lies beside it, and
    may then say ``student = {name = "tiny", options = {width = 16}}``.

    Args:
        name: of a function or a class that takes ``num_classes``, ``in_channels`` and the options, and gives
            the network; letters, digits, "_", "-" and ".". No other network may have it.

    Raises:
        ValueError: the name is none, or taken, or what it is for cannot be called.
    """

    def add(builder: Builder) -> Builder:
        if not callable(builder):
            raise ValueError(
                f"{name!r} is for {builder!r}, which cannot be called; give a function that makes it."
            )
        enter("network", name, builder, is_ours=name in _BUILDERS or name in torchvision_names())
        return builder

    return add


def check_own_options(name: str, options: Mapping[str, Any]) -> None:
    """Raise ValueError unless a registered network takes these options; it is not built."""
    try:
        inspect.signature(registered("network")[name]).bind(**options)
    except TypeError as error:
        raise ValueError(f"{name} does not take these options, {dict(options)}: {error}.") from error


def list_models() -> list[str]:
    """The names of the networks that the course uses, and of those that were registered.

    `create_model` says which others it knows.
    """
    return [*_BUILDERS, *registered("network")]


def count_parameters(model: nn.Module) -> int:
    """Number of weights, whether they are trained or not."""
    return sum(parameter.numel() for parameter in model.parameters())


def _own(name: str, **options: Any) -> nn.Module:
    """A registered network. What its own code raises is left as it is."""
    check_own_options(name, options)
    network = registered("network")[name](**options)
    if not isinstance(network, nn.Module):
        raise ValueError(f"{name} gives {network!r}, which is no network; return a torch.nn.Module.")
    return network


def _builder(name: str) -> Callable[..., nn.Module]:
    known: dict[str, Callable[..., nn.Module]] = _BUILDERS | registered("network")
    if name in known:
        return known[name]
    if name.startswith("timm:"):
        return timm_model(name.removeprefix("timm:"))
    others = torchvision_names()
    if name.removeprefix("torchvision:") in others:
        return torchvision_model(name.removeprefix("torchvision:"))
    meant = close(name, [*known, *others])
    hint = f"did you mean {meant[0]!r}? " if meant else ""
    raise ValueError(
        f"no model is called {name!r}; {hint}There are: {', '.join(known)}; besides, all classification "
        "networks of torchvision, and timm:NAME."
    )
