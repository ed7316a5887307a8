"""From a table of a TOML file to a frozen dataclass, with an error that names the key."""

import datetime
import difflib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")

# More names than these are not all listed.
_MANY = 20

_IN_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", dict: "a table"}


def read(kind: type[T], table: object, key: str) -> T:
    """An object of a dataclass from a table with its fields.

    A number may be written without a decimal point; an empty text stands for None where None is allowed,
    because TOML has no null.

    Args:
        kind: a dataclass.
        table: what the file has.
        key: where it has it, for messages.

    Raises:
        ValueError: a key is unknown or missing, or a value is of another type or out of range.
    """
    values = as_table(table, key)
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]  # a dataclass
    check_keys(values, known, key)
    for name, field in known.items():
        if field.default is MISSING and field.default_factory is MISSING and name not in values:
            raise ValueError(f"{key} has no {name!r}; add it.")
    hints = get_type_hints(kind)
    return kind(**{name: typed(value, hints[name], f"{key}.{name}") for name, value in values.items()})


def as_table(value: object, key: str) -> Mapping[str, Any]:
    """The value, which has to be a table."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{key} is {value!r}; write a table there.")
    return value


def as_list(value: object, key: str) -> list[Any]:
    """The value, which has to be a list."""
    if not isinstance(value, list):
        raise ValueError(f"{key} is {value!r}; write a list there.")
    return value


def as_seeds(value: object, key: str) -> tuple[int, ...]:
    """The value, which has to be a list of seeds; each once, because no run may count twice."""
    seeds = tuple(typed(seed, int, key) for seed in as_list(value, key))
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise ValueError(f"{key} is {value}; write one whole number or more, none below 0 and none twice.")
    return seeds


def check_no_dates(value: object, key: str) -> None:
    """Raise ValueError at a date or a time, which TOML knows and a record does not."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            check_no_dates(item, f"{key}.{name}")
    elif isinstance(value, list):
        for item in value:
            check_no_dates(item, key)
    elif isinstance(value, datetime.date | datetime.time):
        raise ValueError(f"{key} is the date or time {value}; write a number, or text in quotation marks.")


def check_keys(table: Iterable[str], known: Iterable[str], key: str) -> None:
    """Raise ValueError at a key that is not among the known ones."""
    for name in table:
        if name not in known:
            raise ValueError(f"{key} has no key {name!r}; {near(name, known)}")


def near(name: str, known: Iterable[str]) -> str:
    """What may have been meant, and what there is."""
    names = list(known)
    found = difflib.get_close_matches(name, names, n=3)
    if not found and len(names) > _MANY:
        return f"there are {len(names)}, such as {', '.join(names[:3])}."
    if not found:
        return f"there are: {', '.join(names)}."
    meant = f"did you mean {' or '.join(map(repr, found))}?"
    return meant if len(names) > _MANY else f"{meant} There are: {', '.join(names)}."


def typed(value: Any, wanted: Any, key: str) -> Any:
    """The value, if it is of the type of an annotation."""
    kinds = get_args(wanted) if get_origin(wanted) is UnionType else (wanted,)
    if NoneType in kinds and value in ("", None):
        return None
    for kind in kinds:
        origin = get_origin(kind) or kind
        if origin is Literal and value in get_args(kind):
            return value
        if origin is float and type(value) in (int, float):
            return float(value)
        if type(value) is origin:
            return value
    raise ValueError(f"{key} is {value!r}; write {' or '.join(map(_in_words, kinds))}.")


def is_plain(wanted: Any) -> bool:
    """Whether an annotation asks for numbers, text, truth values or None, and so can be `typed`."""
    kinds = get_args(wanted) if get_origin(wanted) is UnionType else (wanted,)
    return all(kind in (bool, int, float, str, NoneType) or get_origin(kind) is Literal for kind in kinds)


def _in_words(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(f'"{option}"' for option in get_args(kind))
    return 'nothing ("")' if kind is NoneType else _IN_WORDS[get_origin(kind) or kind]
