"""Runs of two processes that train together: the record of one, one that writes, stopped and taken up."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from kdlib.experiments import Store, find_recipes, run_recipe

pytestmark = pytest.mark.system

KD = [sys.executable, "-m", "kdlib.cli"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "kdlib.cli"]

# In steps so small that the order of summation does not matter.
SETTINGS = {"training.learning_rate": "0.001"}


@pytest.fixture
def start():
    """Start a command; what it writes is in its `stdout` and `stderr`."""
    started = []

    def begin(command):
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, env=environment, **pipes))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def wait_for(condition, seconds=90):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)


def workers(process):
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True)
    return [int(pid) for pid in found.stdout.split()]


def sentences(errors):
    """What was said, without the lines of the bar."""
    return [line for line in errors.splitlines() if not line.startswith("training:")]


def test_two_processes_run_a_recipe_with_its_teacher(start, made, tmp_path):
    """While somebody else has the teacher's lock, the first waits for it and the other for the first."""
    teacher = Store().folder(*made("taught").teacher)
    with teacher.held(lambda: None):
        process = start([*TORCHRUN, "run", "made/taught", "--seed", "0", "--json"])
        assert "another process is at it; waiting for it" in process.stderr.readline()
    output, errors = process.communicate(timeout=400)
    assert process.returncode == 0, errors
    assert sentences(errors) == ["made/teacher@100 (quick): training", "made/taught@0 (quick): training"]
    (told,) = json.loads(output)
    record = run_recipe(made("taught"), 0)
    assert told["final"] == record.final, "the store's"
    assert record.environment["processes"] == 2
    alone = run_recipe(made("taught"), 0, store=Store(tmp_path / "alone"), progress=False)
    assert record.epochs.keys() == alone.epochs.keys()
    # Batch norm sees shares of the batches on a CPU.
    assert record.epochs["loss"] == pytest.approx(alone.epochs["loss"], rel=0.1)
    assert record.final.keys() == alone.final.keys()
    folder = Store().folder(made("taught"), 0)
    assert len(list(folder.tensorboard.iterdir())) == 1
    assert {file.name for file in folder.path.iterdir()} == {
        "lock", "record.json", "student.safetensors", "tensorboard"
    }  # fmt: skip


def test_stopped_killed_and_taken_up(start, tmp_path):
    (recipe,) = find_recipes("made/long", "quick", SETTINGS)
    folder = Store().folder(recipe, 0)
    changes = [part for key, value in SETTINGS.items() for part in ("--set", f"{key}={value}")]
    command = [*KD, "run", "made/long", "--seed", "0", *changes, "--processes", "2"]

    run_recipe(*recipe.teacher, progress=False)
    process = start(command)
    wait_for(folder.tensorboard.is_dir)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=400)
    assert (process.returncode, output) == (130, "")
    assert sentences(errors) == [
        "made/long@0 (quick): training",
        "stopped; what is done is kept, and the same command goes on from there.",
    ]
    assert folder.is_under_way

    shutil.rmtree(folder.tensorboard)
    process = start(command)
    wait_for(folder.tensorboard.is_dir)
    os.kill(workers(process)[1], signal.SIGKILL)
    output, errors = process.communicate(timeout=400)
    assert (process.returncode, output) == (1, "")
    assert sentences(errors) == [
        "made/long@0 (quick): going on",
        "error: process 1 of 2 was ended by SIGKILL, and the others with it; the same command goes on from "
        "the last checkpoint.",
    ]
    assert folder.is_under_way

    record = run_recipe(recipe, 0, progress=False)
    alone = run_recipe(recipe, 0, store=Store(tmp_path / "alone"), progress=False)
    # Batch norm sees shares of the batches on a CPU.
    assert record.epochs["loss"] == pytest.approx(alone.epochs["loss"], rel=0.1)
    assert record.final.keys() == alone.final.keys()


def test_a_mistake_is_said_once(start):
    process = start([*KD, "run", "made/nothing", "--processes", "2"])
    output, errors = process.communicate(timeout=400)
    assert (process.returncode, output) == (2, "")
    (said,) = errors.splitlines()
    assert said.startswith("error: no recipe is called 'made/nothing'")
