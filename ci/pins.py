"""Lock every package that the course is built and tested with, for Linux, macOS and Windows, with hashes."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from ci.chapters import BuildError
from ci.environment import lock_of, name_of

# The oldest Python that pyproject.toml allows: a pin that it can install, newer ones can too.
PYTHON = "3.11"
# Pure Python, but on no index as a wheel. Nothing else may be built from source: a reader needs no compiler.
FROM_SOURCE = "connection-pool"
BOOK = """\
# What building the book needs, for Linux, macOS and Windows: `pip install -r` of this file, and nothing is
# compiled. `python -m ci pins` writes it from pyproject.toml; nobody edits it.
--only-binary :all:
"""
DEV = f"""\
# What testing the course needs besides. `python -m ci pins` writes it from pyproject.toml; nobody edits it.
-r book.txt
--no-binary {FROM_SOURCE}
"""


def refresh(root: Path, *, upgrade: bool = False) -> int:
    """Rewrite the two files; what is locked already stays at its version, unless all is to be upgraded."""
    book, dev = lock_of(root, "book"), lock_of(root, "dev")
    old = {} if upgrade else entries("".join(file.read_text() for file in (book, dev) if file.exists()))
    with tempfile.TemporaryDirectory() as folder:
        every, some = Path(folder, "dev.txt"), Path(folder, "book.txt")
        every.write_text("".join(old.values()))  # uv keeps to the versions of the file that it writes over
        resolve(root, "dev", every, "--no-binary", FROM_SOURCE)
        resolve(root, "book", some, "--constraint", str(every))
        locked, needed = entries(every.read_text()), entries(some.read_text())
    book.write_text(BOOK + "".join(needed.values()), encoding="utf-8")
    dev.write_text(DEV + "".join(locked[line] for line in locked if line not in needed), encoding="utf-8")
    print(f"Locked {len(needed)} packages for the book, and {len(locked)} with the developers' tools.")
    return 0


def resolve(root: Path, extra: str, into: Path, *options: str) -> None:
    """Let uv choose the versions; `UV_CONSTRAINT` in the environment can name a file with upper bounds.

    Raises:
        BuildError: there is no such choice, or no index to choose from.
    """
    command = ["uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--universal"]
    command += ["--generate-hashes", "--fork-strategy", "fewest", "--python-version", PYTHON]
    command += ["--only-binary", ":all:", *options, "--extra", extra, "--output-file", str(into)]
    done = subprocess.run([sys.executable, "-m", *command, "pyproject.toml"], cwd=root)
    if done.returncode != 0:
        raise BuildError("uv found no versions to lock: its message is above, and the pins are as before.")


def entries(lock: str) -> dict[str, str]:
    """The requirements of a lock file: the text of each, hashes included, by its first line."""
    found: dict[str, str] = {}
    for line in lock.splitlines(keepends=True):
        if line[0].isalnum():
            first = line
            found[first] = ""
        if line[0].isalnum() or line.startswith("    --hash"):
            found[first] += line
    return found


def read_pins(lock: Path) -> dict[str, str]:
    """The versions in a lock file, by normalised package name, for whichever system they are."""
    lines = entries(lock.read_text(encoding="utf-8"))
    return {name_of(line): line.split("==")[1].split()[0] for line in lines}
