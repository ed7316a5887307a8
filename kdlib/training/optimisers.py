"""Optimisers and schedulers of torch, by name."""

import copy
import difflib
import inspect
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from numbers import Integral, Real
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
# What torch writes at its arguments, and what that asks for. The others show when a step is tried.
_IN_WORDS = {"bool": "true or false", "int": "a whole number", "float": "a finite number", "None": "nothing"}
# A scheduler shows by its second step what it can do with its options.
_STEPS_TO_TRY = 2


def make_optimizer(
    name: str,
    parameters: Iterable[nn.Parameter],
    learning_rate: float,
    weight_decay: float,
    options: Mapping[str, Any] | None = None,
) -> Optimizer:
    """An optimiser of `torch.optim`, after a step with such a one was tried on a weight made up for it.

    Args:
        name: its class, "SGD" or "AdamW" for instance.
        parameters: what it moves.
        learning_rate: of the first step.
        weight_decay: for an optimiser that knows one; 0 for another.
        options: its other arguments. SGD has Nesterov momentum 0.9 where nothing else is said.

    Raises:
        ValueError: there is no such optimiser or option, or a value is of another type or out of its range.
    """
    for key, number in (("learning_rate", learning_rate), ("weight_decay", weight_decay)):
        if not 0 <= number < math.inf:
            raise ValueError(f"{key} is {number}; it must be 0 or more, and finite.")
    kind, chosen = _plan_optimizer(name, weight_decay, options)
    with _refusals(name, chosen):
        _try_step(kind, learning_rate, chosen)
    made: Optimizer = kind(parameters, lr=learning_rate, **chosen)
    return made


def make_scheduler(
    name: str | None, optimizer: Optimizer, steps: int, options: Mapping[str, Any] | None = None
) -> LRScheduler | None:
    """A scheduler of `torch.optim.lr_scheduler`, tried for two steps; None keeps the learning rate.

    Args:
        name: its class, "CosineAnnealingLR" or "MultiStepLR" for instance.
        optimizer: whose learning rate it sets.
        steps: how often it will be called; what the cosine takes for ``T_max`` where nothing else is said.
        options: its other arguments.

    Raises:
        ValueError: there is no such scheduler or option, it needs a measurement, or a value is of another
            type or out of its range.
    """
    if name is None:
        return None
    kind = _scheduler(name)
    chosen = {**({"T_max": steps} if name == "CosineAnnealingLR" else {}), **(options or {})}
    # A run begins at its beginning; where it goes on is in its checkpoint.
    _check_options(name, chosen, kind, {"optimizer", "last_epoch"})
    with _refusals(name, chosen):
        _try_schedule(kind, optimizer, chosen, min(steps, _STEPS_TO_TRY))
    made: LRScheduler = kind(optimizer, **chosen)
    return made


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
    _check_options(name, chosen, kind, {"params", "lr", "weight_decay"})
    if "weight_decay" in inspect.signature(kind).parameters:
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


def _check_options(name: str, options: Mapping[str, Any], kind: Any, ours: set[str]) -> None:
    """Raise ValueError at an option that the class has not or that is `ours` to give, or of another type."""
    known = {
        option: parameter.annotation
        for option, parameter in inspect.signature(kind).parameters.items()
        if option not in ours
    }
    for option, value in options.items():
        if option not in known:
            raise ValueError(f"{name} has no option {option!r}; it has {', '.join(sorted(known))}.")
        wanted = _wanted(option, value, known[option])
        if wanted is not None:
            raise ValueError(f"{option} of {name} is {value!r}; write {wanted}.")


def _wanted(option: str, value: Any, annotation: Any) -> str | None:
    """What to write instead of a value of another type; None where nothing speaks against it.

    Torch itself looks at few types: a text in place of a list, or of true or false, it would train with.
    """
    if option == "milestones":
        is_list = isinstance(value, list | tuple) and all(_is(item, "int") and item > 0 for item in value)
        return None if is_list else "a list of whole numbers above 0, such as [3, 5]"
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    kinds = text.split(" | ")
    if not _IN_WORDS.keys() >= set(kinds) or any(_is(value, kind) for kind in kinds):
        return None
    return " or ".join(_IN_WORDS[kind] for kind in kinds)


def _is(value: Any, kind: str) -> bool:
    if kind == "None":
        return value is None
    if kind == "bool" or isinstance(value, bool):
        return kind == "bool" and isinstance(value, bool)
    if kind == "int":
        return isinstance(value, Integral)
    return isinstance(value, Real) and math.isfinite(value)


def _try_step(kind: Any, learning_rate: float, options: Mapping[str, Any]) -> None:
    weight = nn.Parameter(torch.zeros(1))
    weight.grad = torch.zeros(1)
    # A capturable optimiser steps on a GPU only, and the recipe may be for one.
    chosen = {option: value for option, value in options.items() if option != "capturable"}
    kind([weight], lr=learning_rate, **chosen).step()


def _try_schedule(kind: Any, optimizer: Optimizer, options: Mapping[str, Any], steps: int) -> None:
    """Go so many steps on a copy of the optimiser that moves nothing and whose rates nobody needs."""
    stand_in = copy.copy(optimizer)
    stand_in.param_groups = [{**group, "params": []} for group in optimizer.param_groups]
    schedule = kind(stand_in, **options)
    for _ in range(steps):
        stand_in.step()
        schedule.step()


@contextmanager
def _refusals(name: str, options: Mapping[str, Any]) -> Iterator[None]:
    """Turn whatever torch raises at options into one sentence."""
    try:
        yield
    except Exception as error:
        said = str(error).strip().rstrip(".")
        raise ValueError(f"{name} needs other options than {dict(options)}: {said}.") from error
