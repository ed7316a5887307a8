"""One job of a sweep: a run, on a GPU of its own where there are several.

Engines of clusters show a job the GPUs that it was given. On one machine all jobs see all of them, and the
first would be everybody's.
"""

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from kdlib import cli
from kdlib.experiments.sweeps.graph import Sweep


def main(
    run: Annotated[str, typer.Argument(help="As the sweep calls it.")],
    pattern: Annotated[str, typer.Argument(help="Of the sweep, as all that follows.")],
    profile: Annotated[str, typer.Option()],
    seed: Annotated[list[int] | None, typer.Option()] = None,
    changes: Annotated[list[str] | None, typer.Option("--set")] = None,
    device: Annotated[str, typer.Option()] = "auto",
) -> None:
    """What a job of the Snakefile calls: `kd run` for one run of a sweep."""
    with cli.told(), own_gpu(visible_gpus() if device in ("auto", "cuda") else []):
        sweep = Sweep(pattern, profile, tuple(seed or ()) or None, settings=cli.as_settings(changes))
        wanted = sweep.jobs[run].run
        if cli.train([wanted], device):
            raise typer.Exit(1)


def visible_gpus() -> list[str]:
    """What CUDA_VISIBLE_DEVICES calls the GPUs that this process may use."""
    # Counted without waking them up, after which the choice would come too late.
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(number) for number in range(torch.cuda.device_count())]


@contextmanager
def own_gpu(gpus: Sequence[str], folder: Path | None = None) -> Iterator[None]:
    """Show the process one GPU that no other job on this machine has; wait for one if need be.

    Args:
        gpus: to choose from; one or none is taken as it is.
        folder: of the locks; the system's own for temporary files if not given.
    """
    if len(gpus) < 2:
        yield
        return
    # Imported here because it takes asyncio along.
    from filelock import FileLock

    places = folder or Path(tempfile.gettempdir())
    locks = {gpu: FileLock(places / f"kdlib-gpu-{gpu}.lock") for gpu in gpus}
    gpu = _first_free(locks)
    os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    try:
        yield
    finally:
        locks[gpu].release()


def _first_free(locks: dict[str, Any]) -> str:
    from filelock import Timeout

    while True:
        for gpu, lock in locks.items():
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            return gpu
        time.sleep(1)


if __name__ == "__main__":
    typer.run(main)
