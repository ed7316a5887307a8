"""Where a run was made: versions, device, commit and code."""

import ast
import hashlib
import platform
import subprocess
from collections.abc import Iterable
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from kdlib.paths import REPOSITORY

# What decides the numbers of a run, below kdlib/.
_COMPUTES = (
    "losses/*.py", "terms/*.py", "models/*.py", "data/**/*.py", "training/*.py",
    "distiller.py", "schemes.py", "experiments/networks.py", "experiments/runner.py",
)  # fmt: skip


def environment(device: torch.device) -> dict[str, Any]:
    """Versions, device, threads, commit and code: where a run was made."""
    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else platform.processor() or platform.machine()
    )
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "kdlib": version("kdlib"),
        "commit": _commit(),
        "code": code_fingerprint(),
        "device": f"{device.type} ({name})",
        "processor": _processor(),
        "threads": torch.get_num_threads(),
    }


@lru_cache(maxsize=1)
def code_fingerprint() -> str:
    """8 hexadecimal digits of the code that trains: two runs of one recipe and one code are the same run.

    Comments, docstrings and layout do not count.
    """
    files = sorted(file for place in _COMPUTES for file in (REPOSITORY / "kdlib").glob(place))
    return fingerprint_of((file.relative_to(REPOSITORY).as_posix(), file.read_bytes()) for file in files)


def fingerprint_of(files: Iterable[tuple[str, bytes]]) -> str:
    """8 hexadecimal digits of Python code, by names and contents of its files."""
    digest = hashlib.sha256()
    for name, contents in files:
        tree = ast.parse(contents)
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
                del node.body[0]
        digest.update(f"{name}\n{ast.unparse(tree)}\n".encode())
    return digest.hexdigest()[:8]


@lru_cache(maxsize=1)
def _processor() -> str:
    """The processor's model: two of one architecture may add numbers in another order."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


@lru_cache(maxsize=1)
def _commit() -> str | None:
    """The commit of the code, "+" behind it where files differ from it; None outside a git checkout."""
    command = ["git", "-C", str(REPOSITORY), "describe", "--always", "--abbrev=12", "--dirty=+"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
