"""A file of recipes and a module of one's own, through `kd`."""

import json
import shutil
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from kdlib.cli import app

RECIPES = """
title = "Mine"
source = "mine"
seeds = [0]
modules = ["my_terms"]

[base]
data = {name = "digits", train_images = 60}
student = {name = "convnet", options = {width = 2}}
terms = [{kind = "HardLabels"}]
training = {epochs = 2, batch_size = 16, learning_rate = 0.1, weight_decay = 5e-4, optimizer = "SGD"}

[singles.teacher]
seeds = [100]
student = {name = "convnet", options = {width = 4}}

[singles.taught]
teacher = "mine/teacher@100"
terms = [{kind = "HardLabels"}, {kind = "Gap"}]
"""

TERM = """
from kdlib.terms import Term, register


@register("Gap")
class Gap(Term):
    name = "gap"

    def __init__(self, weight: float = 1.0):
        super().__init__(weight)

    def forward(self, outputs):
        return (outputs.student_logits - outputs.taught()).abs().mean()
"""


@pytest.fixture(autouse=True)
def file(tmp_path, monkeypatch):
    """The recipes; what is registered and imported goes with the test."""
    monkeypatch.setattr("kdlib.own._OWN", {"term": {}, "network": {}, "data set": {}})
    monkeypatch.setattr(sys, "path", [*sys.path])
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "my_terms.py").write_text(TERM)
    (folder / "mine.toml").write_text(RECIPES)
    yield folder / "mine.toml"
    sys.modules.pop("my_terms", None)


def kd(*arguments):
    return CliRunner().invoke(app, [str(each) for each in arguments])


def test_run_list_and_table_take_the_file(file, places):
    result = kd("run", file, "--profile", "short", "--device", "cpu", "--json")
    assert result.exit_code == 0, result.output
    teacher, taught = json.loads(result.stdout)
    assert (teacher["recipe"], taught["recipe"]) == ("mine/teacher", "mine/taught")
    kept = sorted(path.relative_to(places / "results") for path in (places / "results").rglob("*.json"))
    assert [str(path) for path in kept] == [
        "mine/short/mine-taught-seed0.json", "mine/short/mine-teacher-seed100.json",
    ]  # fmt: skip
    record = json.loads((places / "results" / kept[0]).read_text())
    assert "gap" in record["epochs"]
    assert record["environment"]["own_code"] in taught["folder"]
    (listed,) = json.loads(kd("list", f"{file}:taught", "--json").stdout)
    assert listed["recipe"] == "mine/taught"
    assert listed["short"]["done"] == [0]
    (found,) = json.loads(kd("table", file, "--json").stdout)
    means = {row["recipe"]: row["mean"] for row in found["rows"] if row["profile"] == "short"}
    assert means == {each["recipe"]: each["final"]["accuracy"] for each in (teacher, taught)}


def test_the_table_of_ones_own_does_without_what_was_published(file, tmp_path, monkeypatch):
    monkeypatch.setenv("KDLIB_PUBLISHED", str(tmp_path))
    assert "mine/taught" in kd("table", file).stdout


def test_a_file_that_is_not_there_is_one_sentence(file):
    result = kd("run", file.with_name("other.toml"))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: there is no file ")
    assert len(result.stderr.splitlines()) == 1


def test_another_process_imports_the_module(file):
    """Two of them, which read the file again."""
    command = [sys.executable, "-m", "kdlib.cli", "run", f"{file}:taught", "--processes", "2"]
    done = subprocess.run([*command, "--device", "cpu"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "weights of mine/taught: " in done.stdout


def test_verify_says_first_what_else_it_trains_and_how_long_that_took(file, places):
    pattern = f"{file}:taught"
    assert kd("run", pattern, "--profile", "short", "--device", "cpu").exit_code == 0
    kept = places / "results/mine/short"
    teacher = kept / "mine-teacher-seed100.json"
    teacher.write_text(json.dumps(json.loads(teacher.read_text()) | {"seconds": 18000.0}))
    record = kept / "mine-taught-seed0.json"
    assert "trained first" not in kd("verify", record).stderr, "the teacher is in the store"
    shutil.rmtree(places / "runs")
    result = kd("verify", record)
    assert result.exit_code == 0, result.output
    said = "mine/teacher@100 is not in the store, and is trained first; when it was recorded that took 5.0 h"
    assert result.stderr.startswith(f"{said}, on cpu")
    teacher.unlink()
    shutil.rmtree(places / "runs", ignore_errors=True)
    assert "trained first; how long that takes is not recorded" in kd("verify", record).stderr


def test_tensorboard_shows_the_name_of_the_run(file, places):
    assert kd("run", f"{file}:teacher", "--device", "cpu").exit_code == 0
    (events,) = (places / "runs").rglob("events*")
    assert events.parent.as_posix().endswith("/tensorboard/mine/teacher@100")
