"""Networks that others maintain: torchvision's by name, and timm's where timm is installed.

Both libraries are imported when a network of theirs is asked for, because torchvision's take a second.
"""

import importlib
from collections.abc import Callable
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import torch
from torch import nn

from kdlib.names import close


def torchvision_names() -> list[str]:
    """The names of torchvision's classification networks."""
    from torchvision import models

    names: list[str] = models.list_models(module=models)
    return names


def torchvision_model(name: str) -> Callable[..., nn.Module]:
    """A builder of one of torchvision's classification networks, for the registry."""

    def build(
        num_classes: int,
        in_channels: int = 3,
        small_images: bool = False,
        weights: str | None = None,
        **options: Any,
    ) -> nn.Module:
        """One of torchvision's networks, (N, in_channels, H, W) to logits (N, num_classes).

        Args:
            num_classes: C; with pretrained weights, another number than theirs gives a new last layer.
            in_channels: where it is not 3, the first convolution is a new one, which starts from Kaiming's
                normal distribution.
            small_images: for ResNets only: a stem for 32×32 pictures, that is a first convolution of 3×3 and
                stride 1, and no max-pooling.
            weights: None, "imagenet" for torchvision's first of the network, "DEFAULT" for its best, or what
                it calls them, such as "IMAGENET1K_V2"; they are downloaded unless they are there, and their
                checksum is compared. Where that fails, an OSError says where to put the file.
            options: what torchvision's own builder takes.
        """
        from torchvision import models

        if name in ("googlenet", "inception_v3"):
            # With auxiliary classifiers the output in training would be a tuple. Without pretrained weights,
            # GoogLeNet warns unless it is told to initialise its own.
            options = {"aux_logits": False, **({} if weights else {"init_weights": True}), **options}
        if weights == "imagenet":
            weights = "IMAGENET1K_V1"  # what "pretrained" meant when there were no others
        if weights is None:
            model: nn.Module = models.get_model(name, num_classes=num_classes, **options)
        else:
            _check_weights(name, weights, in_channels, small_images)
            try:
                model = models.get_model(name, weights=weights, **options)
            except URLError as error:
                raise OSError(
                    f"the pretrained weights of {name} are not here and cannot be downloaded "
                    f"({error.reason}); put {_weights(name)[weights].url} into "
                    f"{torch.hub.get_dir()}/checkpoints, or let TORCH_HOME name the folder of hub/."
                ) from error
            _renew_classifier(model, len(_weights(name)[weights].meta["categories"]), num_classes)
        if small_images:
            _adapt_to_small_images(name, model)
        if in_channels != 3:
            _renew_first_convolution(name, model, in_channels)
        return model

    return build


def timm_model(name: str) -> Callable[..., nn.Module]:
    """A builder of one of timm's networks, for the registry."""

    def build(
        num_classes: int, in_channels: int = 3, weights: str | None = None, **options: Any
    ) -> nn.Module:
        """One of timm's networks, (N, in_channels, H, W) to logits (N, num_classes).

        Args:
            num_classes: C.
            in_channels: timm adapts the first layer to it.
            weights: None, or "DEFAULT" for those that timm has under this name, downloaded unless they are
                there.
            options: what timm's own builder takes.
        """
        try:
            timm = importlib.import_module("timm")
        except ImportError as error:
            raise ValueError(f"'timm:{name}' needs timm, which is not installed: pip install timm") from error
        if not timm.is_model(name):
            raise ValueError(f"timm has no model {name!r}; {_near(name, timm.list_models())}")
        if weights not in (None, "DEFAULT"):
            raise ValueError(
                f"weights is {weights!r}; timm's are part of its names, so give 'DEFAULT' or None."
            )
        if weights is not None:
            options = {"pretrained_cfg_overlay": _timm_file(timm, name), **options}
        model: nn.Module = timm.create_model(
            name, pretrained=weights is not None, num_classes=num_classes, in_chans=in_channels, **options
        )
        return model

    return build


def _timm_file(timm: Any, name: str) -> dict[str, str]:
    """What timm is to be told of where its weights are: nothing where they can be downloaded.

    Its own way through Hugging Face's library asks the network first, also for a file that is here, and tries
    for most of a minute where there is none.

    Raises:
        OSError: they are not here, and nobody answers.
    """
    hub_id = timm.models.get_pretrained_cfg(name).hf_hub_id
    if not hub_id:
        return {}
    hub = importlib.import_module("huggingface_hub")
    for file in ("model.safetensors", "pytorch_model.bin"):
        path = hub.try_to_load_from_cache(hub_id, file)
        if isinstance(path, str):
            return {"file": path}
    try:
        urlopen(Request(hub.constants.ENDPOINT, method="HEAD"), timeout=5)
    except HTTPError:
        pass  # somebody answered
    except OSError as error:
        folder = f"models--{hub_id.replace('/', '--')}"
        raise OSError(
            f"the pretrained weights of timm:{name} are not here and cannot be downloaded ({error}); where "
            f"there is a network, run `hf download {hub_id}`, and copy the folder {folder} from "
            f"~/.cache/huggingface/hub into {hub.constants.HF_HUB_CACHE}."
        ) from error
    return {}


def _near(name: str, names: list[str]) -> str:
    meant = close(name, names)
    return f"near it are {', '.join(meant)}." if meant else "its own list_models() has the names."


def _weights(name: str) -> dict[str, Any]:
    """Every set of weights that torchvision has for a network, by name."""
    from torchvision import models

    enumeration = models.get_model_weights(name)
    # __members__ and not iteration, which would leave out DEFAULT, an alias.
    return dict(enumeration.__members__)


def _check_weights(name: str, weights: str, in_channels: int, small_images: bool) -> None:
    known = _weights(name)
    if weights not in known:
        raise ValueError(f"{name} has no weights {weights!r}; there are {', '.join(known) or 'none'}.")
    if in_channels != 3 or small_images:
        raise ValueError(
            f"the pretrained weights of {name} are for three channels and its own stem; leave out "
            "small_images, and repeat a grey picture three times."
        )


def _renew_classifier(model: nn.Module, old_classes: int, num_classes: int) -> None:
    if old_classes == num_classes:
        return
    for path, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and module.out_features == old_classes:
            model.set_submodule(path, nn.Linear(module.in_features, num_classes))
        elif isinstance(module, nn.Conv2d) and module.out_channels == old_classes:
            model.set_submodule(path, nn.Conv2d(module.in_channels, num_classes, 1))


def _adapt_to_small_images(name: str, model: nn.Module) -> None:
    from torchvision.models import ResNet

    if not isinstance(model, ResNet):
        raise ValueError(f"{name} has no stem for small images; leave small_images out, or take a ResNet.")
    model.conv1 = _convolution(3, model.conv1.out_channels, kernel_size=3, padding=1, bias=False)
    model.maxpool = nn.Identity()


def _renew_first_convolution(name: str, model: nn.Module, in_channels: int) -> None:
    for path, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            if module.in_channels != 3:
                break
            shape = {"kernel_size": module.kernel_size, "stride": module.stride, "padding": module.padding}
            renewed = _convolution(in_channels, module.out_channels, **shape, bias=module.bias is not None)
            model.set_submodule(path, renewed)
            return
    raise ValueError(f"{name} cannot take {in_channels} channels; give pictures with three.")


def _convolution(in_channels: int, out_channels: int, **shape: Any) -> nn.Conv2d:
    convolution = nn.Conv2d(in_channels, out_channels, **shape)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return convolution
