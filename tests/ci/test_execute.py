"""Chapters executed for real, in small: what is kept, what a failure prints, what a failure leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from made_up_course import ROOT, chapter_cells, exercise_cells, write_notebook

from ci import chapters, execute
from ci.chapters import Job, Repository, read_notebook
from ci.execute import Outcome

JobOf = Callable[..., Job]


def printed(job: Job) -> str:
    """Everything that a chapter's cells printed or returned."""
    outputs = [output for cell in read_notebook(job.output)["cells"] for output in cell.get("outputs", [])]
    texts = [output.get("text") or output["data"]["text/plain"] for output in outputs]
    return "".join("".join(text) for text in texts)


def run_failing(repository: Repository, job_of: JobOf, *sources: str, budget: float = 60) -> Outcome:
    """The outcome of a first chapter made of these cells, which is meant to fail."""
    write_notebook(repository.book / "01-alone.ipynb", *chapter_cells("Alone", *sources))
    job = job_of("01")
    quick = replace(job, chapter=replace(job.chapter, budget={"quick": budget}))
    (outcome,) = execute.execute(repository, [quick])
    assert not job.output.exists()
    assert outcome.failure is not None
    return outcome


def test_chapters_run_side_by_side_and_are_current_afterwards(
    repository: Repository, job_of: JobOf, capfd: pytest.CaptureFixture[str]
) -> None:
    jobs = [job_of("01", "short"), job_of("02")]
    outcomes = execute.execute(repository, jobs)
    assert {outcome.slug for outcome in outcomes} == {"01-alone", "02-library"}
    assert [outcome.failure for outcome in outcomes] == [None, None]
    assert all(chapters.is_current(job) for job in jobs)
    assert "seed 7" in printed(jobs[0])
    assert "42" in printed(jobs[1])
    noted = chapters.course_metadata(read_notebook(jobs[0].output))
    assert noted["parameters"] == {"profile": "short", "seed": 7}
    assert noted["seconds"] > 0
    assert set(noted) >= {"started", "budget", "device", "versions", "commit"}
    assert sorted(path.name for path in jobs[0].output.parent.iterdir()) == ["01-alone.ipynb"]
    assert "01-alone: done in" in capfd.readouterr().out


def test_a_failing_cell_is_shown_whole(repository: Repository, job_of: JobOf) -> None:
    outcome = run_failing(repository, job_of, "a = 1", "b = a\nb / 0")
    report = execute.without_colour(str(outcome.failure))
    assert "01-alone.ipynb failed in code cell 3 (step-2)" in report
    assert "   1  b = a\n   2  b / 0" in report
    assert "ZeroDivisionError: division by zero" in report
    assert "\x1b" not in report


def test_a_dead_kernel_is_a_failure_of_the_cell_that_ran(repository: Repository, job_of: JobOf) -> None:
    outcome = run_failing(repository, job_of, "a = 1", "import os\nos._exit(1)")
    assert "code cell 3 (step-2)" in str(outcome.failure)
    assert "kernel died" in str(outcome.failure)


def test_a_kernel_that_finds_its_port_taken_is_started_again(
    repository: Repository, job_of: JobOf, capfd: pytest.CaptureFixture[str]
) -> None:
    launcher = repository.root / "ipykernel_launcher.py"
    launcher.write_text(
        "import pathlib, sys\n"
        "taken = pathlib.Path(__file__).with_name('taken')\n"
        "if not taken.exists():\n"
        "    taken.touch()\n"
        "    sys.exit('Address already in use')\n"
        "from ipykernel import kernelapp\n"
        "kernelapp.launch_new_instance()\n"
    )
    (outcome,) = execute.execute(repository, [job_of("01")])
    assert "Address already in use" in capfd.readouterr().err
    assert outcome.failure is None


def test_a_cell_that_hangs_is_stopped(repository: Repository, job_of: JobOf) -> None:
    outcome = run_failing(repository, job_of, "import time\ntime.sleep(60)", budget=0.2)
    assert "code cell 2 (step-1)" in str(outcome.failure)
    assert "stopped after 2 s" in str(outcome.failure)


def test_the_last_good_execution_stays_when_the_next_one_fails(repository: Repository, job_of: JobOf) -> None:
    good = job_of("01")
    execute.execute(repository, [good])
    before = good.output.read_bytes()
    write_notebook(repository.book / "01-alone.ipynb", *chapter_cells("Alone", "1 / 0"))
    execute.execute(repository, [job_of("01")])
    assert good.output.read_bytes() == before


CHECKS = """
from types import SimpleNamespace

class checks:
    def check(number, answer):
        state = "open" if answer is ... else "right" if answer == total else "wrong"
        return SimpleNamespace(state=state, message=f"{number} is {total}, please")

total = 3
"""


def test_solutions_run_after_the_last_cell_and_leave_no_trace(repository: Repository, job_of: JobOf) -> None:
    first = exercise_cells("1.1", "# Add.\nanswer = ...", "print('solv' + 'ing')\nanswer = found = 1 + 2")
    second = exercise_cells("1.2", "answer = ...", "answer = found")
    cells = [*chapter_cells("Alone", CHECKS, "print(total)"), *first, *second]
    write_notebook(repository.book / "01-alone.ipynb", *cells)
    job = job_of("01")
    ids = [cell["id"] for cell in cells]
    (outcome,) = execute.execute(repository, [job])
    assert outcome.failure is None
    executed = read_notebook(job.output)
    assert [cell["id"] for cell in executed["cells"]] == ids
    assert "solving" not in printed(job)
    assert outcome.solutions > 0
    assert chapters.course_metadata(executed)["seconds_of_solutions"] == round(outcome.solutions, 1)


@pytest.mark.parametrize(
    ("exercise", "solution", "line"),
    [
        ("answer = ...", "answer = 4", "state='wrong', message='1.1 is 3, please'"),
        ("answer = 3", "answer = 3", "state='right', message='1.1 is 3, please'"),
    ],
)
def test_a_solution_that_is_not_right_and_an_exercise_that_is_not_open_stop_the_chapter(
    repository: Repository, job_of: JobOf, exercise: str, solution: str, line: str
) -> None:
    write_notebook(
        repository.book / "01-alone.ipynb",
        *chapter_cells("Alone", CHECKS),
        *exercise_cells("1.1", exercise, solution),
    )
    job = job_of("01")
    (outcome,) = execute.execute(repository, [job])
    report = execute.without_colour(str(outcome.failure))
    assert "01-alone.ipynb failed in exercise 1.1 or its solution (solution-1-1)" in report
    assert f"  {solution}\n" in report
    assert line in report
    assert not job.output.exists()
    assert "run-solution-1-1" in repository.failed("quick", "01-alone").read_text()


def test_a_solution_has_as_long_as_its_chapter(repository: Repository, job_of: JobOf) -> None:
    hanging = exercise_cells("1.1", "answer = ...", "import time\ntime.sleep(60)\nanswer = 3")
    write_notebook(repository.book / "01-alone.ipynb", *chapter_cells("Alone", CHECKS), *hanging)
    job = job_of("01")
    quick = replace(job, chapter=replace(job.chapter, budget={"quick": 0.3}))
    (outcome,) = execute.execute(repository, [quick])
    assert "(solution-1-1)" in str(outcome.failure)
    assert "stopped after 6 s" in str(outcome.failure)


def test_a_longer_profile_runs_no_solutions(repository: Repository, job_of: JobOf) -> None:
    broken = exercise_cells("1.1", "answer = ...", "1 / 0")
    write_notebook(repository.book / "01-alone.ipynb", *chapter_cells("Alone", CHECKS), *broken)
    (outcome,) = execute.execute(repository, [job_of("01", "short")])
    assert (outcome.failure, outcome.solutions) == (None, 0)


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is another signal on Windows")
def test_ctrl_c_leaves_nothing_half_written(repository: Repository) -> None:
    sleeping = "import os, time, pathlib\npathlib.Path('pid').write_text(str(os.getpid()))\ntime.sleep(60)"
    write_notebook(repository.book / "01-alone.ipynb", *chapter_cells("Alone", sleeping))
    program = (
        "import sys; from pathlib import Path; from types import SimpleNamespace; from ci import commands\n"
        "if __name__ == '__main__':\n"
        "    options = SimpleNamespace(command='book', profile='quick', chapters='01')\n"
        "    sys.exit(commands.run(Path(sys.argv[1]), options))\n"
    )
    script = repository.root / "program.py"
    script.write_text(program)
    build = subprocess.Popen(
        [sys.executable, str(script), str(repository.root)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )
    kernel = repository.book / "pid"
    deadline = time.monotonic() + 60
    while not kernel.exists() or not kernel.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.killpg(build.pid, signal.SIGINT)
    assert build.wait(timeout=100) == 130
    assert not list(repository.build.rglob("*.ipynb*"))
    while is_alive(int(kernel.read_text())):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def is_alive(process: int) -> bool:
    """Whether a process is there and is more than a zombie."""
    answer = subprocess.run(["ps", "-o", "stat=", "-p", str(process)], capture_output=True, text=True)
    return answer.stdout.strip() not in ("", "Z", "Zs", "Zsl", "Zl")
