"""What a file has, checked by pydantic, with an error of one sentence that names the key."""

import inspect
from collections.abc import Callable, Collection, Mapping
from functools import cache
from types import NoneType
from typing import Annotated, Any, TypeVar, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    JsonValue,
    TypeAdapter,
    ValidationError,
    create_model,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from torch import Tensor

from kdlib.names import near
from kdlib.terms.base import Layers
from kdlib.terms.weights import Weight

T = TypeVar("T")

# What an annotation of this kind holds a record can hold: no dates, which TOML knows.
Options = dict[str, JsonValue]

_STRICT = ConfigDict(strict=True, extra="forbid", frozen=True)

# What to do about each kind of error that pydantic knows and a recipe can have.
_REMEDIES = {
    "bool_type": "write true or false",
    "dict_type": "write a table",
    "finite_number": "it must be finite",
    "float_type": "write a number",
    "greater_than": "it must be above {gt:g}",
    "int_from_float": "write a whole number",
    "int_type": "write a whole number",
    "is_instance_of": "write a list",
    "list_type": "write a list",
    "literal_error": "write {expected}",
    "model_type": "write a table",
    "sequence_str": "write a list",
    "string_type": "write text",
    "too_long": "write a list of {max_length}",
    "tuple_type": "write a list",
}


def read(kind: Callable[..., T], table: object, key: str) -> T:
    """What a class makes of a table with its arguments.

    Raises:
        ValueError: as `arguments`, or the class refuses a value.
    """
    return kind(**arguments(kind, table, key))


def arguments(kind: Callable[..., Any], table: object, key: str, complete: bool = False) -> dict[str, Any]:
    """A class's arguments from a table, of the types of their annotations.

    A number may be written without a decimal point; an empty text stands for None where None is allowed,
    because TOML has no null.

    Args:
        kind: a class whose arguments are annotated.
        table: what the file has.
        key: where it has it, for messages; "" for the whole file or recipe.
        complete: with the defaults of those that are not there.

    Raises:
        ValueError: a key is unknown or missing, or a value is of another type or out of range.
    """
    made = check(_model(kind), table, key)
    return {name: value for name, value in made if complete or name in made.model_fields_set}


def check(kind: Any, value: object, key: str) -> Any:
    """The value as pydantic has it for a type; ValueError where it is none."""
    try:
        return TypeAdapter(kind).validate_python(value, strict=True)
    except ValidationError as error:
        # A key that is misspelt is missing, too.
        first = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
        raise ValueError(_sentence(first, key, getattr(kind, "model_fields", {}))) from None


def as_seeds(value: object, key: str) -> tuple[int, ...]:
    """The value, which has to be a list of seeds; each once, because no run may count twice."""
    seeds = check(list[int], value, key)
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise ValueError(f"{key} is {value}; write one whole number or more, none below 0 and none twice.")
    return tuple(seeds)


def as_table(value: object, key: str, known: Collection[str] | None = None) -> Mapping[str, Any]:
    """The value, which has to be a table; where keys are known, without others."""
    table: dict[str, Any] = check(dict[str, Any], value, key)
    for name in table:
        if known is not None and name not in known:
            raise ValueError(_unknown(name, key, known))
    return table


@cache
def _model(kind: Callable[..., Any]) -> type[BaseModel]:
    """The arguments of a class, as pydantic checks them."""
    fields: dict[str, Any] = {
        name: (
            _allowed(parameter.annotation),
            ... if parameter.default is parameter.empty else parameter.default,
        )
        for name, parameter in inspect.signature(kind, eval_str=True).parameters.items()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and Tensor not in get_args(parameter.annotation)  # no file can hold one
    }
    model: type[BaseModel] = create_model(kind.__name__, __config__=_STRICT, **fields)
    return model


def _allowed(annotation: Any) -> Any:
    # Of layers, a term says itself better what is wrong than a union of so many types.
    kind = JsonValue if annotation in (Layers, inspect.Parameter.empty) else annotation
    kind = float if kind == Weight else kind
    if NoneType in get_args(kind):
        return Annotated[kind, BeforeValidator(lambda value: None if value == "" else value)]
    return kind


def _unknown(name: str, key: str, known: Collection[str]) -> str:
    return f"{key or 'it'} has no key {name!r}; {near(name, known)}"


def _sentence(error: ErrorDetails, key: str, fields: Mapping[str, FieldInfo]) -> str:
    """What, where and what to do, in the place of pydantic's own lines."""
    kind, value = error["type"], error["input"]
    # Inside a value of JSON, pydantic says before each key what it is a key of.
    path = [str(part) for part in error["loc"] if part not in ("dict", "list")]
    place = ".".join(filter(None, [key, *path]))
    if kind == "missing":
        return f"{place.rpartition('.')[0] or 'it'} has no {path[-1]!r}; add it."
    if kind == "extra_forbidden":
        return _unknown(path[-1], key, list(fields))
    if kind == "invalid-json-value":
        return f"{place} is the {type(value).__name__} {value}; write a number, or text in quotation marks."
    remedy = _REMEDIES[kind].format(**error.get("ctx", {})) if kind in _REMEDIES else error["msg"].lower()
    optional = len(path) == 1 and path[0] in fields and NoneType in get_args(fields[path[0]].annotation)
    nothing = ' or nothing ("")' if optional else ""
    return f"{place} is {value!r}; {remedy}{nothing}."
