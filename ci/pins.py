"""Rewrite ci/constraints.txt and environment.yml from the packages that are installed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from ci.environment import direct_requirements, name_of

HEADER = """\
# The exact version of every package that the course is built and tested with. As constraints they install
# nothing by themselves, so what a platform does not need stays away. `python -m ci pins` rewrites this file.
"""
# kdlib is installed from the working tree; pip belongs to each environment.
NOT_PINNED = {"kdlib", "pip"}


def refresh(root: Path) -> int:
    """Pin every package of this environment, and name the direct ones in environment.yml for conda."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "list", "--format=freeze", "--disable-pip-version-check"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    lines = [line for line in listed.stdout.splitlines() if name_of(line) not in NOT_PINNED]
    (root / "ci" / "constraints.txt").write_text(HEADER + "\n".join(sorted(lines, key=name_of)) + "\n")
    conda = root / "environment.yml"
    conda.write_text(with_versions(conda.read_text(encoding="utf-8"), direct_pins(root)), encoding="utf-8")
    print(f"Pinned {len(lines)} packages.")
    return 0


def read_pins(path: Path) -> dict[str, str]:
    """The versions in a constraints file, by normalised package name."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    return {name_of(line): line.split("==")[1].strip() for line in lines}


def direct_pins(root: Path) -> dict[str, str]:
    """The pinned version of each package that pyproject.toml asks for, in its order."""
    pins = read_pins(root / "ci" / "constraints.txt")
    return {name: pins[name] for name in map(name_of, direct_requirements(root))}


def with_versions(environment: str, pins: dict[str, str]) -> str:
    """The text of environment.yml with its `name==version` lines replaced by the pins."""
    block = "".join(f"      - {name}=={version}\n" for name, version in pins.items())
    return re.sub(r"(?:^      - [A-Za-z0-9._-]+==\S+\n)+", block, environment, count=1, flags=re.MULTILINE)
