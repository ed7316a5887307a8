"""Find the Python environment that has what a command needs, or make one in .venv.

There are two levels, each an extra of pyproject.toml with a lock file in ci/requirements: `book` is what
building the book needs, and `dev` adds what tests it. A .venv grows from the first to the second.
"""

from __future__ import annotations

import enum
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

LEVELS = ("book", "dev")
UNFINISHED = "unfinished"
# What .venv takes on Linux, where PyTorch comes with CUDA; elsewhere it is a third of that.
GIGABYTES = 6


class Plan(enum.Enum):
    """What has to happen before a command can run."""

    USE_RUNNING = "the running Python has what it needs"
    USE_VENV = ".venv is there and up to date"
    TELL = "the running Python, which is not ours to change, has what the book needs, but not all"
    UPDATE = ".venv is there, but lacks a level, or its pins have changed, or it was made by hand"
    CREATE = ".venv is not there, or has no pip yet"


def enter(root: Path, arguments: list[str], level: str) -> None:
    """Return when the running Python has this level; otherwise run the command again in .venv."""
    venv = root / ".venv"
    plan = decide(
        root,
        level,
        inside_venv=Path(sys.prefix).resolve() == venv,
        installed=is_installed(root, level) and is_distribution("kdlib"),
        own=is_installed(root, "book"),
    )
    if plan is Plan.USE_RUNNING:
        return
    if plan is Plan.TELL:
        sys.exit(
            f"{sys.executable} has what the book needs, but not all that this command does. Add it with "
            f"`python -m pip install -r ci/requirements/{level}.txt`, then `python -m pip install --no-deps "
            "-e .`; or name another Python, as in `make book PYTHON=python3.11`, and .venv is made."
        )
    if plan is not Plan.USE_VENV:
        set_up(root, level, plan)
    run_again(root, [str(python_of(venv)), "-m", "ci", *arguments])


def decide(root: Path, level: str, *, inside_venv: bool, installed: bool, own: bool) -> Plan:
    """Choose the plan from the stamp in .venv and from what the running Python has.

    Args:
        root: of the repository.
        level: that the command needs.
        inside_venv: whether the running Python is that of .venv.
        installed: whether it has the level, and kdlib.
        own: whether it has what the book needs, as somebody's own environment.
    """
    venv = root / ".venv"
    stamp = read_stamp(venv)
    current = fingerprint(root, level) in stamp
    if inside_venv:
        return Plan.USE_RUNNING if current or (not stamp and installed) else Plan.UPDATE
    if installed:
        return Plan.USE_RUNNING
    if UNFINISHED in stamp or not python_of(venv).exists():
        return Plan.TELL if own else Plan.CREATE
    return Plan.USE_VENV if current else Plan.UPDATE


def lock_of(root: Path, level: str) -> Path:
    """The file with the exact packages of a level, and their hashes."""
    return root / "ci" / "requirements" / f"{level}.txt"


def fingerprint(root: Path, level: str) -> str:
    """The level, and the hash of everything that decides which packages it has."""
    digest = hashlib.sha256((root / "pyproject.toml").read_bytes())
    for name in LEVELS[: LEVELS.index(level) + 1]:
        digest.update(lock_of(root, name).read_bytes())
    return f"{level} {digest.hexdigest()}"


def is_installed(root: Path, level: str) -> bool:
    """Whether the running Python has every direct dependency of a level, as in conda or a container."""
    return all(map(is_distribution, map(name_of, direct_requirements(root, level))))


def is_distribution(name: str) -> bool:
    """Whether a package of this name is installed for the running Python."""
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def direct_requirements(root: Path, extra: str) -> list[str]:
    """Every requirement that pyproject.toml names for an extra and for the extras that it names in turn."""
    import tomllib

    project: dict[str, Any] = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found: list[str] = list(project["dependencies"])
    waiting = [extra]
    while waiting:
        for line in project["optional-dependencies"][waiting.pop()]:
            if name_of(line) == project["name"]:
                waiting += re.findall(r"[\w-]+", line.partition("[")[2])
            else:
                found.append(line)
    return found


def name_of(requirement: str) -> str:
    """The normalised package name at the start of a requirement such as `jupyter_book>=1.0.4,<2`."""
    found = re.match(r"\s*([A-Za-z0-9._-]+)", requirement)
    if found is None:
        raise ValueError(f"{requirement!r} does not start with a package name: write it as `name>=version`.")
    return re.sub(r"[-_.]+", "-", found.group(1)).lower()


def set_up(root: Path, level: str, plan: Plan) -> None:
    """Make .venv, or add to it; its stamp names the levels that pip has brought to an end."""
    venv = root / ".venv"
    levels = [fingerprint(root, name) for name in LEVELS[: LEVELS.index(level) + 1]]
    if plan is Plan.CREATE:
        print("Setting up .venv with the course's pinned packages (once, about 2 minutes) …", flush=True)
        create(venv)
    elif levels[0] in read_stamp(venv):
        print("Adding to .venv what testing the course needs (once, less than a minute) …", flush=True)
    else:
        print("The course's pinned packages have changed: updating .venv (up to 2 minutes) …", flush=True)
    started = time.monotonic()
    # Pins of the book that are there already stay so, whatever becomes of those that are added now.
    stamp_path(venv).write_text("\n".join(sorted(read_stamp(venv) & {*levels})))
    remove_half_installed(venv)
    # The lock names everything, and kdlib is this folder, which has no hash.
    install(root, "--requirement", str(lock_of(root, level)))
    install(root, "--no-build-isolation", "--editable", ".")
    stamp_path(venv).write_text("\n".join(levels))
    activate = r".venv\Scripts\activate" if os.name == "nt" else "source .venv/bin/activate"
    print(
        f"Set-up done in {time.monotonic() - started:.0f} s. In your own terminal, `{activate}` puts its "
        "python, kd and papermill first.",
        flush=True,
    )


def create(venv: Path) -> None:
    """Make an empty virtual environment, marked unfinished until pip is in it."""
    if importlib.util.find_spec("ensurepip") is None:
        sys.exit(
            f"{sys.executable} cannot make virtual environments: install its venv package "
            "(Debian and Ubuntu: apt-get install python3-venv)."
        )
    if venv.exists():
        shutil.rmtree(venv)
    venv.mkdir()
    stamp_path(venv).write_text(UNFINISHED)
    made = subprocess.run([sys.executable, "-m", "venv", str(venv)], capture_output=True, text=True)
    if made.returncode != 0:
        sys.exit(f"{made.stdout}{made.stderr}\n{why_it_failed(made.stdout + made.stderr, venv.parent)}")
    stamp_path(venv).write_text("")


def remove_half_installed(venv: Path) -> None:
    """Let pip see packages as missing that it was stopped in: it writes INSTALLER after all their files."""
    for metadata in venv.rglob("site-packages/*.dist-info"):
        if not (metadata / "INSTALLER").exists():
            shutil.rmtree(metadata)


def install(root: Path, *what: str) -> None:
    """Run pip in .venv; where it fails, show its message, and exit with a sentence on what to do."""
    pip = [str(python_of(root / ".venv")), "-m", "pip", "--disable-pip-version-check", "install", "--no-deps"]
    done = subprocess.run([*pip, *what], cwd=root, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{done.stderr}\n{why_it_failed(done.stderr, root)}")


def why_it_failed(said: str, root: Path) -> str:
    """What to do about pip's message, which is long and names no remedy."""
    python, temporary = platform.python_version(), tempfile.gettempdir()
    free, free_there = (shutil.disk_usage(place).free / 1e9 for place in (root, temporary))
    reasons = {
        r"No space left|not enough space|Disk quota": f"the disk is full. It takes {GIGABYTES} GB in {root}, "
        f"where {free:.1f} GB are free, and for a while 1 GB in {temporary}, where {free_there:.1f} GB are: "
        "make room, or name another folder for the second with TMPDIR.",
        r"CERTIFICATE_VERIFY_FAILED|TLS CA certificate": "Python does not trust the certificate that the "
        "network shows, often that of a proxy. Ask for its file, and name it to pip: `PIP_CERT=FILE.pem make "
        f"book`, or for good `{sys.executable} -m pip config set global.cert FILE.pem`.",
        r"connection error|connection broken|Max retries|timed out": "no package index could be reached. The "
        "set-up needs a network; behind a proxy, HTTPS_PROXY names it; an index of your own, PIP_INDEX_URL.",
        r"DO NOT MATCH THE HASHES": "a package is not the file that was locked: it was cut short, or changed "
        f"on its way. Empty pip's cache with `{sys.executable} -m pip cache purge`.",
        r"No matching distribution": f"a package has no ready-made file for Python {python} on "
        f"{platform.system()} {platform.machine()}, and none is compiled here. The pins fit Python 3.11 to "
        "3.13 on Linux, on Windows, and on macOS 14 with Apple's chips: name such a Python, as in `make book "
        "PYTHON=python3.11`.",
    }
    for pattern, reason in reasons.items():
        if re.search(pattern, said):
            return f"Set-up failed: {reason} The next run goes on from here."
    return "Set-up failed with the message above. The next run goes on from here."


def read_stamp(venv: Path) -> set[str]:
    """What .venv holds: a line for each level with its fingerprint; nothing where it was made by hand."""
    return set(stamp_path(venv).read_text().splitlines()) if stamp_path(venv).is_file() else set()


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
