"""What the machine offers to the chapters."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
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
    return [str(number) for number in range(len(listed.splitlines()))]
