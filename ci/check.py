"""Everything that `make test` checks: all of it runs, and one summary says what failed."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from pathlib import Path

from ci.chapters import Repository
from ci.machine import core_count


def steps() -> dict[str, list[str]]:
    """The checks by name and in order; each is a command that the reader can run alone."""
    python = [sys.executable, "-m"]
    schema = python_package_folder("jupyter_book") / "config_schema.json"
    workflows = sorted(str(path) for path in Path(".github/workflows").glob("*.yml"))
    zizmor, deno = (str(Path(sys.executable).with_name(name)) for name in ("zizmor", "deno"))
    pytest = [*python, "pytest", "-q", "-n", str(core_count()), "--dist", "worksteal"]
    return {
        "lint": [*python, "ruff", "check"],
        "format": [*python, "ruff", "format", "--check"],
        "spelling": [*python, "ci", "spelling"],
        "configuration": [*python, "check_jsonschema", "--schemafile", str(schema), "_config.yml"],
        "workflows": [*python, "check_jsonschema", "--builtin-schema", "vendor.github-workflows", *workflows],
        "workflows' safety": [zizmor, "--offline", "--quiet", ".github/workflows"],
        "types": [*python, "mypy"],
        "JavaScript": [deno, "lint", "--quiet"],
        "JavaScript's types": [deno, "check", "--quiet", "ci/sphinx", "kdlib/widgets"],
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


def run_all(repository: Repository) -> int:
    """Run every check even when one fails, and return 1 if any did."""
    results: dict[str, tuple[bool, float]] = {}
    for name, command in steps().items():
        shown = " ".join([Path(command[0]).name, *command[1:]])
        print(f"\n== {name}: {shown}", flush=True)
        started = time.monotonic()
        done = subprocess.run(command, cwd=repository.root)
        results[name] = (done.returncode == 0, time.monotonic() - started)
    print("\n== summary")
    for name, (passed, seconds) in results.items():
        print(f"{'passed' if passed else 'FAILED'}  {name} ({seconds:.0f} s)")
    return 0 if all(passed for passed, _ in results.values()) else 1
