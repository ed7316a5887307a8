"""What users register: terms, networks and data sets of their own, each under a name."""

import importlib
import inspect
import re
import sys
import textwrap
import traceback
from pathlib import Path
from typing import Any, Literal

Kind = Literal["term", "network", "data set"]

_OWN: dict[Kind, dict[str, Any]] = {"term": {}, "network": {}, "data set": {}}


def registered(kind: Kind) -> dict[str, Any]:
    """What was registered of a kind, by name."""
    return dict(_OWN[kind])


def enter(kind: Kind, name: str, thing: Any, *, is_ours: bool) -> None:
    """Register a thing. One that is defined anew, as by a cell of a notebook that runs twice, is replaced.

    Args:
        kind: of the thing.
        name: for recipes, and for the function that makes such a thing by its name.
        thing: a class or a function.
        is_ours: whether kdlib itself has something of this name.

    Raises:
        ValueError: the name is none, or another thing's.
    """
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][\w.-]*", name):
        raise ValueError(
            f'the name of a {kind} is {name!r}; write one of letters, digits, "_", "-" and ".", such as '
            '@register("mine").'
        )
    there = _OWN[kind].get(name)
    if is_ours or (there is not None and _home(there) != _home(thing)):
        raise ValueError(f"there is a {kind} called {name!r} already; give yours another name.")
    _OWN[kind][name] = thing


def source_of(thing: Any) -> tuple[str, bytes]:
    """The file that defines a registered thing, and what is in it; in a notebook, the thing's own lines."""
    module = sys.modules.get(_home(thing)[0])
    file = getattr(module, "__file__", None)
    if file is not None:
        return Path(file).name, Path(file).read_bytes()
    try:
        return "", textwrap.dedent(inspect.getsource(thing)).encode()
    except (OSError, TypeError):  # typed at a prompt: there is no text of it
        return "", b""


def import_modules(names: list[str], folder: Path) -> None:
    """Import modules that register something.

    Args:
        names: as `import` has them; they may lie in the folder.
        folder: of the file that names them.

    Raises:
        ValueError: one is not there, raises an error, or has the name of another; the message says where.
    """
    if names and str(folder) not in sys.path:
        # Last, so that no file of theirs stands in for one that is installed.
        sys.path.append(str(folder))
    importlib.invalidate_caches()
    for name in names:
        try:
            module = importlib.import_module(name)
        except Exception as error:
            raise ValueError(f"modules has {name!r}, which cannot be imported: {_cause(error)}.") from error
        first = name.partition(".")[0]
        beside = [path for path in (folder / f"{first}.py", folder / first) if path.exists()]
        there = getattr(module, "__file__", None)
        if beside and (there is None or not Path(there).resolve().is_relative_to(folder)):
            raise ValueError(
                f"modules has {name!r}, which is beside the file and in {there}; give yours another name."
            )


def _home(thing: Any) -> tuple[str, str]:
    return getattr(thing, "__module__", ""), getattr(thing, "__qualname__", "")


def _cause(error: Exception) -> str:
    """What an import raised, and where, unless that is in Python's own import."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = "" if "importlib" in frame.filename else f" ({frame.filename}, line {frame.lineno})"
    return f"{type(error).__name__}: {error}{where}"
