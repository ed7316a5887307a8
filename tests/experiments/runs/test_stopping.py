"""Runs that are stopped anywhere, by anything, and go on to the bits of a run that was never stopped.

This file is also a program, for as long as one likes: ``python -m tests.experiments.runs.test_stopping kills
200`` kills so many runs, alone and with a second process after the same run; ``… full-disks`` lets the disk
be full at every page that a run writes, for which it has to be allowed to mount one (``unshare --user
--map-root-user --mount`` in front of it does). Pytest does a few of the first.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
import torch
from tqdm import tqdm

from kdlib.experiments import RunRecord, Store, find_recipes, run_recipe
from kdlib.training import state
from kdlib.training.state import load_tensors

FAMILY = """
title = "Made to be stopped"
source = "none"
seeds = [0]

[base]
data = {name = "digits", train_images = 60}
student = {name = "convnet", options = {width = 4}}
terms = [{kind = "HardLabels"}, {kind = "SoftTargets", temperature = 4.0}]
training = {epochs = 8, batch_size = 16, learning_rate = 0.1, weight_decay = 5e-4, optimizer = "SGD"}

[singles.teacher]
seeds = [100]
student = {name = "convnet", options = {width = 8}}
terms = [{kind = "HardLabels"}]
training = {epochs = 4}

[singles.staged]
teacher = "stopped/teacher@100"
first_stage = {terms = [{kind = "Hints", layers = ["layer1"]}], epochs = 4}
"""

# Some write a checkpoint after every step, so that many are killed while they write.
SECONDS_BETWEEN_CHECKPOINTS = (0.0, 0.05, 0.3)


def never_stopped(folder: Path) -> dict[str, object]:
    """What comes of a run in this process, which has then imported all that those it forks will need."""
    tqdm.monitor_interval = 0  # its thread would be in the way of a fork
    (folder / "stopped.toml").write_text(FAMILY, encoding="utf-8")
    os.environ["KDLIB_RECIPES"] = str(folder)
    train(folder / "whole", 0.0)
    return result(folder / "whole")


def train(store: Path, seconds_between_checkpoints: float) -> None:
    state._SECONDS_BETWEEN_CHECKPOINTS = seconds_between_checkpoints
    os.environ["KDLIB_RESULTS"] = str(store / "results")
    (recipe,) = find_recipes("stopped/staged", "short")
    run_recipe(recipe, 0, device="cpu", progress=False, store=Store(store))


def begin(work: Callable[[], object], said: Path) -> int:
    """The id of a new process that does this; how it ends is its exit code, and what it says in a file."""
    process = os.fork()
    if process:
        return process
    try:
        work()
    except BaseException as error:
        said.write_text(f"{type(error).__name__}: {error}", encoding="utf-8")
        os._exit(1)
    os._exit(0)


def result(store: Path) -> dict[str, object]:
    """All that came of the run and its teacher: weights, record, published record, log.

    A process that was killed at its very end, when record and weights were there, leaves more: its
    checkpoint, or the folder in which it wrote.
    """
    found: dict[str, object] = {}
    (recipe,) = find_recipes("stopped/staged", "short")
    assert recipe.teacher is not None
    for each, seed in (recipe.teacher, (recipe, 0)):
        folder = Store(store).folder(each, seed)
        tensors, _ = load_tensors(folder.student)
        record = folder.load_record()
        assert RunRecord.load(store / "results" / "stopped" / record.place) == record
        found |= {f"{each.name}, {name}": value.tolist() for name, value in tensors.items()}
        found |= {f"{each.name}, curves": record.epochs, f"{each.name}, metrics": record.final}
        assert folder.tensorboard.is_dir()
    return found


def assert_same(store: Path, expected: dict[str, object]) -> None:
    found = result(store)
    differing = {name: found.get(name) for name in expected if found.get(name) != expected[name]}
    assert found.keys() == expected.keys(), found.keys() ^ expected.keys()
    assert not differing, f"another result than without a stop, in {store}: {differing}"


def kills(count: int, seed: int = 0) -> Counter[str]:
    """Kill so many processes at any moment of their lives; how often what was found by the next."""
    chance, counted = random.Random(seed), Counter[str]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        expected, began = never_stopped(folder), time.monotonic()
        assert attempt(folder / "again", folder / "said") == 0, (folder / "said").read_text()
        length = time.monotonic() - began
        while counted["killed"] < count:
            store = folder / f"runs{counted['runs']}"
            counted += one_run(store, chance, length)
            assert_same(store, expected)
    return counted


def one_run(store: Path, chance: random.Random, length: float) -> Counter[str]:
    """Kill a run again and again until it gets to its end; in every other sitting two are after it."""
    counted = Counter(runs=1)
    ended = False
    while not ended:
        # Later kills may come later, so that there is an end.
        wait = chance.uniform(0, length * (1 + counted["killed"] / 4))
        between, rivals = chance.choice(SECONDS_BETWEEN_CHECKPOINTS), chance.choice([1, 2])
        said = [store.with_suffix(f".said{number}") for number in range(rivals)]
        processes = [begin(partial(train, store, between), file) for file in said]
        time.sleep(wait)
        os.kill(processes[0], signal.SIGKILL)
        for process, file in zip(processes, said, strict=True):
            _, status = os.waitpid(process, 0)
            if os.WIFSIGNALED(status):
                counted["killed"] += 1
                counted[f"killed {stage(store)}"] += rivals == 1
            else:
                assert status == 0, file.read_text(encoding="utf-8")
                counted["with another process after the same run"] += rivals == 2
                ended = True
    return counted


def stage(store: Path) -> str:
    """How far the run had come."""
    (recipe,) = find_recipes("stopped/staged", "short")
    assert recipe.teacher is not None
    teacher, student = (Store(store).folder(each, seed) for each, seed in (recipe.teacher, (recipe, 0)))
    half = " in the middle of a write" if list(store.rglob(".part-*")) else ""
    if student.is_finished:
        return f"after the end{half}"
    for folder, checkpoint, what in (
        (student, student.checkpoint, "in the main stage"),
        (student, student.first_checkpoint, "in the first stage"),
        (teacher, teacher.checkpoint, "in the teacher's training"),
    ):
        if folder.path.is_dir() and checkpoint.is_file():
            return f"{what}{half}"
    return f"before the first checkpoint of a network{half}"


def full_disks(step: int = 4096) -> Counter[str]:
    """A disk that is full a page later each time, until the run has room; then room, and the run goes on."""
    counted = Counter[str]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        expected, disk = never_stopped(folder), folder / "disk"
        disk.mkdir()
        size, status = 0, 1
        while status:
            size += step
            with ExitStack() as stack:
                mount(disk, f"size={size}")
                stack.callback(subprocess.run, ["umount", str(disk)], check=True)
                status = attempt(disk / "runs", folder / "said")
                if status:
                    said = (folder / "said").read_text(encoding="utf-8")
                    told = f"OSError: [Errno 28] the disk of {disk}"
                    assert said.startswith(told), said
                    assert "make room, and the run goes on" in said, said
                    counted["full, said in a sentence"] += 1
                    mount(disk, "remount,size=8m")
                    assert attempt(disk / "runs", folder / "said") == 0, (folder / "said").read_text()
                assert_same(disk / "runs", expected)
                counted["done"] += 1
    return counted


def attempt(store: Path, said: Path) -> int:
    """The exit code of a process that trains with a checkpoint after every step."""
    return os.waitpid(begin(lambda: train(store, 0.0), said), 0)[1]


def mount(place: Path, options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], check=True)


@pytest.mark.system
def test_killed_at_any_moment_and_resumed_gives_the_same_bits():
    command = [sys.executable, "-m", "tests.experiments.runs.test_stopping", "kills", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.splitlines()[0].split()[0]) >= 3


if __name__ == "__main__":
    torch.set_num_threads(1)
    match sys.argv[1:]:
        case ["kills", count]:
            outcome = kills(int(count))
        case ["full-disks"]:
            outcome = full_disks()
        case _:
            sys.exit(__doc__)
    for what, number in outcome.most_common():
        print(number, what)
