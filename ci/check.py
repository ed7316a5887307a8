"""Everything that `make test` checks: all of it runs, and one summary says what failed."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path

from ci.chapters import CourseError, Repository
from ci.machine import core_count

# These use all cores, or what the one before them made; the others use one core each and run side by side.
IN_TURN = ("unit tests", "book", "notebooks", "pages")
# The longest of the others, which goes on beside the first of these.
LONGEST = "types"


def steps() -> dict[str, list[str]]:
    """The checks by name and in order; each is a command that the reader can run alone."""
    python = [sys.executable, "-m"]
    schema = python_package_folder("jupyter_book") / "config_schema.json"
    workflows = sorted(str(path) for path in Path(".github/workflows").glob("*.yml"))
    choices = ".github/ISSUE_TEMPLATE/config.yml"
    forms = sorted({str(path) for path in Path(".github/ISSUE_TEMPLATE").glob("*.yml")} - {choices})
    against = ["check_jsonschema", "--builtin-schema"]
    programs = ("zizmor", "deno", "typos", "lint-imports")
    zizmor, deno, typos, lint_imports = (str(Path(sys.executable).with_name(name)) for name in programs)
    # loadgroup keeps the tests of a module fixture on one worker: tests/conftest.py says which those are.
    pytest = [*python, "pytest", "-q", "--durations=25", "-n", str(core_count()), "--dist", "loadgroup"]
    return {
        "lint": [*python, "ruff", "check"],
        "format": [*python, "ruff", "format", "--check"],
        "spelling": [typos],
        "configuration": [*python, "check_jsonschema", "--schemafile", str(schema), "_config.yml"],
        "workflows": [*python, *against, "vendor.github-workflows", *workflows],
        "dependabot": [*python, *against, "vendor.dependabot", ".github/dependabot.yml"],
        "issue forms": [*python, *against, "vendor.github-issue-forms", *forms],
        "issue choices": [*python, *against, "vendor.github-issue-config", choices],
        "workflows' safety": [zizmor, "--offline", "--quiet", ".github/workflows", ".github/dependabot.yml"],
        "imports": [lint_imports, "--no-logo"],
        "types": [*python, "mypy"],
        "JavaScript": [deno, "lint", "--quiet"],
        "JavaScript's types": [deno, "check", "--quiet", "ci/pages/sphinx", "kdlib/course/figures"],
        "unit tests": [*pytest, "--ignore", "tests/pages"],
        "book": [*python, "ci", "book"],
        "notebooks": [*python, "ci", "notebooks"],  # after the book: it looks at what the chapters show, too
        "pages": [*pytest, "tests/pages"],
    }


def python_package_folder(name: str) -> Path:
    """Where a package lies, found without importing it."""
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise ModuleNotFoundError(f"{name} is not installed: run `python -m ci book`, which sets up .venv.")
    return Path(found.origin).parent


def chosen(only: list[str]) -> dict[str, list[str]]:
    """The checks of these names, or all.

    Raises:
        CourseError: there is no check of such a name.
    """
    commands = steps()
    if unknown := [name for name in only if name not in commands]:
        raise CourseError(f"There is no check {unknown[0]!r}: the checks are {', '.join(commands)}.")
    return {name: command for name, command in commands.items() if name in only or not only}


def run_all(repository: Repository, only: list[str]) -> int:
    """Run every check, or those of these names, even when one fails, and return 1 if any did."""
    commands = chosen(only)
    results: dict[str, tuple[bool, float]] = {}

    def run(name: str, output: int | None = None) -> tuple[str, str]:
        started = time.monotonic()
        done = subprocess.run(
            commands[name], cwd=repository.root, stdout=output, stderr=subprocess.STDOUT, encoding="utf-8"
        )
        results[name] = (done.returncode == 0, time.monotonic() - started)
        return name, done.stdout

    def show(done: Future[tuple[str, str]]) -> None:
        name, printed = done.result()
        print(f"{title(name, commands[name])}\n{printed}", end="", flush=True)

    with ThreadPoolExecutor(core_count()) as pool:
        longest = [pool.submit(run, name, subprocess.PIPE) for name in commands if name == LONGEST]
        quick = [name for name in commands if name not in (*IN_TURN, LONGEST)]
        for future in as_completed([pool.submit(run, name, subprocess.PIPE) for name in quick]):
            show(future)
        for name in [name for name in commands if name in IN_TURN]:
            print(title(name, commands[name]), flush=True)
            run(name)
        for future in longest:
            show(future)
    print("\n== summary")
    for name in commands:
        passed, seconds = results[name]
        print(f"{'passed' if passed else 'FAILED'}  {name} ({seconds:.0f} s)")
    return 0 if all(passed for passed, _ in results.values()) else 1


def title(name: str, command: list[str]) -> str:
    """The line above what a check prints: its name, and how to run it alone."""
    return f"\n== {name}: {' '.join([Path(command[0]).name, *command[1:]])}"
