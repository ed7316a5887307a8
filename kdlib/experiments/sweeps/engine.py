"""`run_sweep`: Snakemake, started on our Snakefile, and what is to be said when it ends."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import torch

from kdlib.experiments.store import Store
from kdlib.experiments.sweeps.graph import Sweep

SNAKEFILE = Path(__file__).parent / "Snakefile"

Executor = Literal["local", "slurm", "kubernetes"]

# A network file system may show a file that is there this many seconds later.
_LATENCY = 60

# A disk with fewer bytes left is full: the engine's own notes on a job need more.
_NO_ROOM = 1_000_000


def run_sweep(
    sweep: Sweep, executor: Executor = "local", cores: int | None = None, options: Sequence[str] = ()
) -> list[str]:
    """Do all runs of a sweep that are not done.

    Args:
        sweep: which runs.
        executor: where.
        cores: how many cores are used here, or how many jobs are in a cluster's queue at a time; all cores of
            this machine and 100 jobs if not given.
        options: of Snakemake, besides ours.

    Returns:
        For each run that is not done a sentence; nothing if all are.

    Raises:
        ValueError: a part of the engine is not there, or no GPU where one is needed.
        KeyboardInterrupt: at Ctrl-C; a second one does not wait for the jobs to stop.
        OSError: the store cannot be written.
    """
    _check_engine(executor)
    sweep.unfinished()  # a name that is wrong is told before the engine is started
    if executor == "local" and "gpu" in sweep.resources and not torch.cuda.is_available():
        raise ValueError(
            f"there is no GPU here, and every run of the profile {sweep.profile!r} asks for one; take "
            "--executor slurm or kubernetes, or --device cpu."
        )
    root = Store().root / "sweeps"
    root.mkdir(parents=True, exist_ok=True)
    # Each sweep has a folder of its own, so that nothing that an earlier one left can be in its way.
    folder = Path(tempfile.mkdtemp(dir=root, prefix="sweep-"))
    code = subprocess.run([*_command(sweep, folder, executor, cores), *options]).returncode
    if code == 0:
        shutil.rmtree(folder)
        return []
    if shutil.disk_usage(root).free < _NO_ROOM:
        return [f"the disk of {root} is full; make room, and the same command goes on where the sweep was"]
    told = list(_told(sweep.unfinished(), folder))
    return told or [f"Snakemake ended with exit code {code}; see above, and {folder}"]


def _command(sweep: Sweep, folder: Path, executor: Executor, cores: int | None) -> list[str]:
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(SNAKEFILE), "--directory", str(folder)]
    command += ["--config", *sweep.as_config()]
    command += ["--executor", executor, "--keep-going", "--quiet", "host", "reason"]
    if executor == "local":
        command += ["--cores", str(cores or os.cpu_count() or 1)]
        if "gpu" in sweep.resources:
            command += ["--resources", f"gpu={torch.cuda.device_count()}"]
    else:
        command += ["--jobs", str(cores or 100), "--latency-wait", str(_LATENCY)]
    if executor == "slurm" and not _keeps_accounts():
        command += ["--slurm-status-command", "squeue"]
    return command


def _keeps_accounts() -> bool:
    """Whether Slurm can be asked by `sacct`, which is there where nobody keeps accounts too, and fails."""
    try:
        return subprocess.run(["sacct", "--noheader", "--allocations"], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def _check_engine(executor: Executor) -> None:
    needed = {"snakemake": "kdlib[cluster]"}
    if executor == "slurm":
        needed["snakemake_executor_plugin_slurm"] = "kdlib[cluster]"
    if executor == "kubernetes":
        needed["snakemake_executor_plugin_kubernetes"] = "snakemake-executor-plugin-kubernetes"
    for module, package in needed.items():
        if find_spec(module) is None:
            raise ValueError(
                f"{module} is not installed; pip install '{package}', or use `kd run`, which needs none."
            )
    if executor == "slurm" and shutil.which("sbatch") is None:
        raise ValueError("there is no sbatch here; start the sweep on a machine that submits to Slurm.")


def _told(left: Sequence[str], folder: Path) -> Iterator[str]:
    """For each run that is not done what it said last."""
    for run in left:
        log = folder / "logs" / f"{run}.log"
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
        said = [line for line in lines if line.startswith("error: ")]
        if said:
            yield f"{run}: {said[-1].removeprefix('error: ')}"
        elif lines:
            yield f"{run} was stopped; what it said is in {log}"
        else:
            yield f"{run} was not begun; if nothing before it failed, Snakemake says above why"
