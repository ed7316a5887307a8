"""What a chapter depends on: found in made-up libraries of which the answer is known, and in the real one."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from made_up_course import ROOT

from ci.dependencies import Library


def write(root: Path, name: str, text: str = "") -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def names(library: Library, *sources: str, number: str = "01") -> set[str]:
    return {file.relative_to(library.root).as_posix() for file in library.files(number, sources)}


class MadeUp:
    """A random library of 3 packages of 4 modules; each module imports some that were made before it."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root, self.random = root, random.Random(seed)
        self.modules = [f"kdlib.p{p}.m{m}" for p in range(3) for m in range(4)]
        self.needs: dict[str, set[str]] = {}
        write(root, "kdlib/__init__.py", "\n".join(f"from kdlib.p{p} import n_p{p}_m0" for p in range(3)))
        for package in range(3):
            passed_on = "\n".join(f"from kdlib.p{package}.m{m} import n_p{package}_m{m}" for m in range(4))
            write(root, f"kdlib/p{package}/__init__.py", passed_on)
        for number, module in enumerate(self.modules):
            earlier = self.modules[:number]
            chosen = set(self.random.sample(earlier, min(len(earlier), self.random.randrange(3))))
            self.needs[module] = chosen
            lines = [self.importing(other, module) for other in sorted(chosen)]
            name = "n_" + "_".join(module.split(".")[1:])
            write(root, self.path(module), "\n".join([*lines, f"{name} = {number}\n"]))

    def path(self, module: str) -> str:
        return module.replace(".", "/") + ".py"

    def importing(self, other: str, module: str = "") -> str:
        """One of the ways to import a module: whole, by a name, passed on, relative, in a function."""
        _, package, last = other.split(".")
        name = f"n_{package}_{last}"
        ways = [
            f"import {other}",
            f"from kdlib.{package} import {last}",
            f"from {other} import {name}",
            f"from kdlib.{package} import {name} as x",
            f"def f():\n    from kdlib.{package} import {last} as y",
        ]
        if last == "m0":
            ways.append(f"from kdlib import {name}")
        if module:
            ways.append(f"from ..{package}.{last} import {name}")
        return self.random.choice(ways)

    def closure(self, wanted: set[str]) -> set[str]:
        found: set[str] = set()
        while wanted:
            found |= wanted
            wanted = set().union(*(self.needs[module] for module in wanted)) - found
        return found


@pytest.mark.parametrize("seed", range(25))
def test_a_change_reaches_exactly_those_who_depend_on_it(tmp_path: Path, seed: int) -> None:
    made = MadeUp(tmp_path, seed)
    chapters = {
        number: set(made.random.sample(made.modules, made.random.randrange(1, 4)))
        for number in ("01", "02", "03")
    }
    sources = {
        number: [made.importing(module) for module in sorted(wanted)] for number, wanted in chapters.items()
    }

    def keys() -> dict[str, str]:
        library = Library(tmp_path)
        return {n: str(library.hashes(library.files(n, cells))) for n, cells in sources.items()}

    before = keys()
    assert keys() == before, "nothing has changed"
    for module in made.modules:
        path = tmp_path / made.path(module)
        text = path.read_text()
        path.write_text(text + "# changed\n")
        touched = {number for number, key in keys().items() if key != before[number]}
        assert touched == {n for n, wanted in chapters.items() if module in made.closure(wanted)}, module
        path.write_text(text)


def test_assets_belong_to_the_module_of_their_name_or_to_all_beside_it(tmp_path: Path) -> None:
    for name in ("a.py", "b.py", "a.js", "b.js", "kit.js", "tables/one.toml", "sub/__init__.py", "sub/c.txt"):
        write(tmp_path, f"kdlib/w/{name}")
    write(tmp_path, "kdlib/__init__.py")
    write(tmp_path, "kdlib/w/__init__.py")
    found = names(Library(tmp_path), "from kdlib.w.a import something")
    assert found == {"kdlib/w/a.py", "kdlib/w/a.js", "kdlib/w/kit.js", "kdlib/w/tables/one.toml"}


def test_exercises_bring_the_checkers_of_their_own_chapter(tmp_path: Path) -> None:
    write(tmp_path, "kdlib/course/checks/__init__.py", "from kdlib.course.checks.exercises import check")
    for name in ("exercises", "chapter01", "chapter02"):
        write(tmp_path, f"kdlib/course/checks/{name}.py")
    source = "from kdlib.course.checks import check"
    assert names(Library(tmp_path), source) == {
        "kdlib/course/checks/exercises.py",
        "kdlib/course/checks/chapter01.py",
    }


@pytest.fixture
def data(tmp_path: Path) -> Library:
    """A library, with the records of two experiments and two published tables."""
    write(tmp_path, "kdlib/__init__.py", "answer = 42")
    for name in ("01-first/short/a.json", "02-second/short/b.json", "cifar/short/c.json"):
        write(tmp_path, f"data/results/{name}")
    write(tmp_path, "data/published/001-methods.csv", "row,recipe\nbaseline,cifar/methods/x\n")
    write(tmp_path, "data/published/002-alpha.csv", "row,recipe\n0,\n")
    write(tmp_path, "data/published/sources.toml")
    return Library(tmp_path)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("experiments.recorded('01-first', profile)", {"results/01-first/short/a.json"}),
        ("slug = '02-second'", {"results/02-second/short/b.json"}),
        ("run_recipes(f'cifar/methods/{name}', profile)", {"results/cifar/short/c.json"}),
        (
            "comparison('001-methods')",
            {"published/001-methods.csv", "published/sources.toml", "results/cifar/short/c.json"},
        ),
        ("comparison('002-alpha')", {"published/002-alpha.csv", "published/sources.toml"}),
        ("print('.', '..', '', 'nothing of that kind', 'a/b')", set()),
    ],
)
def test_records_and_tables_that_a_cell_names(data: Library, source: str, expected: set[str]) -> None:
    found = names(data, "import kdlib", source)
    assert found - {"kdlib/__init__.py"} == {f"data/{name}" for name in expected}


def test_a_name_that_is_not_written_there_may_be_any(data: Library) -> None:
    every = {path.relative_to(data.root).as_posix() for path in data.root.glob("data/**/*.*")}
    assert names(data, "import kdlib", "experiments.recorded(slug, profile)") >= every


def test_who_does_not_import_the_library_depends_on_nothing(data: Library) -> None:
    assert names(data, "print('01-first')") == set()


def test_magics_are_no_obstacle(data: Library) -> None:
    assert names(data, "if True:\n    %pip install x\n!ls\nimport kdlib") == {"kdlib/__init__.py"}


def test_chapter_2_of_the_real_course() -> None:
    cells = json.loads((ROOT / "book/02-temperature.ipynb").read_text())["cells"]
    found = names(
        Library(ROOT), *("".join(c["source"]) for c in cells if c["cell_type"] == "code"), number="02"
    )
    assert {
        "kdlib/losses/logits.py",
        "kdlib/course/figures/temperature.js",
        "kdlib/course/checks/chapter02.py",
    } <= found
    assert not found & {
        "kdlib/course/figures/bias.js",
        "kdlib/schemes.py",
        "kdlib/cli.py",
        "kdlib/course/checks/chapter03.py",
    }
