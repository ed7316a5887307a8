"""`kd`: what it prints where, its exit codes, and one sentence for every mistake."""

import csv
import errno
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kdlib.cli import app
from kdlib.experiments import Store, find_recipes
from kdlib.experiments.report.published import published_names

BASELINE = "cifar/methods/cifar10/20-20/baseline"
OFF = ["--set", "training.epochs=1", "--set", "data.train_images=50", "--device", "cpu"]


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    """Runs, results and data of this test alone."""
    for name in ("runs", "results", "data"):
        monkeypatch.setenv(f"KDLIB_{name.upper()}", str(tmp_path / name))
    return tmp_path


def kd(*arguments):
    return CliRunner().invoke(app, arguments)


def said(result, code):
    """The one sentence of a command that went wrong, beside its bars and the blanks that clear them."""
    assert result.exit_code == code, result.output
    lines = [
        line
        for line in result.stderr.splitlines()
        if line.strip() and not line.startswith(("training:", "cifar/"))
    ]
    assert len(lines) == 1
    assert "Traceback" not in result.output
    return lines[0]


@pytest.mark.parametrize(
    "command",
    [[], ["run"], ["table"], ["list"], ["data"], ["data", "get"], ["verify"]],
)
def test_help(command):
    result = kd(*command, "--help")
    assert result.exit_code == 0
    assert "Usage: " in result.output


def test_the_command_is_installed():
    """As a process of its own: exit code, stdout and stderr are what a script sees."""
    command = [sys.executable, "-c", "from kdlib.cli import main; main()", "run", "cifar/method"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: no recipe is called 'cifar/method'")


def test_run_shows_accuracy_over_seeds():
    result = kd("run", BASELINE, "--seed", "0", "--seed", "1", *OFF)
    assert result.exit_code == 0, result.stderr
    assert BASELINE in result.stdout
    assert "(2 seeds)" in result.stdout
    assert f"{BASELINE}@1 (quick): training" in result.stderr


def test_json_parses_and_has_one_entry_a_run():
    result = kd("run", BASELINE, "--seed", "0", "--json", *OFF)
    (entry,) = json.loads(result.stdout)
    assert (entry["recipe"], entry["profile"], entry["seed"]) == (BASELINE, "quick", 0)
    assert 0 <= entry["final"]["accuracy"] <= entry["best_test_accuracy"] <= 1
    assert Path(entry["folder"]).relative_to(Store().root).parts[1:] == (entry["digest"], "seed0")
    again = kd("run", BASELINE, "--seed", "0", "--json", *OFF)
    assert json.loads(again.stdout) == [entry]
    assert again.stderr == "", "it was there, so that nothing was trained"


def test_run_says_where_the_weights_are():
    result = kd("run", BASELINE, "--seed", "0", "--seed", "1", *OFF)
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("weights of ")]
    name, place = line.removeprefix("weights of ").split(": ")
    assert (name, place.partition("/seed")[2]) == (BASELINE, "{0,1}/student.safetensors")
    shown = subprocess.run(["bash", "-c", f"ls {place}"], capture_output=True, text=True, check=True)
    assert len(shown.stdout.split()) == 2, "a shell finds both"
    (one,) = json.loads(kd("run", BASELINE, "--seed", "0", "--json", *OFF).stdout)
    assert one["weights"] in shown.stdout.split()
    (alone,) = kd("run", BASELINE, "--seed", "0", *OFF).stdout.splitlines()[-1:]
    assert alone == f"weights of {BASELINE}: {one['weights']}"


def test_an_unknown_recipe_has_near_names():
    sentence = said(kd("run", "cifar/methods/cifar10/20-20/basline"), 2)
    assert f"did you mean '{BASELINE}'" in sentence


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "training.epochs"], "--set is 'training.epochs'; write a key and a value"),
        (["--set", "training.epoch=3"], "did you mean 'epochs'"),
        (["--device", "abacus"], "device 'abacus' cannot be used here"),
        (["--seed", "-1"], "--seed is [0, -1]; write one whole number or more, none below 0"),
        (["--seed", "0"], "--seed is [0, 0]; write one whole number or more"),
    ],
)
def test_settings_that_cannot_be(arguments, message):
    assert message in said(kd("run", BASELINE, "--seed", "0", *arguments), 2)


def test_a_sweep_refuses_the_same_seeds():
    assert "--seed is [-1]; write" in said(kd("sweep", BASELINE, "--seed", "-1"), 2)


def test_many_names_are_counted_and_not_all_listed():
    sentence = said(kd("run", "cifar/nothing/like/it"), 2)
    assert re.search(
        r"there are \d+, such as cifar/[^,]+, cifar/[^,]+, cifar/\S+\. `kd list` shows them", sentence
    )


def test_a_profile_that_is_none():
    result = kd("run", BASELINE, "--profile", "thorough")
    assert result.exit_code == 2
    assert "thorough" in result.stderr


def test_data_that_is_not_here_is_told_with_the_command_that_gets_it():
    sentence = said(kd("run", BASELINE, "--profile", "full", "--seed", "0"), 2)
    assert "'cifar10' is not in" in sentence
    assert "kd data get cifar10" in sentence


def test_a_loss_that_is_no_number_fails_one_run_and_not_the_others():
    result = kd(
        "run", BASELINE, "--seed", "0", "--seed", "1", "--json", *OFF, "--set", "training.learning_rate=1e30"
    )
    lines = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert result.exit_code == 1
    assert json.loads(result.stdout) == []
    assert [line.split(" failed: ")[0] for line in lines] == [
        f"error: {BASELINE}@{seed} (quick)" for seed in (0, 1)
    ]


def test_a_run_that_failed_has_no_table():
    result = kd("run", BASELINE, "--seed", "0", *OFF, "--set", "training.learning_rate=1e30")
    assert (result.exit_code, result.stdout) == (1, "")


def test_a_full_disk_is_one_sentence(monkeypatch):
    def full(*_arguments, **_options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("safetensors.torch.save", full)
    sentence = said(kd("run", BASELINE, "--seed", "0", *OFF), 1)
    assert "is full; make room, and the run goes on from its last checkpoint" in sentence


def test_a_damaged_record_is_one_sentence():
    kd("run", BASELINE, "--seed", "0", *OFF)
    (record,) = Store().root.glob("*/*/seed0/record.json")
    record.write_text("{")
    assert f"{record} is not a run record" in said(kd("run", BASELINE, "--seed", "0", *OFF), 2)


def test_ctrl_c(monkeypatch):
    def press(*_arguments, **_options):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("kdlib.experiments.runner._train", press)
    assert said(kd("run", BASELINE, "--seed", "0", *OFF), 130).startswith("stopped; what is done is kept")


def test_list_counts_the_runs_that_are_done():
    recipe = find_recipes(BASELINE, "quick")[0]
    kd("run", BASELINE, "--seed", str(recipe.seeds[0]), "--device", "cpu")
    Store().folder(recipe, recipe.seeds[1]).path.mkdir(parents=True)
    Store().folder(recipe, recipe.seeds[1]).checkpoint.touch()
    (line,) = [
        line for line in kd("list", "cifar/methods/cifar10/20-20/*").stdout.splitlines() if BASELINE in line
    ]
    assert line.split("  ")[-1].strip() == f"1 of {len(recipe.seeds)}, one under way"
    (found,) = json.loads(kd("list", BASELINE, "--json").stdout)
    assert found["recipe"] == BASELINE
    assert found["quick"] == {"seeds": list(recipe.seeds), "done": [recipe.seeds[0]], "under_way": True}
    assert found["full"]["done"] == []


@pytest.mark.parametrize(
    ("form", "mark"),
    [("text", "published"), ("markdown", "| --- |"), ("csv", "row,column"), ("latex", r"\toprule")],
)
def test_tables(form, mark):
    assert mark in kd("table", published_names()[0], "--format", form).stdout


@pytest.mark.parametrize(
    ("form", "mark"),
    [("text", "Δ to"), ("markdown", "| --- |"), ("csv", "recipe,published"), ("latex", r"\toprule")],
)
def test_tables_of_recipes(form, mark):
    names = [recipe.name for recipe in find_recipes("cifar/methods/cifar10-jpeg/110-20/*")]
    result = kd("table", "cifar/methods/cifar10-jpeg/110-20/*", "--format", form)
    assert result.exit_code == 0, result.output
    assert mark in result.stdout
    assert all(name in result.stdout for name in names)


def test_a_table_shows_every_profile():
    (header,) = [line for line in kd("table", "003-results").stdout.splitlines() if line.startswith("run ")]
    assert re.split(r"\s{2,}", header) == ["run", "published", "ours", "ours, short", "digits, quick"]
    written = kd("table", "003-results", "--format", "csv").stdout
    assert [line["profile"] for line in csv.DictReader(written.splitlines())] == [
        "full", "short", "quick",
    ] * 3  # fmt: skip


def test_tables_as_json():
    (found,) = json.loads(kd("table", "003-results", "--json").stdout)
    line = found["rows"][0]
    assert (found["table"], line["recipe"], line["published"]) == ("003-results", "lab/response", 0.8558)
    assert [(row["profile"], row["mean"]) for row in found["rows"][:3]] == [
        ("full", None), ("short", None), ("quick", None),
    ]  # fmt: skip
    sentence = said(kd("table", "003-results", "--json", "--format", "csv"), 2)
    assert "--json and --format csv are two forms" in sentence


def test_a_quick_run_of_the_store_is_in_the_table_of_its_recipe():
    (run,) = json.loads(kd("run", BASELINE, "--seed", "0", "--device", "cpu", "--json").stdout)
    (found,) = json.loads(kd("table", BASELINE, "--json").stdout)
    *_, quick = found["rows"]
    assert (quick["profile"], quick["mean"], quick["n"]) == ("quick", run["final"]["accuracy"], 1)
    assert "001-methods" in quick["tables"].split()


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("001-method", "did you mean '001-methods'"),
        ("cifar/methods/cifar10/20-20/basline", f"did you mean '{BASELINE}'"),
        ("nothing like it", 'recipes; `kd table "*"` and `kd list` show them.'),
    ],
)
def test_a_table_that_is_not_there(name, near):
    sentence = said(kd("table", name), 2)
    assert f"no published table and no recipe is called '{name}'" in sentence
    assert near in sentence


def test_data_sets(places):
    assert "hymenoptera    not here" in kd("data", "list").stdout
    assert "kd data get hymenoptera" in said(kd("data", "check", "hymenoptera"), 2)
    assert "no data set is called 'hymenopteran'" in said(kd("data", "check", "hymenopteran"), 2)
    assert "nothing to download for 'digits'" in said(kd("data", "get", "digits"), 2)
    assert str(places / "there") in kd("data", "list", "--root", str(places / "there")).stdout


def test_data_sets_as_json(places, monkeypatch):
    folder = places / "data" / "hymenoptera_data"
    folder.mkdir(parents=True)
    (found,) = [each for each in json.loads(kd("data", "list", "--json").stdout)["data_sets"] if each["here"]]
    assert (found["name"], found["folder"], found["classes"]) == ("hymenoptera", str(folder), 2)
    assert json.loads(kd("data", "get", "hymenoptera", "--json").stdout) == found
    monkeypatch.setattr("kdlib.cli.check_data", lambda *_: "counted")
    assert json.loads(kd("data", "check", "hymenoptera", "--json").stdout) == found


def test_data_sets_that_are_not_here_leave_stdout_empty():
    for command in ("get", "check"):
        result = kd("data", command, "digit", "--json")
        assert (result.exit_code, result.stdout) == (2, "")


def made_record():
    """The file of a quick run in the store."""
    assert kd("run", BASELINE, "--seed", "0", *OFF).exit_code == 0
    (record,) = Store().root.glob("*/*/seed0/record.json")
    return record


def changed(path, **changes):
    """A copy of a record's file, changed."""
    other = path.with_name("changed.json")
    other.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return other


def test_verify_repeats_a_run():
    result = kd("verify", str(made_record()))
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1].startswith("same: ")
    assert "to the last digit" in result.stdout


def test_verify_says_what_differs():
    wrong = changed(made_record(), final={"accuracy": 0.5})
    result = kd("verify", str(wrong), "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (found["same"], found["exact"], found["tolerance"]) == (False, True, None)
    assert found["differences"][0].startswith("accuracy is ")
    assert kd("verify", str(wrong)).stdout.splitlines()[-1].startswith("different: accuracy is ")


def test_verify_keeps_a_tolerance_elsewhere():
    record = made_record()
    final = json.loads(record.read_text())["final"]
    near = final | {"accuracy": final["accuracy"] + 0.01}
    elsewhere = str(changed(record, environment={"device": "cuda (H200)"}, final=near))
    result = kd("verify", elsewhere)
    assert result.exit_code == 0
    assert "warning: device is cpu" in result.stdout
    assert "within 0.02" in result.stdout.splitlines()[-1]
    assert kd("verify", elsewhere, "--tolerance", "0.001").exit_code == 1


def test_verify_refuses_what_is_no_record_of_a_recipe(places):
    record = made_record()
    assert "there is no record nowhere.json" in said(kd("verify", "nowhere.json"), 2)
    assert "has no recipe, as a chapter made it" in said(kd("verify", str(changed(record, recipe=None))), 2)
    recipe = json.loads(record.read_text())["recipe"]
    assert "says that its recipe has the digest" in said(
        kd("verify", str(changed(record, recipe=recipe | {"terms": []}))), 2
    )


def test_verify_takes_the_path_that_pages_show(places):
    record = made_record()
    kept = places / "results" / "cifar" / "short" / "x-seed0.json"
    kept.parent.mkdir(parents=True)
    kept.write_text(record.read_text())
    assert kd("verify", "cifar/short/x-seed0.json").exit_code == 0


def test_verify_of_a_run_that_fails(monkeypatch):
    def fail(*_arguments, **_options):
        raise RuntimeError("no kernel image")

    record = made_record()
    monkeypatch.setattr("kdlib.experiments.runner.fit", fail)
    result = kd("verify", str(record))
    assert result.exit_code == 1
    assert f"error: {record} could not be repeated: no kernel image" in result.stderr
