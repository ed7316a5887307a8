"""Sweeps by Snakemake, on this machine and on a Slurm: no run is lost, and none done twice."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest

from kdlib.experiments import Store, find_recipes
from kdlib.experiments.sweeps import Sweep, run_sweep

pytestmark = pytest.mark.system

pytest.importorskip("snakemake", reason="Snakemake is not installed: pip install kdlib[cluster]")


@pytest.fixture
def sweep():
    """`kd sweep` as a process of its own, which ends with the test."""
    begun = []

    def begin(*arguments):
        command = [sys.executable, "-m", "kdlib.cli", "sweep", "--device", "cpu", *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        begun.append(subprocess.Popen(command, **pipes, start_new_session=True))
        return begun[-1]

    yield begin
    for process in begun:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def worker_that_trains(name, engine):
    """The process that performs a run, once its training is under way; `engine` is to bring it there."""
    recipe, _, seed = name.rpartition("@")
    folder = Store().folder(find_recipes(recipe, "quick")[0], int(seed))
    while engine.poll() is None:
        if folder.tensorboard.is_dir() and any(folder.tensorboard.iterdir()):
            for process in psutil.process_iter(["cmdline"]):
                words = process.info["cmdline"] or []
                if "kdlib.experiments.sweeps.job" in words and name in words:
                    return process
        time.sleep(0.1)
    raise AssertionError(f"{name} was not trained: {engine.communicate()}")


def finished(places):
    """Name and seed of every record in the store: a list, so that twice would be twice."""
    records = [json.loads(path.read_text()) for path in (places / "runs").glob("*/*/seed*/record.json")]
    return sorted(f"{record['label']}@{record['seed']}" for record in records)


def trainings(places, *, of):
    """How often the logs of all sweeps say that a run was begun."""
    logs = (places / "runs/sweeps").glob(f"*/logs/{of}.log")
    return sum(log.read_text().count(f"{of} (quick): training") for log in logs)


def test_two_sweeps_of_one_store_and_a_killed_worker(sweep, places):
    """Both see the run as theirs; the store's locks let one train it, and the other take its result."""
    options = ("made/long-teacher", "--cores", "2")
    both = [sweep(*options), sweep(*options)]
    os.kill(worker_that_trains("made/long-teacher@100", both[0]).pid, signal.SIGKILL)
    said = [process.communicate(timeout=400) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert finished(places) == ["made/long-teacher@100"]
    assert all("made/long-teacher" in out for out, _ in said), "both show the table"
    assert list((places / "runs/sweeps").iterdir()) == [], "what a sweep needed on its way is gone"


def test_a_run_that_fails_is_told_in_one_sentence_and_the_others_go_on(places):
    (said,) = run_sweep(Sweep("made/[dt]*e*r*", "quick", device="cpu", retries=0))
    assert said.startswith("made/diverging@0: made/diverging@0 (quick) failed: ")
    assert "too high a learning rate" in said
    assert finished(places) == ["made/teacher@100"]
    assert trainings(places, of="made/diverging@0") == 1


def test_on_slurm_a_killed_worker_is_replaced(slurm, sweep, places):
    """The controller sees the job fail, and Snakemake submits it again."""
    # A job is asked for after 8 seconds, then after 18 more: most are done by then.
    process = sweep(
        "made/long-teacher", "--executor", "slurm", "--cores", "2", "--",
        "--slurm-init-seconds-before-status-checks", "8", "--latency-wait", "5",
    )  # fmt: skip
    os.kill(worker_that_trains("made/long-teacher@100", process).pid, signal.SIGKILL)
    out, said = process.communicate(timeout=400)
    assert process.returncode == 0, said
    assert finished(places) == ["made/long-teacher@100"]
    assert "made/long-teacher" in out
    jobs = (slurm / "slurmctld.log").read_text()
    assert jobs.count("_slurm_rpc_submit_batch_job") == 2, "the killed one and its second attempt"
    assert jobs.count("WEXITSTATUS 0") == 1


@pytest.fixture
def small_disk(places, monkeypatch):
    """The store is on a disk of two megabytes."""
    mounted = places / "small"
    mounted.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(mounted)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("a small disk can be mounted by root only")
    monkeypatch.setenv("KDLIB_RUNS", str(mounted))
    yield mounted
    subprocess.run(["umount", "--lazy", str(mounted)], check=True)


def test_a_full_disk_is_told_and_once_there_is_room_the_sweep_goes_on(small_disk):
    sweep = Sweep("made/teacher", "quick", device="cpu")
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space left"):
        filler.write_bytes(bytes(3_000_000))
    assert run_sweep(sweep) == [
        f"the disk of {small_disk / 'sweeps'} is full; make room, and the same command goes on where "
        "the sweep was"
    ]
    filler.unlink()
    assert run_sweep(sweep) == []
    assert len(list(small_disk.glob("*/*/seed100/record.json"))) == 1


def test_a_sweep_of_a_file_with_settings_and_a_module(sweep, places):
    """Beside the teacher as the file has it, the same recipe changed, as one of those that are named."""
    folder = places / "mine"
    folder.mkdir()
    (places / "recipes/made.toml").rename(folder / "made.toml")
    lines = (folder / "made.toml").read_text()
    (folder / "made.toml").write_text('modules = ["my_networks"]\n' + lines.replace('"convnet"', '"mine"'))
    (folder / "my_networks.py").write_text(
        "from kdlib.models import create_model, register\n\n\n"
        "@register('mine')\ndef mine(num_classes, in_channels, width=4):\n"
        "    return create_model('convnet', num_classes, in_channels=in_channels, width=width)\n"
    )
    changes = ["--set", "training.epochs=1", "--set", "data.size=12"]
    begun = sweep(f"{folder}/made.toml:t*[rt]", "--cores", "1", *changes, "--seed", "100")
    out, err = begun.communicate(timeout=400)
    assert begun.returncode == 0, err
    assert "made/taught" in out
    records = [json.loads(path.read_text()) for path in (places / "runs").glob("*/*/seed*/record.json")]
    assert sorted((each["label"], each["settings"]["epochs"]) for each in records) == [
        ("made/taught", 1), ("made/teacher", 1), ("made/teacher", 4),
    ]  # fmt: skip
    assert {each["recipe"]["data"]["size"] for each in records} == {12}
