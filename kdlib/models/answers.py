"""What a network answers, in whatever form it comes: a tensor of logits."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

# What answers to images: a network, or anything else that can be called.
Network = nn.Module | Callable[[Tensor], Any]


class Function(nn.Module):
    """A function from images to logits in the place of a network: without weights, modes and layers.

    It is called with float32 images on the device of the training, without autocast, and its answers are
    brought there. Arrays of NumPy are taken too.

    Args:
        function: any callable, such as `kdlib.deploy.load_onnx` gives.
    """

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        # In a tuple, so that a module that refuses eval() is no module of this one.
        self._function = (function,)

    @property
    def title(self) -> str:
        """What tells it from other functions in a record."""
        function = self._function[0]
        return f"function {getattr(function, '__qualname__', type(function).__name__)}"

    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):
            output = self._function[0](images.float())
        if isinstance(output, np.ndarray):
            output = torch.from_numpy(output)
        return logits_of(output, self.title).to(images.device)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "Function":
        function = self._function[0]
        if isinstance(function, nn.Module):
            function._apply(fn, recurse)
        return self


class FullPrecision(nn.Module):
    """A network that cannot compute under autocast, such as a quantised one, asked without it.

    It is kept under the name ``module``, through which `tap` looks.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.module = network

    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):
            return compute_logits(self.module, images.float())


def as_network(model: object, whose: str) -> nn.Module:
    """The model itself where it is a network; a `Function` of it where it can only be called.

    Programs of torch.export are such, because they refuse evaluation mode.

    Args:
        model: what a user gave.
        whose: its part, "teacher" for instance, for the message.

    Raises:
        ValueError: it is neither a network nor a function.
    """
    if isinstance(model, ExportedProgram):
        return Function(model.module())
    if isinstance(model, nn.Module):
        return Function(model) if "eval" in vars(model) else model
    if not callable(model) or isinstance(model, type):
        what = f"the class {model.__name__}" if isinstance(model, type) else f"a {type(model).__name__}"
        raise ValueError(
            f"the {whose} is {what}; give a network (an nn.Module) or a function from images to logits."
        )
    return Function(model)


def compute_logits(network: nn.Module, images: Tensor) -> Tensor:
    """A network's logits. Images go in as its weights are, and half precision comes back as float32.

    Raises:
        ValueError: it answers with something else, and the message says what to do.
    """
    dtype = next((weight.dtype for weight in network.parameters() if weight.is_floating_point()), None)
    if dtype in (None, torch.float32):
        return logits_of(network(images), type(network).__name__)
    logits = logits_of(network(images.to(dtype)), type(network).__name__)
    return logits.float() if dtype in (torch.float16, torch.bfloat16) else logits


def logits_of(output: object, whose: str) -> Tensor:
    """The tensor that is the output, or that it has as ``.logits`` or under the key "logits".

    Raises:
        ValueError: there is none.
    """
    if isinstance(output, Tensor):
        return output
    logits = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if isinstance(logits, Tensor):
        return logits
    keys = f" with the keys {', '.join(map(repr, output))}" if isinstance(output, Mapping) else ""
    raise ValueError(
        f"{whose} answers with a {type(output).__name__}{keys} and not with logits; have its forward return "
        "the tensor (N, C), or something that has it as .logits or under the key 'logits', or name it, "
        "kdlib.models.View(network, output='prediction'). A teacher may be a function, such as lambda "
        "images: network(images)[0]."
    )


def warn_of_probabilities(answers: Tensor, whose: str) -> None:
    """Warn where a softmax or a sigmoid made these answers, (N, C), which are taken for logits.

    The softmax of probabilities is all but uniform: a student learns next to nothing from it. Logarithms of
    probabilities are logits, up to a constant, and right.
    """
    if _are_probabilities(answers.detach()):
        warnings.warn(
            f"the {whose}'s answers look like probabilities, all of them between 0 and 1, and are taken for "
            "logits; leave out the softmax or sigmoid at its end, or take the logarithms of probabilities "
            "(for a teacher, lambda images: network(images).clamp_min(1e-9).log()).",
            stacklevel=3,
        )


def _are_probabilities(answers: Tensor) -> bool:
    """All lie in [0, 1], and either every row sums to 1 or the answers reach from 0 to 1.

    Rows of equal values, which a missing teacher gives, say nothing.
    """
    if answers.ndim != 2:
        return False
    values = answers.float()
    values = values[values.amax(1) > values.amin(1)]
    if not len(values) or bool((values < 0).any() | (values > 1.01).any()):
        return False
    # As near as half precision comes.
    sum_to_one = bool(((values.sum(1) - 1).abs() < 0.02).all())
    return sum_to_one or bool(values.max() > 0.95 and values.min() < 0.05)
