"""Values as records and checkpoints have them: JSON that is the same, in every process, where the value is.

What Python prints of a function or of many an object is its place in memory, which is another in each run.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from functools import partial
from numbers import Integral, Real
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

_PLACE_IN_MEMORY = re.compile(r" at 0x[0-9a-fA-F]+")
# Of an array or a tensor with more numbers than these a record has a hash.
_FEW = 32


def plain(value: Any) -> Any:
    """A value as JSON.

    Numbers of NumPy and torch become Python's. A function is its name and a hash of its code, with the values
    that it was made with and the numbers and functions around it that it names. Another object is what it
    prints, or, where that is its place in memory, its kind, a hash of its code, and its attributes.

    Raises:
        ValueError: nothing but its place in memory tells the value from another one.
    """
    return _plain(value, frozenset())


def plain_repr(value: Any) -> str:
    """What a value prints, or `plain` of it where that is cut short, in no order, or its place in memory."""
    text = repr(value)
    if not (hasattr(value, "tolist") or isinstance(value, set) or _PLACE_IN_MEMORY.search(text)):
        return text
    try:
        return json.dumps(plain(value))
    except ValueError:
        return _PLACE_IN_MEMORY.sub("", text)


def _plain(value: Any, inside: frozenset[int]) -> Any:
    if id(value) in inside:
        return "…"
    inside |= {id(value)}
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value) if math.isfinite(value) else str(value)
    if hasattr(value, "tolist"):
        numbers = value.tolist()
        return numbers if math.prod(value.shape) <= _FEW else [str(value.dtype), *value.shape, _hash(numbers)]
    if isinstance(value, Mapping):
        return {str(key): _plain(item, inside) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, inside) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((_plain(item, inside) for item in value), key=json.dumps)
    if isinstance(value, type | BuiltinFunctionType | ModuleType):
        return _name(value)
    if isinstance(value, FunctionType):
        return {"function": _name(value), "code": _hash([_function(value, inside)])}
    if isinstance(value, MethodType):
        return [_plain(value.__func__, inside), _plain(value.__self__, inside)]
    if isinstance(value, partial):
        return _plain([value.func, value.args, value.keywords], inside)
    return _object(value, inside)


def _object(value: Any, inside: frozenset[int]) -> Any:
    text = repr(value)
    if not _PLACE_IN_MEMORY.search(text):
        return text
    try:
        reduced = value.__reduce_ex__(2)
    except TypeError as error:
        raise ValueError(
            f"{text} cannot be told from another {type(value).__name__} in a later run; give numbers, text, "
            "lists, functions, or an object that prints what it is made of."
        ) from error
    attributes = reduced if isinstance(reduced, str) else reduced[1:]
    methods = [item for item in vars(type(value)).values() if isinstance(item, FunctionType)]
    code = _hash([_function(method, inside) for method in methods])
    return {"kind": _name(type(value)), "code": code, "attributes": _plain(attributes, inside)}


def _function(function: FunctionType, inside: frozenset[int]) -> list[Any]:
    """Everything that tells what a function computes."""
    cells = [cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell)]
    made_with = [function.__defaults__, function.__kwdefaults__, cells]
    code = [[part.co_code.hex(), part.co_names, _constants(part)] for part in _parts(function.__code__)]
    names = {name for part in _parts(function.__code__) for name in part.co_names}
    around = {name: function.__globals__[name] for name in sorted(names & function.__globals__.keys())}
    named = {name: item for name, item in around.items() if _may_change(item, function)}
    return [_plain(item, inside) for item in (code, made_with, named)]


def _parts(code: CodeType) -> Iterator[CodeType]:
    """The code itself, and that of the functions which it makes."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _parts(constant)


def _constants(code: CodeType) -> list[Any]:
    return [constant for constant in code.co_consts if not isinstance(constant, CodeType)]


def _may_change(item: Any, function: FunctionType) -> bool:
    """Whether somebody may write another value or function there, and not only install another library."""
    if isinstance(item, FunctionType):
        return item.__module__ == function.__module__
    return item is None or isinstance(item, bool | Real | str)


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:
        return False


def _name(value: Any) -> str:
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", value.__name__)
    return f"{module}.{name}" if module else name


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:12]
