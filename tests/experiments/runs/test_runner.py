"""Runs: trained once whoever asks, the same bits after a kill, and nothing half-done believed."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict, replace

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kdlib import create_model, evaluate, fit
from kdlib.data import Augmentation
from kdlib.experiments import RunRecord, Store, finished, recorded, results_folder, run_recipe
from kdlib.experiments import store as store_module
from kdlib.training import DivergedError, state
from kdlib.training.environment import code_fingerprint
from kdlib.training.state import load_tensors, save_tensors

RUN = """
import os, signal, sys
from kdlib.experiments import find_recipes
from kdlib.experiments import run_recipe
from kdlib.training import state
state._SECONDS_BETWEEN_CHECKPOINTS = 0.0
sync, written = os.fsync, 0
def sync_or_die(file):
    global written
    written += 1
    if written == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    sync(file)
os.fsync = sync_or_die
(recipe,) = find_recipes(sys.argv[1], "quick")
record = run_recipe(recipe, 0, device="cpu")
print(record.final["accuracy"])
"""


def quietly(recipe, seed=0, **options):
    return run_recipe(recipe, seed, device="cpu", progress=False, **options)


def child(name, killed_at=0):
    """Another process that performs a recipe with seed 0; it may die while it writes its n-th checkpoint."""
    # Before each the folder of the one before is synchronised, too.
    command = [sys.executable, "-c", RUN, name, str(2 * killed_at - 1)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def weights(recipe, seed=0, store=None):
    return load_tensors((store or Store()).folder(recipe, seed).student)[0]


def same(ours, theirs):
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def files(run):
    return sorted(path.name for path in run.path.iterdir())


def test_a_run_leaves_weights_record_and_log(made, store):
    recipe = made("alone")
    record = quietly(recipe)
    assert files(store.folder(recipe, 0)) == ["lock", "record.json", "student.safetensors", "tensorboard"]
    assert (record.label, record.profile, record.seed) == ("made/alone", "quick", 0)
    assert record.recipe == json.loads(json.dumps(recipe.as_dict()))
    assert record.data["train_images"] == 60
    assert len(record.epochs["test_accuracy"]) == 4
    assert record == RunRecord.load(store.folder(recipe, 0).record)


def test_teacher_and_student_look_at_one_crop_in_two_sizes(made, store):
    recipe = made("taught", **{"student.size": "6"})
    assert recipe.digest != made("taught").digest
    record = quietly(recipe)
    assert record.settings["student"].endswith(", size=6")
    assert "size" not in record.settings["teacher"]
    assert weights(recipe).keys() == create_model("convnet", 10, in_channels=1, width=4).state_dict().keys()


def test_a_teacher_of_the_runs_own_seed_has_its_draw_of_images(made, store):
    records = [quietly(made("taught-by-its-own"), seed) for seed in (0, 1)]
    assert records[0].data == records[1].data
    drawn = [finished(made("drawn"), seed) for seed in (0, 1)]
    assert [record.data["train_images"] for record in drawn] == [20, 20]
    assert drawn[0].data["fingerprint"] != drawn[1].data["fingerprint"]


def test_a_run_of_other_code_is_made_again(made, monkeypatch):
    """A loss that was mended computes another run, and the old record says nothing of it."""
    before = quietly(made("alone"))
    monkeypatch.setattr(store_module, "code_fingerprint", lambda: "mended00")
    assert finished(made("alone"), 0) is None
    again = quietly(made("alone"))
    assert (again.final, again.seconds) != (before.final, before.seconds)
    assert finished(made("alone"), 0) is not None


def test_a_record_of_other_code_is_replaced(made, monkeypatch):
    recipe = replace(made("alone"), profile="short")
    before = quietly(recipe)
    assert before.environment["code"] == code_fingerprint()
    path = results_folder() / "made" / replace(before, label=recipe.name).place
    old = replace(before, environment=before.environment | {"code": "older000"}, final={"accuracy": 0.0})
    replace(old, label=recipe.name).save(path)
    quietly(recipe)
    assert RunRecord.load(path).final == before.final


def test_a_run_is_what_fit_makes_of_its_parts(made, store):
    """The seed's network and order of images, the recipe's augmentation (none), scored on the test images."""
    recipe = made("alone")
    record = quietly(recipe, seed=1)
    data, student = recipe.data.load(), create_model("convnet", 10, in_channels=1, width=4, seed=1)
    train = replace(data.train, augmentation=Augmentation())
    fit(student, train, seed=1, device="cpu", progress=False, **asdict(recipe.training))
    assert same(weights(recipe, 1), student.state_dict())
    accuracy = evaluate(student, data.test, device="cpu")["accuracy"]
    assert record.final["accuracy"] == record.epochs["test_accuracy"][-1] == pytest.approx(accuracy, abs=1e-6)
    assert data.train.augmentation != Augmentation(), "without the recipe there would be one"


def test_a_finished_run_is_not_repeated(made, store, monkeypatch):
    recipe = made("taught")
    first = quietly(recipe)
    monkeypatch.setattr("kdlib.experiments.runner.fit", None)
    assert quietly(recipe) == first == finished(recipe, 0)
    assert finished(recipe, 1) is None


def test_the_teacher_is_run_first_and_once(made, store, capsys):
    run_recipe(made("taught"), 0, device="cpu")
    run_recipe(made("taught-otherwise"), 0, device="cpu")
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("made/")]
    kept = f"its teacher's answers are kept for other runs, in {store.answers}"
    assert said == [
        "made/teacher@100 (quick): training",
        "made/taught@0 (quick): training",
        f"made/taught@0: {kept}",
        "made/taught-otherwise@0 (quick): training",
        f"made/taught-otherwise@0: {kept}",
    ]


def test_student_is_compared_with_the_teacher_of_the_store(made, store):
    record = quietly(made("taught"))
    assert record.settings["teacher"].startswith("ConvNet, ")
    assert 0 < record.final["agreement"] <= 1
    assert {"test_loss", "test_logit_difference"} <= record.epochs.keys()
    assert not same(weights(made("teacher"), 100), weights(made("taught"), 0))


def test_seeds_are_runs_of_their_own(made):
    quietly(made("alone"), 0)
    quietly(made("alone"), 1)
    assert not same(weights(made("alone"), 0), weights(made("alone"), 1))


def test_two_names_of_one_content_are_one_run(made, monkeypatch):
    quietly(made("alone"))
    monkeypatch.setattr("kdlib.experiments.runner.fit", None)
    record = quietly(made("also-alone"))
    assert (record.label, record.recipe["name"]) == ("made/also-alone", "made/also-alone")


def test_records_of_short_and_full_go_to_the_results(made, places):
    quietly(made("alone", "short"))
    quietly(made("also-alone", "full"))
    quietly(made("alone", "quick"))
    kept = {
        profile: [(name, [run.seed for run in runs]) for name, runs in recorded("made", profile).items()]
        for profile in ("quick", "short", "full")
    }
    assert kept == {"quick": [], "short": [("made/alone", [0])], "full": [("made/also-alone", [0])]}
    assert (places / "results/made/short/made-alone-seed0.json").is_file()


def test_a_recipe_changed_by_hand_leaves_the_results_alone(made, places):
    changed = made("alone", "short", **{"training.epochs": "1"})
    assert len(quietly(changed).epochs["loss"]) == 1
    assert not (places / "results").exists()


def test_results_of_another_machine_stay(made, places, store):
    recipe = made("alone", "short")
    quietly(recipe)
    path = places / "results/made/short/made-alone-seed0.json"
    fields = json.loads(path.read_text())
    fields["environment"]["device"] = "cuda (another machine)"
    path.write_text(json.dumps(fields))
    quietly(recipe)
    assert RunRecord.load(path).environment["device"] == "cuda (another machine)"
    fields["recipe"]["digest"] = "that of last year"
    path.write_text(json.dumps(fields))
    quietly(recipe)
    assert RunRecord.load(path).recipe["digest"] == recipe.digest


def test_a_first_stage_and_then_the_main_one(made, store):
    record = quietly(made("staged"))
    assert record.settings["first_stage"]["settings"]["epochs"] == 3
    assert "hints" not in record.epochs
    assert len(record.settings["first_stage"]["epochs"]["hints"]) == 3
    assert "first-stage.safetensors" not in files(store.folder(made("staged"), 0))


def test_only_the_head_is_trained_of_weights_taken_over(made):
    quietly(made("tuned"))
    before, after = weights(made("teacher"), 100), weights(made("tuned"))
    parameters = [
        name for name in before if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))
    ]
    changed = {name for name in parameters if not torch.equal(before[name], after[name])}
    assert changed == {"classifier.weight", "classifier.bias"}


def test_all_weights_taken_over_are_trained_on(made, store, monkeypatch):
    seen = []

    def stop(distiller, *_arguments, **_options):
        seen.append({name: tensor.clone() for name, tensor in distiller.student.state_dict().items()})
        raise KeyboardInterrupt

    quietly(made("teacher"), 100)
    monkeypatch.setattr("kdlib.experiments.runner.fit", stop)
    with pytest.raises(KeyboardInterrupt):
        quietly(made("tuned-wholly"))
    assert same(seen[0], weights(made("teacher"), 100))


def test_a_new_head_where_the_classes_differ(made, store):
    """The weights of a teacher of 12 classes: all but its last layer."""
    teacher = made("teacher")
    quietly(teacher, 100)
    path = store.folder(teacher, 100).student
    tensors, _ = load_tensors(path)
    tensors["classifier.weight"] = torch.zeros(12, tensors["classifier.weight"].shape[1])
    tensors["classifier.bias"] = torch.zeros(12)
    save_tensors(path, tensors, {})
    quietly(made("tuned-wholly"))
    assert weights(made("tuned-wholly"))["classifier.bias"].shape == (10,)


def test_weights_to_start_from_that_do_not_fit_are_named(made):
    with pytest.raises(ValueError, match=r"student\.safetensors has .*weight of shape .* widths that were"):
        quietly(made("misfit"))


def test_a_teacher_with_other_classes_is_named(made, store):
    teacher = made("teacher")
    quietly(teacher, 100)
    path = store.folder(teacher, 100).student
    tensors, _ = load_tensors(path)
    tensors["classifier.weight"] = torch.zeros(12, tensors["classifier.weight"].shape[1])
    save_tensors(path, tensors, {})
    with pytest.raises(ValueError, match=r"has classifier\.weight of shape \(12, .* with the classes"):
        quietly(made("taught"))
    assert "record.json" not in files(store.folder(made("taught"), 0))


def test_a_teacher_with_other_keys_is_named(made, store):
    teacher = made("teacher")
    quietly(teacher, 100)
    path = store.folder(teacher, 100).student
    tensors, _ = load_tensors(path)
    tensors["head.weight"] = tensors.pop("classifier.weight")
    save_tensors(path, tensors, {})
    with pytest.raises(ValueError, match=r"missing classifier\.weight; unexpected head\.weight"):
        quietly(made("taught"))


@pytest.mark.system
def test_killed_and_resumed_gives_the_same_bits(made, store, places):
    """SIGKILL, which nothing can catch, in the middle of the third epoch, while a checkpoint is written."""
    recipe = made("long")
    quietly(made("teacher"), 100)
    process = child("made/long", killed_at=13)  # two of these hold the teacher's answers of an epoch
    _, errors = process.communicate(timeout=400)
    assert process.returncode == -signal.SIGKILL, errors
    header = load_tensors(store.folder(recipe, 0).checkpoint)[1]
    assert (header["epoch"], header["batch"]) == (2, 2), "the tenth is there, whole"
    assert finished(recipe, 0) is None
    resumed = quietly(recipe)
    apart = Store(places / "another")
    whole = quietly(recipe, store=apart)
    assert same(weights(recipe), weights(recipe, store=apart))
    assert (resumed.epochs, resumed.final) == (whole.epochs, whole.final)
    events = EventAccumulator(str(store.folder(recipe, 0).tensorboard / f"{recipe.name}@0")).Reload()
    assert [event.step for event in events.Scalars("train/loss")] == list(range(1, 41))


@pytest.mark.system
def test_a_run_that_another_process_holds_is_waited_for(made, store, places):
    """And when that process is done, its result is taken."""
    recipe = made("alone")
    apart = Store(places / "another")
    expected = quietly(recipe, store=apart)
    folder = store.folder(recipe, 0)
    with folder.held(lambda: pytest.fail("nobody else is here")):
        process = child("made/alone")
        assert process.stderr.readline() == (
            "made/alone@0 (quick): another process is at it; waiting for it\n"
        )
        for path in (apart.folder(recipe, 0).student, apart.folder(recipe, 0).record):
            (folder.path / path.name).write_bytes(path.read_bytes())
    said, errors = process.communicate(timeout=400)
    assert float(said) == expected.final["accuracy"]
    assert "training" not in errors


@pytest.mark.system
def test_two_processes_train_their_teacher_once(made, capsys):
    process = child("made/taught")
    assert process.stderr.readline() == "made/teacher@100 (quick): training\n"
    run_recipe(made("taught-otherwise"), 0, device="cpu")
    _, errors = process.communicate(timeout=400)
    assert process.returncode == 0
    assert "made/taught@0 (quick): training\n" in errors
    assert "made/teacher@100 (quick): training" not in capsys.readouterr().err


def test_a_loss_that_is_no_number_keeps_the_last_good_checkpoint(made, store, monkeypatch):
    monkeypatch.setattr(state, "_SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    recipe = made("diverging")
    with pytest.raises(
        DivergedError, match=r"student logits hold nan in row 0, in step \d+ of epoch \d; look"
    ):
        quietly(recipe)
    tensors, _ = load_tensors(store.folder(recipe, 0).checkpoint)
    assert all(tensor.isfinite().all() for tensor in tensors.values() if tensor.is_floating_point())
    assert finished(recipe, 0) is None


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize(
    ("files_before", "left"),
    [
        (0, ["lock", "tensorboard"]),
        (1, ["checkpoint.safetensors", "lock", "tensorboard"]),
        (2, ["checkpoint.safetensors", "lock", "student.safetensors", "tensorboard"]),
    ],
)
def test_a_full_disk(made, store, monkeypatch, files_before, left, code):
    """At the checkpoint, the weights and the record: what is whole stays, and the run goes on from there."""
    recipe = made("alone")
    monkeypatch.setattr("kdlib.files.os.fsync", full_after(files_before, code))
    with pytest.raises(OSError, match=r"the disk of .*runs is full; make room, and the run goes on"):
        quietly(recipe)
    assert files(store.folder(recipe, 0)) == left
    monkeypatch.setattr("kdlib.files.os.fsync", full_after(100))
    quietly(recipe)
    assert files(store.folder(recipe, 0)) == ["lock", "record.json", "student.safetensors", "tensorboard"]


def test_a_full_disk_of_the_results(made, store, places, monkeypatch):
    recipe = made("alone", "short")
    monkeypatch.setattr("kdlib.files.os.fsync", full_after(3))
    with pytest.raises(OSError, match="results is full; make room, and the same command writes the record"):
        quietly(recipe)
    assert finished(recipe, 0) is not None
    assert not list((places / "results").rglob("*.json"))
    monkeypatch.setattr("kdlib.files.os.fsync", full_after(100))
    quietly(recipe)
    assert len(list((places / "results").rglob("*.json"))) == 1


def full_after(files, code=errno.ENOSPC):
    """In place of fsync, a disk that has room for so many files, each of which is followed by its folder."""
    left = 2 * files

    def sync(_file):
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(code, os.strerror(code))

    return sync


def test_what_killed_processes_left_half_written_goes(made, store):
    folder = store.folder(made("alone"), 0)
    half = folder.path / ".part-abc" / "checkpoint.safetensors"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"half")
    quietly(made("alone"))
    assert files(folder) == ["lock", "record.json", "student.safetensors", "tensorboard"]


def test_a_damaged_checkpoint_is_named(made, store):
    """In the words of the one who has to remove it; then the run begins anew, to the same end."""
    recipe = made("alone")
    expected = quietly(recipe).final
    folder = store.folder(recipe, 0)
    shutil.rmtree(folder.path)
    folder.path.mkdir()
    folder.checkpoint.write_bytes(b"cut")
    with pytest.raises(ValueError, match=rf"^{folder.checkpoint} is no checkpoint .* damaged .*remove it"):
        quietly(recipe)
    folder.checkpoint.unlink()
    assert quietly(recipe).final == expected


def test_a_damaged_record_is_named(made, store):
    quietly(made("alone"))
    path = store.folder(made("alone"), 0).record
    for content in (b"", b"{", b'{"format": 1}', b"\xff\xfe"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"{path} is not a run record .* remove it"):
            quietly(made("alone"))
    path.unlink()
    assert quietly(made("alone")).final["accuracy"] > 0


def test_weights_that_are_gone_are_trained_again(made, store):
    first = quietly(made("alone"))
    before = weights(made("alone"))
    store.folder(made("alone"), 0).student.unlink()
    assert quietly(made("alone")).final == first.final
    assert same(weights(made("alone")), before)


def test_the_store_is_where_kdlib_runs_says(places, monkeypatch):
    assert Store().root == places / "runs"
    monkeypatch.delenv("KDLIB_RUNS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(places))
    monkeypatch.setattr(sys, "platform", "linux")
    assert Store().root == places / "kdlib" / "runs"
    assert Store(places / "here").root == places / "here"


def test_a_device_that_is_not_there_is_told_before_anything_is_done(made, places):
    with pytest.raises(ValueError, match="device 'abacus' cannot be used here"):
        run_recipe(made("taught"), 0, device="abacus", progress=False)
    assert not (places / "runs").exists()
