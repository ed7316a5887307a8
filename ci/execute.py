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

from ci.chapters import BuildError, Job, Repository, course_metadata, read_notebook, source_of, tags_of
from ci.datanotes import noting
from ci.machine import core_count, find_device, gpus

# A chapter that takes this many times its budget hangs.
LIMIT_IN_BUDGETS = 10.0
KERNEL_START_TIMEOUT = 120
# A kernel is told its ports before it opens them, and now and then another program takes one in between.
KERNEL_STARTS = 3
# The tag of the cells that run the solutions; no chapter has it.
SOLUTION = "solution"
KEY_PACKAGES = ("kdlib", "torch", "torchvision", "numpy", "scikit-learn", "matplotlib")


@dataclass(frozen=True)
class Outcome:
    """How one chapter's execution ended.

    Attributes:
        slug: of the chapter.
        seconds: that it took, its solutions left aside.
        budget: what it may take.
        failure: the report to print, or None.
        solutions: the seconds that its solutions took.
    """

    slug: str
    seconds: float
    budget: float
    failure: str | None
    solutions: float = 0.0


class UnfinishedError(Exception):
    """A cell that failed, ran out of time or lost its kernel, with the notebook as far as it got.

    Attributes:
        number: which code cell it was, from 1.
        source: its code.
        reason: a traceback, or a sentence.
    """

    def __init__(self, number: int, source: str, reason: str, notebook: Any) -> None:
        super().__init__(reason)
        self.number, self.source, self.reason = number, source, reason
        self.notebook = notebook


def execute(repository: Repository, jobs: list[Job], limit: float = LIMIT_IN_BUDGETS) -> list[Outcome]:
    """Execute the jobs side by side within the machine's cores, and say how each goes while it goes.

    Where there are GPUs, each has one kernel at a time: kernels that share one slow each other down and can
    exhaust its memory.

    Args:
        repository: the sources.
        jobs: what to execute.
        limit: a chapter is stopped after so many times its budget.
    """
    if not jobs:
        return []
    run = {"device": find_device(), "commit": find_commit(repository), "versions": find_versions()}
    devices = gpus()
    workers = min(len(jobs), len(devices) or core_count())
    spawn = multiprocessing.get_context("spawn")
    free = spawn.SimpleQueue()
    for number in devices:
        free.put(number)
    waiting = sorted(jobs, key=expected_seconds)
    running: dict[Future[Outcome], tuple[Job, float]] = {}
    outcomes: list[Outcome] = []
    initial = (str(repository.root), free if devices else None)
    pool = ProcessPoolExecutor(workers, spawn, prepare_worker, initial)
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                job = waiting.pop()
                show(f"{job.chapter.slug}: running in profile {job.profile}, budget {job.budget:.0f} s")
                running[pool.submit(execute_one, repository, job, run, limit)] = (job, time.monotonic())
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


def prepare_worker(root: str, free_gpus: Any) -> None:
    """Set what a worker and its kernels need before anything of Jupyter is imported; take a GPU if any."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.update(kernel_environment(Path(root)))
    if free_gpus is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = free_gpus.get()


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


def execute_one(repository: Repository, job: Job, run: dict[str, Any], limit: float) -> Outcome:
    """Execute one chapter in this process and keep its notebook; one that failed is kept apart."""
    import nbformat

    started = time.monotonic()
    started_at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    failed = repository.failed(job.profile, job.chapter.slug)
    failure, output = None, job.output
    try:
        with noting() as data:
            notebook = run_papermill(job, repository.book, limit)
        failed.unlink(missing_ok=True)
    except UnfinishedError as error:
        failure = report(job, error.number, error.source, error.reason)
        notebook, output = error.notebook, failed
    solved = [cell for cell in notebook.cells if SOLUTION in tags_of(cell)]
    solutions = sum(cell.metadata.papermill.get("duration", 0) for cell in solved)
    if failure is None:  # a failed notebook is kept as far as it got, for its author to look into
        notebook.cells = [cell for cell in notebook.cells if cell not in solved]
    seconds = time.monotonic() - started - solutions
    outcome = Outcome(job.chapter.slug, seconds, job.budget, failure, solutions)
    notebook.metadata["course"] = {
        "key": job.key,
        "profile": job.profile,
        "parameters": job.parameters,
        "started": started_at,
        "seconds": round(seconds, 1),
        "seconds_of_solutions": round(solutions, 1),
        "budget": job.budget,
        "data": data,
        **run,
    }
    write_whole(output, nbformat.writes(notebook).encode("utf-8"))
    return outcome


def run_papermill(job: Job, folder: Path, limit: float) -> Any:
    """Execute a chapter in a folder, and after its last cell its solutions, and return all of these cells.

    Raises:
        UnfinishedError: it did not run to its end, an exercise is not open, or a solution is not right.
    """
    import nbformat
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.engines import NBClientEngine, papermill_engines
    from papermill.exceptions import PapermillExecutionError
    from papermill.execute import execute_notebook

    seconds = max(1, round(limit * job.budget))
    started = time.monotonic()
    begun: list[Any] = []

    def allowed(cell: Any) -> int:
        """The seconds since the start after which a cell is stopped; the solutions have as many again."""
        return 2 * seconds if SOLUTION in tags_of(cell) else seconds

    class CourseEngine(NBClientEngine):  # type: ignore[misc]
        """papermill's own engine and the solutions; the notebook is kept when a cell fails or never ends."""

        @classmethod
        def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **options: Any) -> Any:
            for identity, source in job.solutions.items():
                metadata = {"tags": [SOLUTION], "papermill": {"status": nb_man.PENDING}}
                cell = nbformat.v4.new_code_cell(source, id=f"run-{identity}", metadata=metadata)
                nb_man.nb.cells.append(cell)
            begun.append(nb_man.nb)
            for _ in range(KERNEL_STARTS - 1):
                try:
                    return super().execute_managed_notebook(nb_man, kernel_name, **options)
                except RuntimeError as error:
                    if "Kernel died before replying" not in str(error):
                        raise
            return super().execute_managed_notebook(nb_man, kernel_name, **options)

    papermill_engines.register("course", CourseEngine)
    try:
        return execute_notebook(
            job.chapter.source,
            None,
            job.parameters,
            engine_name="course",
            cwd=folder,
            kernel_name="python3",
            progress_bar=False,
            request_save_on_cell_execute=False,
            start_timeout=KERNEL_START_TIMEOUT,
            timeout_func=lambda cell: max(1, round(started + allowed(cell) - time.monotonic())),
            extra_arguments=["--IPKernelApp.log_level=50"],
        )
    except PapermillExecutionError as error:
        raise UnfinishedError(
            error.exec_count, error.source, "\n".join(error.traceback), begun[-1]
        ) from error
    except CellTimeoutError as error:
        number, cell = last_started(begun[-1])
        reason = f"The chapter was stopped after {allowed(cell)} s, in this cell."
        raise UnfinishedError(number, cell.source, reason, begun[-1]) from error
    except DeadKernelError as error:
        number, cell = last_started(begun[-1])
        reason = "The kernel died while it ran this cell, most often for lack of memory."
        raise UnfinishedError(number, cell.source, reason, begun[-1]) from error


def last_started(notebook: Any) -> tuple[int, Any]:
    """The number of the code cell that was running when the chapter stopped, and the cell."""
    begun = [
        cell
        for cell in notebook.cells
        if cell.cell_type == "code" and cell.metadata.papermill.get("start_time") is not None
    ]
    return len(begun), begun[-1]


def report(job: Job, number: int, source: str, reason: str) -> str:
    """What a failed chapter prints: chapter, cell or exercise, the cell's source, the traceback."""
    cells = read_notebook(job.chapter.source)["cells"]
    ids = [cell["id"] for cell in cells if cell["cell_type"] == "code" and source_of(cell) == source]
    solved = [identity for identity, code in job.solutions.items() if code == source]
    if solved:
        where = f"exercise {'.'.join(solved[0].split('-')[1:])} or its solution ({solved[0]})"
    else:
        where = f"code cell {number} ({ids[0] if ids else 'the injected parameters'})"
    numbered = "\n".join(f"{line:4}  {text}" for line, text in enumerate(source.splitlines(), start=1))
    return f"{job.chapter.slug}.ipynb failed in {where}:\n\n{numbered}\n\n{reason}\n"


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
    noted = course_metadata(read_notebook(job.output))
    return float(noted.get("seconds", job.budget) + noted.get("seconds_of_solutions", 0))


def find_commit(repository: Repository) -> str:
    """The short commit of the sources, with `+` when the working tree differs from it.

    Records are what runs leave there, and say themselves of which commit they are.
    """
    git = ["git", "-C", str(repository.root)]
    commit = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    if commit.returncode != 0:
        return "not in git"
    changed = subprocess.run(
        [*git, "status", "--porcelain", "--", ".", ":!data/results"], capture_output=True, text=True
    ).stdout
    return commit.stdout.strip() + ("+" if changed else "")


def find_whole_commit(repository: Repository) -> str | None:
    """The commit that the sources are of, in full; None where they differ from every commit."""
    short = find_commit(repository)
    if not short.isalnum():
        return None
    git = ["git", "-C", str(repository.root), "rev-parse", short]
    return subprocess.run(git, check=True, capture_output=True, text=True).stdout.strip()


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
    solutions = f", its solutions in {outcome.solutions:.1f} s" if outcome.solutions else ""
    return f"{outcome.slug}: {end} in {outcome.seconds:.1f} s of {outcome.budget:.0f} s{solutions}"


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
