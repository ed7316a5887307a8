"""`kd run --minutes`: the shortest runs first, an end in time, and the records in one file."""

import threading
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from kdlib import cli
from kdlib.experiments import Store, find_recipes, run_recipe
from kdlib.experiments.packing import unpack_records
from kdlib.experiments.sweeps import run_graph
from kdlib.experiments.sweeps.sitting import Sitting, shortest_first


class Clock:
    """A clock that stands still until it is set forward, and rings then."""

    def __init__(self):
        self.now = 1000.0
        self.ring = self.at = None

    def __call__(self):
        return self.now

    def alarm(self, seconds, ring):
        self.at, self.ring = self.now + seconds, ring
        return threading.Timer(1e6, ring)  # of which a sitting starts and cancels one

    def forward(self, seconds):
        self.now += seconds
        if self.now >= self.at:
            self.ring()


@pytest.fixture
def clock(monkeypatch):
    """The clock of every sitting that the command begins."""
    made = Clock()
    monkeypatch.setattr(Sitting, "__init__", _with(made, Sitting.__init__))
    return made


def _with(clock, begin):
    return lambda self, minutes: begin(self, minutes, clock, clock.alarm)


def kd(*words):
    return CliRunner().invoke(cli.app, ["run", *words, "--device", "cpu"])


def order(pattern, seeds=None, profile="quick"):
    recipes = find_recipes(pattern, profile)
    asked = [run for recipe in recipes for run in cli._runs([recipe], seeds or ())]
    return [str(run) for run in shortest_first(run_graph(recipes, seeds), asked, "cpu")]


def test_the_shortest_come_first_with_what_they_need():
    assert order("made/t*")[:3] == ["made/teacher@100", "made/taught@0", "made/taught-again@0"]
    assert order("made/t*")[-1] == "made/taught-long@0", "its teacher has 250 epochs"


def test_what_a_record_says_counts_more_than_the_number_of_images(places):
    def first():
        return next(
            name for name in order("made/t*", profile="full") if name in ("made/taught@0", "made/tuned@0")
        )

    assert first() == "made/taught@0", "both see as many images"
    for name, seconds in (("made/taught", 9e6), ("made/tuned", 1.0)):
        (quick,), (full,) = (find_recipes(name, profile) for profile in ("quick", "full"))
        record = run_recipe(quick, 0, device="cpu", progress=False, store=Store.temporary())
        record = replace(record, seconds=seconds, profile="full", recipe=full.as_dict())
        record.save(places / "results" / "made" / record.place)
    assert first() == "made/tuned@0"


def test_all_of_it_fits(places):
    done = kd("made/taught", "--minutes", "5")
    assert done.exit_code == 0, done.output
    file = Store().root / "records.zip"
    assert str(file) in done.stderr
    assert list(unpack_records(file)) == [
        "made/quick/made-taught-seed0.json", "made/quick/made-teacher-seed100.json",
    ]  # fmt: skip
    assert kd("made/taught", "--minutes", "5").exit_code == 0, "nothing is left to do"


def test_the_end_comes_in_time_and_the_next_sitting_goes_on(clock, monkeypatch):
    reached = []

    def train(recipe, seed, **options):
        reached.append(f"{recipe.name}@{seed}")
        clock.forward(200)  # of 540 - 20
        return run_recipe(recipe, seed, progress=False, **options)

    monkeypatch.setattr(cli, "run_recipe", train)
    first = kd("made/taught", *(f"--seed={seed}" for seed in range(4)), "--minutes", "9")
    assert first.exit_code == 1
    assert reached == ["made/taught@0", "made/taught@1", "made/taught@2"], "it rang in the third"
    assert "error: 2 of 4 runs are left after 9 minutes; the same command goes on." in first.stderr
    assert len(unpack_records(Store().root / "records.zip")) == 3, "two runs and their teacher"
    reached.clear()
    clock.now = 5000.0
    monkeypatch.setattr(
        cli, "run_recipe", lambda *which, **options: run_recipe(*which, progress=False, **options)
    )
    second = kd("made/taught", *(f"--seed={seed}" for seed in range(4)), "--minutes", "9")
    assert second.exit_code == 0, second.output
    assert len(unpack_records(Store().root / "records.zip")) == 5


def test_a_run_under_way_keeps_its_checkpoint():
    done = kd("made/long-teacher", "--set", "training.epochs=100000", "--minutes", "0.1")
    assert done.exit_code == 1, done.output
    assert "error: 1 of 1 runs are left after 0.1 minutes" in done.stderr
    assert [path.name for path in Store().root.rglob("checkpoint.safetensors")]
    assert unpack_records(Store().root / "records.zip") == {}


def test_somebody_elses_ctrl_c_is_one(clock, monkeypatch):
    def stopped(*which, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "run_recipe", stopped)
    assert kd("made/taught", "--minutes", "9").exit_code == 130


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--minutes", "0"], "error: --minutes is 0; it must be above 0."),
        (["--minutes", "nan"], "error: --minutes is nan; it must be above 0."),
        (
            ["--minutes", "9", "--processes", "2"],
            "error: --minutes is for one process, and there are several",
        ),
    ],
)
def test_requests_that_cannot_be_met(options, sentence):
    done = kd("made/taught", *options)
    assert (done.exit_code, done.stderr.startswith(sentence)) == (2, True), done.stderr
