"""What a chapter's outputs depend on besides its own cells: files of kdlib, records, and published tables.

Everything is found by reading the sources; nothing is imported. A name that a package passes on, such as
``from kdlib import fit``, leads to the module that defines it, so that a chapter depends on what it uses and
on what that uses, and not on all that kdlib holds.
"""

from __future__ import annotations

import ast
import csv
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

PACKAGE = "kdlib"
NOT_SOURCE = {"__pycache__", ".ipynb_checkpoints", ".DS_Store"}

# Functions of kdlib that read data/ by the name they are given.
_READERS = {"recorded", "keep", "comparison", "published", "run_recipes", "find_recipes", "frame"}
_NAME = re.compile(r"\w[\w.-]*")


class Library:
    """The files of kdlib and of data/, and who needs which.

    Args:
        root: of the repository.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._needed: dict[str, frozenset[str]] = {}
        self._trees: dict[str, ast.Module] = {}
        self._hashes: dict[Path, tuple[str, str]] = {}
        self._listings: dict[Path, list[Path]] = {}
        self._beside: dict[str, list[Path]] = {}

    def files(self, number: str, sources: Iterable[str]) -> list[Path]:
        """The files that the outputs of a chapter depend on, in a fixed order.

        Args:
            number: of the chapter, such as "08": its exercises' checkers are imported by it.
            sources: of its code cells.
        """
        trees = [ast.parse(without_magics(source)) for source in sources]
        modules = self._closure({name for tree in trees for name in self._imports(tree, PACKAGE)})
        if f"{PACKAGE}.course.checks.exercises" in modules:
            modules |= self._closure({f"{PACKAGE}.course.checks.chapter{number}"} & self._modules.keys())
        found = {self._modules[name] for name in modules}
        found |= {asset for name in modules for asset in self._assets(name)}
        if modules:
            found |= {file for tree in trees for file in self._data(tree)}
        return sorted(found)

    @cached_property
    def _modules(self) -> dict[str, Path]:
        """Every module of kdlib by its dotted name."""
        paths = (path for path in (self.root / PACKAGE).rglob("*.py") if not NOT_SOURCE & set(path.parts))
        return {self._dotted(path): path for path in paths}

    def _dotted(self, path: Path) -> str:
        parts = path.relative_to(self.root).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def hashes(self, files: Sequence[Path]) -> list[tuple[str, str]]:
        """The files' places in the repository and the hashes of their contents, each read once."""
        for file in files:
            if file not in self._hashes:
                place = file.relative_to(self.root).as_posix()
                self._hashes[file] = (place, hashlib.sha256(file.read_bytes()).hexdigest())
        return [self._hashes[file] for file in files]

    def _closure(self, names: set[str]) -> set[str]:
        """The modules and all that these import, directly or not."""
        seen: set[str] = set()
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                waiting += self._needs(name)
        return seen

    def _needs(self, name: str) -> frozenset[str]:
        """The modules that a module imports, wherever in it."""
        if name not in self._needed:
            self._needed[name] = frozenset(self._imports(self._tree(name), self._package_of(name)))
        return self._needed[name]

    def _tree(self, name: str) -> ast.Module:
        if name not in self._trees:
            self._trees[name] = ast.parse(self._modules[name].read_text(encoding="utf-8"))
        return self._trees[name]

    def _package_of(self, name: str) -> str:
        return name if self._is_package(name) else name.rpartition(".")[0]

    def _is_package(self, name: str) -> bool:
        return self._modules[name].name == "__init__.py"

    def _imports(self, tree: ast.Module, package: str) -> Iterator[str]:
        """The modules of kdlib that code in this package imports."""
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names if alias.name in self._modules)
            elif isinstance(node, ast.ImportFrom):
                module = _absolute(node, package)
                if module in self._modules:
                    yield from (self._home(module, alias.name) for alias in node.names)

    def _home(self, module: str, name: str) -> str:
        """The module that a name comes from, through the packages that pass it on."""
        if f"{module}.{name}" in self._modules:
            return f"{module}.{name}"
        if self._is_package(module):
            for node in self._tree(module).body:
                if isinstance(node, ast.ImportFrom):
                    source = _absolute(node, module)
                    for alias in node.names:
                        if (alias.asname or alias.name) == name and source in self._modules:
                            return self._home(source, alias.name)
        return module

    def _assets(self, name: str) -> list[Path]:
        """Files beside a module that are not Python: those of its name, and those of no module's."""
        if name not in self._beside:
            self._beside[name] = list(self._files_beside(self._modules[name]))
        return self._beside[name]

    def _files_beside(self, module: Path) -> Iterator[Path]:
        stems = {path.stem for path in module.parent.glob("*.py")}
        for path in module.parent.iterdir():
            if path.is_dir():
                inside = [file for file in path.rglob("*") if file.is_file() and file.suffix != ".py"]
                if path.name not in NOT_SOURCE and not (path / "__init__.py").exists():
                    yield from inside
            elif path.suffix != ".py" and (path.stem == module.stem or path.stem not in stems):
                yield path

    def _data(self, tree: ast.Module) -> Iterator[Path]:
        """Records and published tables that a cell names; all where a name is not written there."""
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and _called(node) in _READERS and not _names_something(node):
                yield from self._below(self.root / "data")
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield from self._named(node.value)

    def _below(self, path: Path) -> list[Path]:
        """The files below a folder, listed once: cells name the same thousands of records."""
        if path not in self._listings:
            self._listings[path] = list(files_below(path))
        return self._listings[path]

    def _named(self, text: str) -> Iterator[Path]:
        """The files of data/ that a text names: records, or a published table and its runs'."""
        first = text.partition("/")[0]
        if _NAME.fullmatch(first):
            yield from self._below(self.root / "data" / "results" / first)
        table = self.root / "data" / "published" / f"{text}.csv"
        if _NAME.fullmatch(text) and table.is_file():
            yield table
            yield from self._below(table.parent / "sources.toml")
            with table.open(encoding="utf-8", newline="") as file:
                families = {(row.get("recipe") or "").partition("/")[0] for row in csv.DictReader(file)}
            for family in families - {""}:
                yield from self._below(self.root / "data" / "results" / family)


def tree_hash(paths: Iterable[Path]) -> str:
    """The hash of the names and contents of files, and of all files in folders."""
    digest = hashlib.sha256()
    for path in paths:
        for file in files_below(path):
            name = file.relative_to(path.parent).as_posix().encode()
            digest.update(name + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def files_below(path: Path) -> Iterator[Path]:
    """A file itself, or the files below a folder, without what Python and editors leave."""
    if path.is_file():
        yield path
    for file in sorted(path.rglob("*")):
        if file.is_file() and not NOT_SOURCE.intersection(file.parts):
            yield file


def without_magics(source: str) -> str:
    """A cell as Python: lines that only IPython understands become `pass`."""
    return re.sub(r"^(\s*)[%!].*$", r"\1pass", source, flags=re.MULTILINE)


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    kept = parts[: len(parts) - node.level + 1]
    return ".".join([*kept, *([node.module] if node.module else [])])


def _called(node: ast.Call) -> str:
    function = node.func
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _names_something(node: ast.Call) -> bool:
    return not node.args or any(map(_begins_with_name, node.args))


def _begins_with_name(node: ast.expr) -> bool:
    """Whether an argument is a text, or one that is put together and begins with a family, "cifar/…"."""
    if isinstance(node, ast.JoinedStr) and node.values:
        node = node.values[0]
        return isinstance(node, ast.Constant) and "/" in str(node.value)
    return isinstance(node, ast.Constant) and isinstance(node.value, str)
