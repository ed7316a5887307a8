"""Find the Python environment that has the course installed, or make one in .venv."""

from __future__ import annotations

import enum
import hashlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

UNFINISHED = "unfinished"
# What .venv takes on Linux, where PyTorch comes with CUDA; elsewhere it is a third of that.
GIGABYTES = 6


class Plan(enum.Enum):
    """What has to happen before a command can run."""

    USE_RUNNING = "the running Python has the course installed"
    USE_VENV = ".venv is there and up to date"
    UPDATE = ".venv is there, but the pinned versions have changed or it was made by hand"
    CREATE = ".venv is not there, or was left half-made"


def enter(root: Path, arguments: list[str]) -> None:
    """Return when the running Python has the course; otherwise run the command again in .venv."""
    venv = root / ".venv"
    plan = decide(root, inside_venv=Path(sys.prefix).resolve() == venv, installed=is_installed(root))
    if plan is Plan.USE_RUNNING:
        return
    if plan is not Plan.USE_VENV:
        set_up(root, plan)
    run_again(root, [str(python_of(venv)), "-m", "ci", *arguments])


def decide(root: Path, *, inside_venv: bool, installed: bool) -> Plan:
    """Choose the plan from the stamp in .venv and from what the running Python has installed."""
    venv = root / ".venv"
    stamp = stamp_path(venv).read_text().strip() if stamp_path(venv).is_file() else None
    if inside_venv:
        up_to_date = stamp == fingerprint(root) or (stamp is None and installed)
        return Plan.USE_RUNNING if up_to_date else Plan.UPDATE
    if installed:
        return Plan.USE_RUNNING
    if stamp == fingerprint(root) and python_of(venv).exists():
        return Plan.USE_VENV
    if stamp == UNFINISHED or not python_of(venv).exists():
        return Plan.CREATE
    return Plan.UPDATE


def fingerprint(root: Path) -> str:
    """The hash of everything that decides which packages .venv holds."""
    digest = hashlib.sha256()
    for name in ("pyproject.toml", "ci/constraints.txt"):
        digest.update((root / name).read_bytes())
    return digest.hexdigest()


def is_installed(root: Path) -> bool:
    """Whether the running Python has kdlib and every direct dependency, as in conda or a container."""
    names = {name_of(requirement) for requirement in direct_requirements(root)}
    return all(is_distribution(name) for name in {"kdlib", *names})


def is_distribution(name: str) -> bool:
    """Whether a package of this name is installed for the running Python."""
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def direct_requirements(root: Path) -> list[str]:
    """Every requirement that pyproject.toml names, extras included, references to itself left out."""
    import tomllib

    project: dict[str, Any] = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = [project.get("dependencies", []), *project.get("optional-dependencies", {}).values()]
    return [line for group in groups for line in group if name_of(line) != project["name"]]


def name_of(requirement: str) -> str:
    """The normalised package name at the start of a requirement such as `jupyter_book>=1.0.4,<2`."""
    found = re.match(r"\s*([A-Za-z0-9._-]+)", requirement)
    if found is None:
        raise ValueError(f"{requirement!r} does not start with a package name: write it as `name>=version`.")
    return re.sub(r"[-_.]+", "-", found.group(1)).lower()


def set_up(root: Path, plan: Plan) -> None:
    """Make or update .venv; its stamp says `unfinished` until pip has ended well."""
    venv = root / ".venv"
    if plan is Plan.CREATE:
        print("Setting up .venv with the course's pinned packages (once, about 3 minutes) …", flush=True)
        create(venv)
    else:
        print("The course's pinned packages have changed: updating .venv (up to 3 minutes) …", flush=True)
        if stamp_path(venv).exists():
            stamp_path(venv).write_text(UNFINISHED)
    started = time.monotonic()
    pip = [str(python_of(venv)), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    if subprocess.run([*pip, "-c", "ci/constraints.txt", "-e", ".[book,dev]"], cwd=root).returncode != 0:
        sys.exit(why_it_failed(root))
    stamp_path(venv).write_text(fingerprint(root))
    activate = r".venv\Scripts\activate" if os.name == "nt" else "source .venv/bin/activate"
    print(
        f"Set-up done in {time.monotonic() - started:.0f} s. In your own terminal, `{activate}` puts its "
        "python, kd and papermill first.",
        flush=True,
    )


def why_it_failed(root: Path) -> str:
    """What to look at when pip has failed, whose own message is long and names no remedy."""
    free = shutil.disk_usage(root).free / 1e9
    python = ".".join(map(str, sys.version_info[:2]))
    return (
        "Set-up failed: pip's message is above. The set-up needs a network that reaches pypi.org, and "
        f"{GIGABYTES} GB on the disk of {root}, which has {free:.0f} GB free; the pinned packages are tested "
        f"with Python 3.11, and this is {python}. The next run starts the set-up again."
    )


def create(venv: Path) -> None:
    """Make an empty virtual environment, marked unfinished from its first moment."""
    if importlib.util.find_spec("ensurepip") is None:
        sys.exit(
            f"{sys.executable} cannot make virtual environments: install its venv package "
            "(Debian and Ubuntu: apt-get install python3-venv)."
        )
    if venv.exists():
        shutil.rmtree(venv)
    venv.mkdir()
    stamp_path(venv).write_text(UNFINISHED)
    if subprocess.run([sys.executable, "-m", "venv", str(venv)]).returncode != 0:
        sys.exit(f"Set-up failed: {sys.executable} -m venv {venv} ended with the message above.")


def stamp_path(venv: Path) -> Path:
    """The file that says which pinned versions .venv holds."""
    return venv / "course-stamp"


def python_of(venv: Path) -> Path:
    """The interpreter of a virtual environment."""
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def run_again(root: Path, command: list[str]) -> None:
    """Replace this process by the command; wait for it on Windows, where exec returns to the prompt."""
    os.chdir(root)
    if os.name == "nt":
        sys.exit(subprocess.run(command).returncode)
    os.execv(command[0], command)
