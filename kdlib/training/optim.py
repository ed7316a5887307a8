"""Optimisers and schedulers of torch, by name or as somebody made them."""

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LRScheduler
from torch.utils._pytree import tree_leaves, tree_map

from kdlib.names import near

# What a step of `fit` cannot do for them.
_OTHER_STEPS = {
    "LBFGS": "computes the loss several times in a step",
    "SparseAdam": "needs sparse gradients",
    "Muon": "moves matrices only",
}
_PARTS = "_schedulers"
# What `fit` does unless asked otherwise.
_DEFAULTS: dict[str, dict[str, Any]] = {"SGD": {"momentum": 0.9, "nesterov": True}}


def make_optimizer(
    given: str | Optimizer | Callable[[nn.Module], Optimizer],
    module: nn.Module,
    learning_rate: float,
    weight_decay: float,
    options: Mapping[str, Any] | None = None,
) -> Optimizer:
    """The optimiser of a module.

    Args:
        given: the name of a class of `torch.optim`, "SGD" or "AdamW" for instance; an optimiser; or what
            makes one of the module. The other arguments are for a name.
        module: what it trains.
        learning_rate: of the first step.
        weight_decay: for an optimiser that knows one; 0 for another.
        options: its other arguments. SGD has Nesterov momentum 0.9 where nothing else is said.

    Raises:
        ValueError: there is no such optimiser or option, a value is of another type or out of its range, or
            an optimiser that was given leaves out what is trained beside the networks.
    """
    if isinstance(given, str):
        return _optimizer_named(given, module.parameters(), learning_rate, weight_decay, options)
    if options:
        raise ValueError("there are optimizer_options, which are for an optimizer by name; leave them out.")
    made = given if isinstance(given, Optimizer) else _made(given, "optimizer", Optimizer, module)
    _check_trains(made, module)
    return made


def _check_trains(optimizer: Optimizer, module: nn.Module) -> None:
    """Raise ValueError unless all weights of the terms are in the optimiser: nobody sees that they are not.

    Those of a network may be left out, on purpose.
    """
    known = {id(weight) for group in optimizer.param_groups for weight in group["params"]}
    names = [name for name, weight in module.named_parameters() if weight.requires_grad]
    missing = [name for name in names if id(module.get_parameter(name)) not in known]
    terms = [name for name in missing if name.split(".")[0].endswith("terms")]
    if terms or len(missing) == len(names):
        some = (terms or missing)[0]
        raise ValueError(
            f"the optimizer leaves out {some}, which is to be trained; give what makes it of all weights, "
            "optimizer=lambda module: torch.optim.AdamW(module.parameters(), lr=1e-3) for instance."
        )


def _made(make: Any, what: str, kind: type, *arguments: Any) -> Any:
    """What a user's function makes, if it is of this kind."""
    if not callable(make):
        raise ValueError(
            f"{what} is a {type(make).__name__}; give the name of a class of torch, or what makes one."
        )
    try:
        made = make(*arguments)
    except Exception as error:
        raise ValueError(f"{what} could not be made: {type(error).__name__}: {error}") from error
    if not isinstance(made, kind):
        raise ValueError(f"{what} makes a {type(made).__name__}; have it return a {kind.__name__}.")
    return made


def _optimizer_named(
    name: str,
    parameters: Iterable[nn.Parameter],
    learning_rate: float,
    weight_decay: float,
    options: Mapping[str, Any] | None,
) -> Optimizer:
    for key, number in (("learning_rate", learning_rate), ("weight_decay", weight_decay)):
        if not 0 <= number < math.inf:
            raise ValueError(f"{key} is {number}; it must be 0 or more, and finite.")
    # A record and a checkpoint are JSON, which knows no other numbers than Python's.
    learning_rate, weight_decay = float(learning_rate), float(weight_decay)
    kind = _named(torch.optim, name, Optimizer, "optimiser")
    if name in _OTHER_STEPS:
        raise ValueError(f"{name} {_OTHER_STEPS[name]}, which training here does not; take 'AdamW' or 'SGD'.")
    chosen = {**_DEFAULTS.get(name, {}), **_as_python(options)}
    _check_options(name, chosen, kind, {"params", "lr", "weight_decay"})
    if "weight_decay" in inspect.signature(kind).parameters:
        chosen["weight_decay"] = weight_decay
    elif weight_decay:
        raise ValueError(f"{name} has no weight decay; give weight_decay=0.")
    with _refusals(name, chosen):
        made: Optimizer = kind(parameters, lr=learning_rate, **chosen)
    return made


def make_scheduler(
    given: str | Callable[[Optimizer, int], LRScheduler] | None,
    optimizer: Optimizer,
    steps: int,
    options: Mapping[str, Any] | None = None,
) -> LRScheduler | None:
    """A scheduler of `torch.optim.lr_scheduler`; None keeps the learning rate.

    Args:
        given: the name of its class, "CosineAnnealingLR" or "MultiStepLR" for instance; or what makes one of
            the optimiser and `steps`.
        optimizer: whose learning rate it sets.
        steps: how often it will be called; what the cosine takes for ``T_max`` where nothing else is said.
        options: its other arguments.

    Raises:
        ValueError: there is no such scheduler or option, it needs a measurement, or a value is of another
            type or out of its range.
    """
    if given is None:
        return None
    if not isinstance(given, str):
        if options:
            raise ValueError(
                "there are scheduler_options, which are for a scheduler by name; leave them out."
            )
        scheduler: LRScheduler = _made(given, "scheduler", LRScheduler, optimizer, steps)
        return scheduler
    name = given
    kind = _named(lr_scheduler, name, LRScheduler, "scheduler")
    if name == "ReduceLROnPlateau":
        raise ValueError("ReduceLROnPlateau follows a measurement, and nothing here may follow the test set.")
    chosen = {**({"T_max": steps} if name == "CosineAnnealingLR" else {}), **_as_python(options)}
    # A run begins at its beginning; where it goes on is in its checkpoint.
    _check_options(name, chosen, kind, {"optimizer", "last_epoch"})
    with _refusals(name, chosen):
        made: LRScheduler = kind(optimizer, **chosen)
    return made


def scheduler_state(schedule: LRScheduler) -> dict[str, Any]:
    """What changes as the scheduler goes, and its parts; the rest comes from how it was made."""
    own = {
        name: value
        for name, value in schedule.state_dict().items()
        if isinstance(value, int | float)
        or (isinstance(value, list) and all(isinstance(item, int | float) for item in value))
    }
    parts = _parts(schedule)
    return own | ({_PARTS: [scheduler_state(part) for part in parts]} if parts else {})


def restore_scheduler(schedule: LRScheduler, state: Mapping[str, Any]) -> None:
    """The inverse of `scheduler_state`.

    Torch's own would ask some schedulers for what comes from how they were made.
    """
    vars(schedule).update({name: value for name, value in state.items() if name != _PARTS})
    for part, of in zip(_parts(schedule), state.get(_PARTS, []), strict=True):
        restore_scheduler(part, of)


def _parts(schedule: LRScheduler) -> list[LRScheduler]:
    """The schedulers that a SequentialLR or a ChainedScheduler is made of."""
    return list(getattr(schedule, _PARTS, []))


def _as_python(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """The options with NumPy's and torch's numbers in them as Python's."""
    plain: dict[str, Any] = tree_map(
        lambda value: value.tolist() if hasattr(value, "tolist") else value, dict(options or {})
    )
    return plain


def _named(module: Any, name: str, base: type, what: str) -> Any:
    kinds = {
        key: kind
        for key, kind in vars(module).items()
        if isinstance(kind, type) and issubclass(kind, base) and kind is not base and not key.startswith("_")
    }
    if name not in kinds:
        raise ValueError(f"torch has no {what} called {name!r}; {near(name, sorted(kinds))}")
    return kinds[name]


def _check_options(name: str, options: Mapping[str, Any], kind: Any, ours: set[str]) -> None:
    """Raise ValueError at an option that the class has not or that is `ours` to give, or of another type."""
    known = {
        option: parameter.default
        for option, parameter in inspect.signature(kind).parameters.items()
        if option not in ours
    }
    for option, value in options.items():
        if option not in known:
            raise ValueError(f"{name} has no option {option!r}; it has {', '.join(sorted(known))}.")
        wanted = _wanted(option, value, known[option])
        if wanted is not None:
            raise ValueError(f"{option} of {name} is {value!r}; write {wanted}.")


def _wanted(option: str, value: Any, default: Any) -> str | None:
    """What to write instead of a value of another type than the default's; None where it is of that type.

    Torch looks at few types: with a text in place of a list, or of true or false, it would train.
    """
    if option == "milestones":
        steps = value if isinstance(value, list | tuple) else [None]
        is_right = all(isinstance(step, int) and not isinstance(step, bool) and step > 0 for step in steps)
        return None if is_right else "a list of whole numbers above 0, such as [3, 5]"
    if isinstance(default, bool):
        return None if isinstance(value, bool) else "true or false"
    if isinstance(default, str):
        return None
    leaves = tree_leaves(value)
    if default is None:
        return "a number, true or false" if any(isinstance(leaf, str) for leaf in leaves) else None
    is_right = not any(
        isinstance(leaf, str | bool) or (isinstance(leaf, float) and not math.isfinite(leaf))
        for leaf in leaves
    )
    return None if is_right else "a finite number"


@contextmanager
def _refusals(name: str, options: Mapping[str, Any]) -> Iterator[None]:
    """Turn whatever torch raises at options into one sentence."""
    try:
        yield
    except Exception as error:
        said = str(error).strip().rstrip(".")
        raise ValueError(f"{name} needs other options than {dict(options)}: {said}.") from error
