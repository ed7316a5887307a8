"""Optimisers and schedulers of torch, by name."""

import difflib
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

# What a step of `fit` cannot do for them.
_OTHER_STEPS = {
    "LBFGS": "computes the loss several times in a step",
    "SparseAdam": "needs sparse gradients",
    "Muon": "moves matrices only",
}
# What `fit` does unless asked otherwise.
_DEFAULTS: dict[str, dict[str, Any]] = {"SGD": {"momentum": 0.9, "nesterov": True}}


def make_optimizer(
    name: str,
    parameters: Iterable[nn.Parameter],
    learning_rate: float,
    weight_decay: float,
    options: Mapping[str, Any] | None = None,
) -> Optimizer:
    """An optimiser of `torch.optim`.

    Args:
        name: its class, "SGD" or "AdamW" for instance.
        parameters: what it moves.
        learning_rate: of the first step.
        weight_decay: for an optimiser that knows one; 0 for another.
        options: its other arguments. SGD has Nesterov momentum 0.9 where nothing else is said.

    Raises:
        ValueError: there is no such optimiser or option, or a value is out of its range.
    """
    kind, chosen = _plan_optimizer(name, weight_decay, options)
    made: Optimizer = kind(parameters, lr=learning_rate, **chosen)
    return made


def check_optimizer(name: str, weight_decay: float, options: Mapping[str, Any] | None = None) -> None:
    """Raise ValueError where `make_optimizer` would refuse a name, and build nothing."""
    _plan_optimizer(name, weight_decay, options)


def make_scheduler(
    name: str | None, optimizer: Optimizer, steps: int, options: Mapping[str, Any] | None = None
) -> LRScheduler | None:
    """A scheduler of `torch.optim.lr_scheduler`; None keeps the learning rate.

    Args:
        name: its class, "CosineAnnealingLR" or "MultiStepLR" for instance.
        optimizer: whose learning rate it sets.
        steps: how often it will be called; what the cosine takes for ``T_max`` where nothing else is said.
        options: its other arguments.

    Raises:
        ValueError: there is no such scheduler or option, it needs a measurement, or a value is out of range.
    """
    if name is None:
        return None
    kind = _scheduler(name)
    chosen = {**({"T_max": steps} if name == "CosineAnnealingLR" else {}), **(options or {})}
    _check_options(name, chosen, set(inspect.signature(kind).parameters) - {"optimizer"})
    try:
        made: LRScheduler = kind(optimizer, **chosen)
    except TypeError as error:
        raise ValueError(f"{name} needs other options than {chosen}: {error}.") from error
    return made


def check_scheduler(name: str | None, options: Mapping[str, Any] | None = None) -> None:
    """Raise ValueError where `make_scheduler` would refuse a name, and build nothing."""
    if name is not None:
        _check_options(
            name, options or {}, set(inspect.signature(_scheduler(name)).parameters) - {"optimizer"}
        )


def scheduler_state(schedule: LRScheduler) -> dict[str, Any]:
    """What changes as the scheduler goes; the rest comes from how it was made."""
    return {
        name: value
        for name, value in schedule.state_dict().items()
        if isinstance(value, int | float)
        or (isinstance(value, list) and all(isinstance(item, int | float) for item in value))
    }


def _plan_optimizer(
    name: str, weight_decay: float, options: Mapping[str, Any] | None
) -> tuple[Any, dict[str, Any]]:
    """The class, and all its arguments but the learning rate."""
    kind = _named(torch.optim, name, Optimizer, "optimiser")
    if name in _OTHER_STEPS:
        raise ValueError(f"{name} {_OTHER_STEPS[name]}, which training here does not; take 'AdamW' or 'SGD'.")
    chosen = {**_DEFAULTS.get(name, {}), **(options or {})}
    known = inspect.signature(kind).parameters
    _check_options(name, chosen, set(known) - {"params", "lr", "weight_decay"})
    if "weight_decay" in known:
        chosen["weight_decay"] = weight_decay
    elif weight_decay:
        raise ValueError(f"{name} has no weight decay; give weight_decay=0.")
    return kind, chosen


def _scheduler(name: str) -> Any:
    kind = _named(lr_scheduler, name, LRScheduler, "scheduler")
    if name == "ReduceLROnPlateau":
        raise ValueError("ReduceLROnPlateau follows a measurement, and nothing here may follow the test set.")
    return kind


def _named(module: Any, name: str, base: type, what: str) -> Any:
    kinds = {
        key: kind
        for key, kind in vars(module).items()
        if isinstance(kind, type) and issubclass(kind, base) and kind is not base and not key.startswith("_")
    }
    if name not in kinds:
        lower = {kind.lower(): kind for kind in kinds}
        near = difflib.get_close_matches(name.lower(), lower, n=1)
        hint = f"did you mean {lower[near[0]]!r}? " if near else ""
        raise ValueError(f"torch has no {what} called {name!r}; {hint}There are: {', '.join(sorted(kinds))}.")
    return kinds[name]


def _check_options(name: str, options: Mapping[str, Any], known: set[str]) -> None:
    for option in options:
        if option not in known:
            raise ValueError(f"{name} has no option {option!r}; it has {', '.join(sorted(known))}.")
