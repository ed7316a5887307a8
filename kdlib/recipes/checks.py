"""What a recipe names outside itself: data sets, networks, terms, optimisers, all checked to be there."""

import inspect
import json
import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from kdlib import terms
from kdlib.data import augment, list_data
from kdlib.data.augment import Transform
from kdlib.data.catalogue import sources
from kdlib.models import create_model
from kdlib.recipes.reading import check_keys, is_plain, near, typed
from kdlib.terms import Term
from kdlib.training.optimisers import make_optimizer, make_scheduler
from kdlib.training.precision import PRECISIONS

# CRD is given the labels of the training images, which no file can hold.
TERMS: dict[str, type[Term]] = {
    name: getattr(terms, name)
    for name in terms.__all__
    if name not in ("CRD", "EMBEDDING", "Example", "LayerTerm", "Outputs", "Term")
}
TRANSFORMS: dict[str, type[Transform]] = {
    name: getattr(augment, name)
    for name in augment.__all__
    if name not in ("Augmentation", "Transform", "normalize")
}


def check_above_zero(key: str, **numbers: float | None) -> None:
    """Raise ValueError at a number that is not above 0 or not finite; None is passed over."""
    for name, value in numbers.items():
        if value is not None and not 0 < value < math.inf:
            wanted = "finite" if value == math.inf else "above 0"
            raise ValueError(f"{key}.{name} is {value}; it must be {wanted}.")


def check_data(name: str) -> None:
    """Raise ValueError unless `kdlib.load_data` knows the name."""
    if name not in list_data() and not name.startswith("folder:"):
        raise ValueError(f"data.name is {name!r}, which is no data set; {near(name, list_data())}")


def picture_size(name: str, size: int | None) -> int | None:
    """The side of the pictures in pixels; None where only the files could tell."""
    if size is not None:
        return size
    return 8 if name == "digits" else sources()[name].size if name in sources() else None


def check_network(name: str, options: Mapping[str, Any]) -> None:
    """Raise ValueError unless there is such a network with such options."""
    if "weights" in options:
        raise ValueError('student.options has a key "weights"; write start = "imagenet" instead.')
    try:
        _try_network(name, json.dumps(options, sort_keys=True))
    except ValueError as error:
        raise ValueError(f"student.name is {name!r}: {error}") from error


def check_training(
    optimizer: str,
    learning_rate: float,
    weight_decay: float,
    optimizer_options: Mapping[str, Any],
    scheduler: str | None,
    scheduler_options: Mapping[str, Any],
    precision: str,
) -> None:
    """Raise ValueError at an optimiser, scheduler, option or precision that `kdlib.fit` cannot use."""
    if precision not in PRECISIONS:
        raise ValueError(f"training.precision is {precision!r}; {near(precision, PRECISIONS)}")
    try:
        weight = nn.Parameter(torch.zeros(1))
        mover = make_optimizer(optimizer, [weight], learning_rate, weight_decay, optimizer_options)
        # How many steps there will be is known with the images; for a check two are enough.
        make_scheduler(scheduler, mover, 2, scheduler_options)
        if scheduler is None and scheduler_options:
            raise ValueError("there are scheduler_options and no scheduler; name one, or leave them out.")
    except ValueError as error:
        raise ValueError(f"training: {error}") from error


def complete_term(kind: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a term, with those filled in that were left out.

    Raises:
        ValueError: there is no such term or argument, one is missing, or the term refuses a value.
    """
    if kind not in TERMS:
        raise ValueError(f"terms: there is no term {kind!r}; {near(kind, TERMS)}")
    signature = inspect.signature(TERMS[kind])
    check_keys(options, signature.parameters, f"terms: {kind}")
    try:
        bound = signature.bind(**options)
    except TypeError as error:
        raise ValueError(f"terms: {kind} has not all it needs: {error}.") from error
    bound.apply_defaults()
    # A whole number and the same with a point are one value, and one digest.
    complete = _typed_options(f"terms: {kind}", bound.arguments, signature)
    build_term(kind, complete)
    return complete


def build_term(kind: str, options: Mapping[str, Any]) -> Term:
    """The term itself.

    Raises:
        ValueError: the term refuses a value.
    """
    try:
        made: Term = TERMS[kind](**options)
    except TypeError as error:
        raise ValueError(f"terms: {kind} refuses {dict(options)}: {error}.") from error
    return made


def build_transform(table: Mapping[str, Any], size: int | None, key: str) -> Transform:
    """A transform from a table with its kind and its arguments; a crop's `size` may be left to the data.

    Raises:
        ValueError: there is no such transform or argument, or it refuses a value.
    """
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in table.items()}
    kind = options.pop("kind", None)
    if kind not in TRANSFORMS:
        raise ValueError(f"{key} has the kind {kind!r}; {near(str(kind), TRANSFORMS)}")
    signature = inspect.signature(TRANSFORMS[kind])
    check_keys(options, signature.parameters, f"{key}: {kind}")
    _typed_options(f"{key}: {kind}", options, signature)
    if "size" in signature.parameters and "size" not in options:
        options["size"] = size
    try:
        return TRANSFORMS[kind](**options)
    except TypeError as error:
        raise ValueError(f"{key}: {kind} refuses {options}: {error}.") from error


def _typed_options(whose: str, options: Mapping[str, Any], signature: inspect.Signature) -> dict[str, Any]:
    """The options; ValueError at one that is no such number, text, true or false as its annotation asks for.

    Lists and tables are left to whoever is given them.
    """
    hints = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    return {
        name: typed(value, hints[name], f"{whose}.{name}") if is_plain(hints[name]) else value
        for name, value in options.items()
    }


@lru_cache(maxsize=256)
def _try_network(name: str, options: str) -> None:
    with torch.device("meta"):  # shapes only: no memory, no random numbers
        create_model(name, num_classes=2, **json.loads(options))
