"""Stopped and resumed: the same bits as never stopped; weights that fit, and files that do not."""

import json
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn

from kdlib import CRD, Distiller, HardLabels, Hints, SoftTargets, create_model, fit, load_data
from kdlib.models import NoisyTeacher, ShuffledTeacher
from kdlib.training import load_weights, save_weights
from kdlib.training.checkpoints import load_tensors, save_tensors
from kdlib.training.run import Run

OPTIONS = {"progress": False, "device": "cpu", "batch_size": 16, "epochs": 4}


@pytest.fixture(scope="module")
def data():
    return load_data("digits")


@pytest.fixture(scope="module")
def few(data):
    return data.train.balanced(60)


def network(width=4, seed=0):
    return create_model("convnet", 10, in_channels=1, width=width, seed=seed)


def same(first, second):
    ours, theirs = first.state_dict(), second.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


class StopAfter(nn.Module):
    """Ctrl-C in the middle of the n-th training step."""

    def __init__(self, network, steps):
        super().__init__()
        self.network, self.left = network, steps

    def forward(self, images):
        if self.training:
            self.left -= 1
            if self.left == 0:
                signal.raise_signal(signal.SIGINT)
        return self.network(images)


def everything(student, few):
    """Connectors, a memory, dropout's generator, and a control with a generator of its own."""
    teacher = ShuffledTeacher(network(8, seed=1), seed=3)
    terms = [
        HardLabels(),
        SoftTargets(),
        Hints(layers={"network.layer1": "layer1"}),
        CRD(labels=few.labels, width=8, negatives=5),
    ]
    return Distiller(student, teacher, terms)


class WithDropout(nn.Module):
    def __init__(self):
        super().__init__()
        self.network, self.dropout = network(), nn.Dropout(0.2)
        self.layer1, self.classifier = self.network.layer1, self.network.classifier

    def forward(self, images):
        return self.dropout(self.network(images))


RECIPES = {
    "sgd": {},
    "adamw": {"optimizer": "AdamW", "learning_rate": 0.001, "scheduler": "CosineAnnealingWarmRestarts",
              "scheduler_options": {"T_0": 5, "T_mult": 2}},
    "steps": {"scheduler": "MultiStepLR", "scheduler_options": {"milestones": [1, 3]},
              "scheduler_step": "epoch"},
}  # fmt: skip


@pytest.fixture(scope="module")
def uninterrupted(few, data, tmp_path_factory):
    """What a recipe comes to when nobody stops it: the networks, and the record."""

    @cache
    def train(recipe):
        whole, path = everything(StopAfter(network(), -1), few), tmp_path_factory.mktemp(recipe) / "whole"
        return whole, fit(whole, few, test=data.test, checkpoint=path, **OPTIONS, **RECIPES[recipe])

    return train


@pytest.mark.parametrize(
    ("recipe", "steps"),
    [("sgd", 1), ("sgd", 6), ("sgd", 8), ("sgd", 15), ("adamw", 6), ("adamw", 8), ("steps", 6), ("steps", 8)],
)
def test_stopped_and_resumed_gives_the_same_bits(few, data, tmp_path, uninterrupted, recipe, steps):
    """At the first step, within an epoch, at its end, and at the step before the last; four make an epoch."""
    options = {**OPTIONS, **RECIPES[recipe], "test": data.test}
    whole, expected = uninterrupted(recipe)
    path = tmp_path / "run.safetensors"
    with pytest.raises(KeyboardInterrupt, match=rf"stopped after step .* and kept in {path}"):
        fit(everything(StopAfter(network(), steps), few), few, checkpoint=path, **options)
    # Another process would begin with networks as they were made.
    resumed = everything(StopAfter(network(), -1), few)
    record = fit(resumed, few, checkpoint=path, **options)
    assert same(whole, resumed)
    assert record.epochs == expected.epochs
    assert record.final == expected.final
    assert record.settings == expected.settings


def test_dropout_and_noise_go_on_where_they_were(few, tmp_path):
    def made(steps):
        model = StopAfter(nn.Sequential(network(), nn.Dropout(0.3)), steps)
        return Distiller(model, NoisyTeacher(network(8, seed=1), std=1.0), [SoftTargets()])

    whole, halves, resumed = made(-1), made(7), made(-1)
    fit(whole, few, **OPTIONS)
    with pytest.raises(KeyboardInterrupt):
        fit(halves, few, checkpoint=tmp_path / "run", **OPTIONS)
    fit(resumed, few, checkpoint=tmp_path / "run", **OPTIONS)
    assert same(whole, resumed)


KILLED = """
import os, signal, sys
from kdlib import create_model, fit, load_data
from kdlib.training import run
run._SECONDS_BETWEEN_CHECKPOINTS = 0.0
sync, written = os.fsync, 0
def sync_or_die(file):
    global written
    written += 1
    if written == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    sync(file)
os.fsync = sync_or_die
model = create_model("convnet", 10, in_channels=1, width=4, seed=0)
options = {"epochs": 4, "batch_size": 16, "device": "cpu", "progress": False}
fit(model, load_data("digits").train.balanced(60), checkpoint=sys.argv[1], **options)
"""


@pytest.mark.system
def test_killed_and_resumed_gives_the_same_bits(few, tmp_path):
    """SIGKILL, which nothing can catch, while the seventh checkpoint is being written, one a step."""
    path = tmp_path / "run"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path)], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    header = load_tensors(path)[1]
    assert (header["epoch"], header["batch"]) == (1, 2), "the sixth is there, whole"
    whole, resumed = network(), network()
    fit(whole, few, **OPTIONS)
    fit(resumed, few, checkpoint=path, **OPTIONS)
    assert same(whole, resumed)


def test_a_finished_run_is_not_trained_again(few, data, tmp_path):
    first, again = network(), network()
    record = fit(first, few, test=data.test, checkpoint=tmp_path / "run", **OPTIONS)
    counted = StopAfter(again, 1)  # would stop at its first training step
    with pytest.raises(ValueError, match="its student is 'ConvNet"):
        fit(counted, few, test=data.test, checkpoint=tmp_path / "run", **OPTIONS)
    repeated = fit(again, few, test=data.test, checkpoint=tmp_path / "run", **OPTIONS)
    assert same(first, again)
    assert repeated.final == record.final
    assert repeated.epochs == record.epochs


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 0.01}, r"its learning_rate is 0\.1, and here it is 0\.01"),
        ({"seed": 1}, "its seed is 0, and here it is 1"),
        ({"augment": False}, "its augment is .*RandomCrop.*, and here it is None"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(few, tmp_path, changes, message):
    fit(network(), few, checkpoint=tmp_path / "run", **OPTIONS)
    with pytest.raises(ValueError, match=message):
        fit(network(), few, checkpoint=tmp_path / "run", **(OPTIONS | changes))


def test_a_checkpoint_of_other_images_is_refused(few, data, tmp_path):
    fit(network(), few, checkpoint=tmp_path / "run", **OPTIONS)
    with pytest.raises(ValueError, match="its fingerprint is"):
        fit(network(), data.train.balanced(60, seed=1), checkpoint=tmp_path / "run", **OPTIONS)


def test_a_checkpoint_of_another_teacher_is_refused(few, tmp_path):
    """Built alike, and trained otherwise."""
    options = OPTIONS | {"checkpoint": tmp_path / "run"}
    fit(Distiller(network(), network(8, seed=1), [SoftTargets()]), few, **options)
    fit(Distiller(network(), network(8, seed=1), [SoftTargets()]), few, **options)
    with pytest.raises(ValueError, match=r"its teacher's weights is '.*', and here it is '"):
        fit(Distiller(network(), network(8, seed=2), [SoftTargets()]), few, **options)


def test_a_run_that_began_without_a_gpu_goes_on_with_one(few, tmp_path, monkeypatch):
    fit(network(), few, checkpoint=tmp_path / "run", **OPTIONS)
    restored = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda: torch.zeros(1, dtype=torch.uint8))
    monkeypatch.setattr(torch.cuda, "set_rng_state", restored.append)
    model = network()
    run = Run(model_objective(model), torch.optim.SGD(model.parameters(), 0.1, momentum=0.9), None, {}, None)
    run.path, run.identity = tmp_path / "run", load_tensors(tmp_path / "run")[1]["identity"]
    run.resume()
    assert (run.epoch, restored) == (4, [])


def test_the_scale_of_float16_losses_is_kept(tmp_path):
    """As Lightning's plugin for it has it: a dictionary of numbers."""

    class Precision:
        def __init__(self, scale):
            self.scale = scale

        def state_dict(self):
            return {"scale": self.scale}

        def load_state_dict(self, state):
            self.scale = state["scale"]

    runs = []
    for scale in (1024.0, 65536.0):
        model = network()
        runs.append(
            Run(model_objective(model), torch.optim.SGD(model.parameters()), None, {}, tmp_path / "run")
        )
        runs[-1].resume()
        precision = Precision(scale)
        runs[-1].take_up_precision(precision)
        runs[-1].keep()
    assert precision.scale == 1024.0


def model_objective(model):
    return Distiller(model, None, [HardLabels()])


def test_tied_weights_go_to_a_file_and_back(tmp_path):
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    save_weights(model, tmp_path / "weights")
    other = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    load_weights(other, tmp_path / "weights")
    assert same(model, other)


def test_nothing_half_written_is_left(few, tmp_path, monkeypatch):
    """A disk that is full in the middle of a checkpoint: the old one stays, whole, and nothing else."""
    path = tmp_path / "run"
    fit(network(), few, checkpoint=path, **OPTIONS)
    before = path.read_bytes()

    def full(*_arguments, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save", full)
    with pytest.raises(OSError, match="No space left"):
        save_tensors(path, {"a": torch.zeros(3)}, {})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_without_a_checkpoint_ctrl_c_says_so(few):
    with pytest.raises(
        KeyboardInterrupt, match=r"stopped after step 2 of 4 in epoch 1 of 4; nothing was kept"
    ):
        fit(StopAfter(network(), 2), few, **OPTIONS)


def test_ctrl_c_means_what_it_meant_before(few):
    before = signal.getsignal(signal.SIGINT)
    fit(network(), few, **OPTIONS)
    assert signal.getsignal(signal.SIGINT) is before


def test_weights_go_to_a_file_and_back(tmp_path):
    first, second = network(seed=0), network(seed=1)
    save_weights(first, tmp_path / "weights.safetensors")
    load_weights(second, tmp_path / "weights.safetensors")
    assert same(first, second)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda: create_model("convnet", 12, in_channels=1, width=4), r"classifier\.(bias|weight) of shape"),
        (lambda: create_model("convnet", 10, in_channels=1, width=8), r"of shape .* create the network with"),
        (lambda: create_model("resnet8", 10, in_channels=1), r"missing bn1\.bias, .*unexpected layer1\.0"),
    ],
)
def test_14_weights_that_do_not_fit_are_not_dropped(tmp_path, other, message):
    """Code that drops them goes on with a partly random teacher."""
    save_weights(network(), tmp_path / "weights")
    with pytest.raises(ValueError, match=message):
        load_weights(other(), tmp_path / "weights")


def test_files_that_are_no_checkpoints(tmp_path):
    path = tmp_path / "weights"
    with pytest.raises(FileNotFoundError, match=r"there is no file .*weights"):
        load_weights(network(), path)
    path.write_bytes(b"not one")
    with pytest.raises(ValueError, match="is no checkpoint of kdlib"):
        load_weights(network(), path)
    save_weights(network(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="is no checkpoint of kdlib"):
        load_weights(network(), path)


def test_a_checkpoint_of_a_newer_kdlib(tmp_path, monkeypatch):
    monkeypatch.setattr("kdlib.training.checkpoints.FORMAT", 7)
    save_weights(network(), tmp_path / "weights")
    monkeypatch.undo()
    with pytest.raises(ValueError, match="has format 7, newer than this kdlib's 1; update kdlib"):
        load_weights(network(), tmp_path / "weights")


def test_a_checkpoint_is_tensors_and_json(few, tmp_path):
    """The header of the file format is read by hand: eight bytes of length, then JSON. Nothing is pickled."""
    fit(network(), few, checkpoint=tmp_path / "run", **OPTIONS)
    content = Path(tmp_path / "run").read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    described = json.loads(header.pop("__metadata__")["kdlib"])
    assert described["epoch"] == 4
    assert {entry["dtype"] for entry in header.values()} <= {"F32", "I64", "U8", "F64"}
