"""What the machine offers to the chapters."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache


def core_count() -> int:
    """The cores that this process may use, which in a container can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def find_device() -> str:
    """The GPU's name where torch can use one, else CPU; torch is asked only where a driver is present."""
    if shutil.which("nvidia-smi") is None:
        return "CPU"
    question = "import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else 'CPU')"
    answer = subprocess.run([sys.executable, "-c", question], capture_output=True, text=True)
    return answer.stdout.strip() or "CPU"


def gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; none without a GPU."""
    if find_device() == "CPU":
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return named.split(",")
    listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True).stdout
    return list(listed_gpus(listed.splitlines()))


def listed_gpus(lines: Iterable[str]) -> Iterator[str]:
    """The GPUs that `nvidia-smi --list-gpus` lists; of one that is divided (MIG), its parts in its place."""
    whole: list[str] = []
    for line in lines:
        if part := re.match(r"\s+MIG .*UUID: (MIG-[^)]+)\)", line):
            whole = []
            yield part[1]
        elif number := re.match(r"GPU (\d+):", line):
            yield from whole
            whole = [number[1]]
    yield from whole


def why_no_gpu() -> str:
    """Why torch sees no GPU, and what to do about it, in a sentence."""
    if shutil.which("nvidia-smi") is None:
        return "there is no nvidia-smi: install NVIDIA's driver, and start the container with `--gpus all`."
    listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True)
    if listed.returncode != 0 or not listed.stdout.strip():
        said = (listed.stdout + listed.stderr).strip() or "nothing"
        return f"`nvidia-smi --list-gpus` says {said!r}: look at the driver of this machine."
    question = "import torch; print(torch.version.cuda, torch.__version__)"
    answer = subprocess.run([sys.executable, "-c", question], capture_output=True, text=True).stdout.split()
    if not answer or answer[0] == "None":
        return f"torch {answer[-1] if answer else ''} is built without CUDA: install that of ci/requirements."
    return f"torch was built for CUDA {answer[0]}, which needs a newer driver than this machine's: update it."
