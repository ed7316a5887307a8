"""Execute chapters with papermill, in parallel processes, each written only when it has run to its end."""

from __future__ import annotations

import datetime
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from ci.chapters import BuildError, Job, Repository, course_metadata, read_notebook
from ci.machine import core_count, find_device

# A cell that takes this many times its whole chapter's budget hangs.
CELL_TIMEOUT_IN_BUDGETS = 10
KERNEL_START_TIMEOUT = 120
KEY_PACKAGES = ("kdlib", "torch", "torchvision", "numpy", "scikit-learn", "matplotlib")


@dataclass(frozen=True)
class Outcome:
    """How one chapter's execution ended; `failure` is the report to print, or None."""

    slug: str
    seconds: float
    budget: float
    failure: str | None


class UnfinishedError(Exception):
    """A cell that ran out of time or lost its kernel, with the notebook as far as it got."""

    def __init__(self, reason: str, notebook: Any) -> None:
        super().__init__(reason)
        self.reason = reason
        self.notebook = notebook


def execute(repository: Repository, jobs: list[Job]) -> list[Outcome]:
    """Execute the jobs side by side within the machine's cores, and say how each goes while it goes."""
    if not jobs:
        return []
    device = find_device()
    run = {"device": device, "commit": find_commit(repository), "versions": find_versions()}
    # Kernels that share one GPU slow each other down and can exhaust its memory.
    workers = 1 if device != "CPU" else min(len(jobs), core_count())
    waiting = sorted(jobs, key=expected_seconds)
    running: dict[Future[Outcome], tuple[Job, float]] = {}
    outcomes: list[Outcome] = []
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), prepare_worker, (str(repository.root),)
    )
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                job = waiting.pop()
                show(f"{job.chapter.slug}: running in profile {job.profile}, budget {job.budget:.0f} s")
                running[pool.submit(execute_one, repository, job, run)] = (job, time.monotonic())
            for future in wait(running, timeout=0.5, return_when=FIRST_COMPLETED).done:
                del running[future]
                outcomes.append(future.result())
                show(describe(outcomes[-1]))
            show_running(list(running.values()))
    except BrokenProcessPool as error:
        raise BuildError(
            "A process that executes chapters was killed from outside, most often for lack of memory: "
            "close other programs and run the command again."
        ) from error
    except BaseException:
        # Workers ignore Ctrl-C; their kernels end by themselves within a second of losing their parent.
        for process in multiprocessing.active_children():
            process.kill()
        raise
    finally:
        show_running([])
        pool.shutdown(cancel_futures=True)
    return outcomes


def prepare_worker(root: str) -> None:
    """Set what a worker and its kernels need before anything of Jupyter is imported."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.update(kernel_environment(Path(root)))


def kernel_environment(root: Path) -> dict[str, str]:
    """The environment variables under which every chapter runs, in the build and in JupyterLab."""
    return {
        # Chapters run side by side, and small networks are faster on one thread than on two shared ones.
        "OMP_NUM_THREADS": "1",
        # Without this, a kernel of the same name in the user's home would be started instead of ours.
        "JUPYTER_PREFER_ENV_PATH": "1",
        # Another value of this variable, common on servers, leaves the pages without figures.
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")])),
    }


def execute_one(repository: Repository, job: Job, run: dict[str, Any]) -> Outcome:
    """Execute one chapter in this process and keep its notebook if it ran to its end."""
    import nbformat
    from papermill.exceptions import PapermillExecutionError

    started = time.monotonic()
    started_at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")

    def outcome(failure: str | None) -> Outcome:
        return Outcome(job.chapter.slug, time.monotonic() - started, job.budget, failure)

    try:
        notebook = run_papermill(job, repository.book)
    except PapermillExecutionError as error:
        return outcome(report(job, error.exec_count, error.source, "\n".join(error.traceback)))
    except UnfinishedError as error:
        return outcome(report(job, *last_started(error.notebook), error.reason))
    done = outcome(None)
    notebook.metadata["course"] = {
        "key": job.key,
        "profile": job.profile,
        "parameters": job.parameters,
        "started": started_at,
        "seconds": round(done.seconds, 1),
        "budget": job.budget,
        **run,
    }
    write_whole(job.output, nbformat.writes(notebook).encode("utf-8"))
    return done


def run_papermill(job: Job, folder: Path) -> Any:
    """Execute a chapter in a folder and return its notebook."""
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.engines import NBClientEngine, papermill_engines
    from papermill.execute import execute_notebook

    class RememberingEngine(NBClientEngine):  # type: ignore[misc]
        """papermill's own engine, which otherwise loses the notebook when a cell never ends."""

        @classmethod
        def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **options: Any) -> Any:
            try:
                return super().execute_managed_notebook(nb_man, kernel_name, **options)
            except CellTimeoutError as error:
                reason = f"The cell was stopped after {cell_timeout(job)} s."
                raise UnfinishedError(reason, nb_man.nb) from error
            except DeadKernelError as error:
                reason = "The kernel died while it ran this cell, most often for lack of memory."
                raise UnfinishedError(reason, nb_man.nb) from error

    papermill_engines.register("remembering", RememberingEngine)
    return execute_notebook(
        job.chapter.source,
        None,
        job.parameters,
        engine_name="remembering",
        cwd=folder,
        kernel_name="python3",
        progress_bar=False,
        request_save_on_cell_execute=False,
        start_timeout=KERNEL_START_TIMEOUT,
        execution_timeout=cell_timeout(job),
        extra_arguments=["--IPKernelApp.log_level=50"],
    )


def cell_timeout(job: Job) -> int:
    """The seconds after which a single cell is stopped."""
    return max(1, round(CELL_TIMEOUT_IN_BUDGETS * job.budget))


def last_started(notebook: Any) -> tuple[int, str]:
    """The number and the source of the code cell that was running when the chapter stopped."""
    begun = [
        cell
        for cell in notebook.cells
        if cell.cell_type == "code" and cell.metadata.papermill.get("start_time") is not None
    ]
    return len(begun), begun[-1].source


def report(job: Job, number: int, source: str, reason: str) -> str:
    """What a failed chapter prints: chapter, cell number and id, the cell's source, the traceback."""
    cells = read_notebook(job.chapter.source)["cells"]
    ids = [cell["id"] for cell in cells if cell["cell_type"] == "code" and "".join(cell["source"]) == source]
    name = f"{number} ({ids[0]})" if ids else f"{number} (the injected parameters)"
    numbered = "\n".join(f"{line:4}  {text}" for line, text in enumerate(source.splitlines(), start=1))
    return f"{job.chapter.slug}.ipynb failed in code cell {name}:\n\n{numbered}\n\n{reason}\n"


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that its path shows the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(content)
    partial.replace(path)


def expected_seconds(job: Job) -> float:
    """How long the chapter took last time, or its budget; the longest starts first."""
    if not job.output.is_file():
        return job.budget
    return float(course_metadata(read_notebook(job.output)).get("seconds", job.budget))


def find_commit(repository: Repository) -> str:
    """The short commit of the sources, with `+` when the working tree differs from it."""
    git = ["git", "-C", str(repository.root)]
    commit = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    if commit.returncode != 0:
        return "not in git"
    changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True).stdout
    return commit.stdout.strip() + ("+" if changed else "")


def find_versions() -> dict[str, str]:
    """The versions of Python and of the packages that decide results."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in KEY_PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def describe(outcome: Outcome) -> str:
    """One line on how a chapter ended."""
    end = "done" if outcome.failure is None else "FAILED"
    return f"{outcome.slug}: {end} in {outcome.seconds:.1f} s of {outcome.budget:.0f} s"


def show(line: str) -> None:
    """Print a line of its own, over the running line if there is one."""
    print(f"\r\x1b[K{line}" if sys.stdout.isatty() else line, flush=True)


def show_running(running: list[tuple[Job, float]]) -> None:
    """On a terminal, rewrite the last line with each running chapter's seconds against its budget."""
    if sys.stdout.isatty():
        now = time.monotonic()
        parts = [f"{job.chapter.slug} {now - begun:.0f}/{job.budget:.0f} s" for job, begun in running]
        width = shutil.get_terminal_size().columns
        print(f"\r\x1b[K{' · '.join(parts)[: width - 1]}", end="", flush=True)


def without_colour(text: str) -> str:
    """A traceback without the escape sequences that colour it, for logs and files."""
    return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)
