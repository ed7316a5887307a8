"""Stopped and resumed: the same bits as never stopped; weights that fit, and files that do not."""

import json
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from kdlib import CRD, Distiller, HardLabels, Hints, SoftTargets, create_model, fit, load_data
from kdlib.data import Augmentation
from kdlib.experiments import RunRecord
from kdlib.models import NoisyTeacher, ShuffledTeacher
from kdlib.terms import Term
from kdlib.training import load_weights, save_weights
from kdlib.training.state import TrainState, load_tensors, save_tensors

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
        if self.training and torch.is_grad_enabled():  # and not at the look at its layers
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
from kdlib.training import state
state._SECONDS_BETWEEN_CHECKPOINTS = 0.0
sync, written = os.fsync, 0
def sync_or_die(file):
    global written
    written += 1
    if written == 13:  # each checkpoint, and then its folder
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


def warm_up(steps, share=1.0):
    return lambda step: share * min(1.0, (step + 1) / steps)


class Falling:
    """A callable that prints its place in memory."""

    def __init__(self, factor):
        self.factor = factor

    def __call__(self, step):
        return self.factor**step


# Each is made anew at every call, as in another process.
WITHOUT_JSON = {
    "a function": lambda: {"scheduler": "LambdaLR", "scheduler_options": {"lr_lambda": warm_up(5)}},
    "functions": lambda: {"scheduler": "LambdaLR", "scheduler_options": {"lr_lambda": [warm_up(5)]}},
    "a partial one": lambda: {
        "scheduler": "LambdaLR", "scheduler_options": {"lr_lambda": partial(pow, 0.9)}
    },
    "an object": lambda: {"scheduler": "MultiplicativeLR", "scheduler_options": {"lr_lambda": Falling(0.9)}},
    "a cycle's": lambda: {
        "scheduler": "CyclicLR",
        "scheduler_options": {"base_lr": 0.01, "max_lr": 0.1, "scale_fn": lambda x: 0.9**x},
    },
    "tensors": lambda: {
        "optimizer": "Adam", "learning_rate": np.float32(1 / 64), "weight_decay": np.float32(1 / 4),
        "optimizer_options": {"betas": (torch.tensor(0.75), np.float32(0.875))},
    },
    "NumPy's": lambda: {
        "seed": np.int64(0), "epochs": np.int64(4), "batch_size": np.int32(16),
        "learning_rate": np.float64(0.1),
        "scheduler": "MultiStepLR", "scheduler_options": {"milestones": list(np.array([3, 9]))},
    },
}  # fmt: skip


@pytest.mark.parametrize("make", WITHOUT_JSON.values(), ids=WITHOUT_JSON.keys())
def test_options_that_no_json_is_are_resumed_and_kept(few, tmp_path, make):
    """Stopped in the middle: the same bits, and a record that can be written."""
    path, whole, resumed = tmp_path / "run", network(), network()
    fit(whole, few, **(OPTIONS | make()))
    with pytest.raises(KeyboardInterrupt):
        fit(StopAfter(network(), 6), few, checkpoint=path, **(OPTIONS | make()))
    record = fit(StopAfter(resumed, -1), few, checkpoint=path, **(OPTIONS | make()))
    assert same(whole, resumed)
    assert RunRecord.load(record.save(tmp_path / "record.json")).settings == record.settings


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (warm_up(5), warm_up(6)),
        (warm_up(5), warm_up(5, share=0.5)),
        (Falling(0.9), Falling(0.8)),
        (partial(pow, 0.9), partial(pow, 0.8)),
        (lambda step: 0.9**step, lambda step: 0.9 ** (step + 1)),
    ],
)
def test_a_checkpoint_of_another_function_is_refused(few, tmp_path, ours, theirs):
    def options(function):
        return OPTIONS | {"epochs": 1, "scheduler": "LambdaLR", "scheduler_options": {"lr_lambda": function}}

    fit(network(), few, checkpoint=tmp_path / "run", **options(ours))
    fit(network(), few, checkpoint=tmp_path / "run", **options(ours))
    with pytest.raises(ValueError, match=r"its scheduler_options is .*lr_lambda.* and here it is"):
        fit(network(), few, checkpoint=tmp_path / "run", **options(theirs))


class Brighter:
    """A transform of a user's, which prints its place in memory."""

    numbers, is_last = 0, True

    def __init__(self, by):
        self.by = by

    def __call__(self, images, numbers):
        assert numbers.shape[1] == 0
        return images + self.by


class Weighed(HardLabels):
    """A term of a user's, with an option that prints its place in memory."""

    def __init__(self, function):
        Term.__init__(self, 1.0, function=function)
        self.label_smoothing = 0.0


def test_a_transform_and_a_term_of_a_users_are_told_by_what_they_are_made_of(few, tmp_path):
    def train(by, steps):
        images = replace(few, augmentation=Augmentation(train=(Brighter(by),)))
        distiller = Distiller(network(), None, [Weighed(warm_up(steps))])
        return fit(distiller, images, checkpoint=tmp_path / "run", **(OPTIONS | {"epochs": 1}))

    first = train(1, 5)
    assert train(1, 5).settings == first.settings
    with pytest.raises(ValueError, match=r"its augment is .*Brighter.* and here it is"):
        train(2, 5)
    with pytest.raises(ValueError, match=r"its terms is .*Weighed.*warm_up.* and here it is"):
        train(1, 6)


def test_an_option_that_cannot_be_told_from_another_is_refused_at_the_start(few):
    class Guarded(Falling):
        def __init__(self):
            super().__init__(0.9)
            self.guard = threading.Lock()

    student = StopAfter(network(), 1)
    with pytest.raises(ValueError, match=r"lock object at .* cannot be told from another lock"):
        fit(student, few, **OPTIONS, scheduler="LambdaLR", scheduler_options={"lr_lambda": Guarded()})
    assert student.left == 1


@pytest.mark.parametrize("began_with_one", [False, True])
def test_a_run_goes_on_with_a_gpu_of_its_own(few, tmp_path, monkeypatch, began_with_one):
    """Its generator is taken up, where the run had one; of two, the one that this process has."""
    fit(network(), few, checkpoint=tmp_path / "run", **OPTIONS)
    restored = {}
    monkeypatch.setattr(TrainState, "_device", torch.device("cuda", 1))
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: torch.tensor([device.index]))
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: restored.update({device: state}))
    model = network()
    state = TrainState(
        model_objective(model), torch.optim.SGD(model.parameters(), 0.1, momentum=0.9), None, {}, None
    )
    state.path, state.identity = tmp_path / "run", load_tensors(tmp_path / "run")[1]["identity"]
    state.resume()
    if began_with_one:
        state.save_checkpoint()
        state.resume()
    assert state.epoch == 4
    assert restored == ({torch.device("cuda", 1): torch.tensor([1])} if began_with_one else {})


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
            TrainState(
                model_objective(model), torch.optim.SGD(model.parameters()), None, {}, tmp_path / "run"
            )
        )
        runs[-1].resume()
        precision = Precision(scale)
        runs[-1].attach_precision(precision)
        runs[-1].save_checkpoint()
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
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="is no checkpoint of kdlib"):
        load_weights(network(), path)


@pytest.mark.parametrize("rest", ["cut off", "zeros"])
def test_a_damaged_checkpoint_is_never_taken_up(few, tmp_path, rest):
    """At every kilobyte; a disk that lost its power may have the length of a file and not what was in it."""
    path = tmp_path / "run"
    fit(network(), few, checkpoint=path, **OPTIONS)
    whole = path.read_bytes()
    assert len(whole) > 20_000
    for kept in range(0, len(whole), 1000):
        path.write_bytes(whole[:kept] + (b"" if rest == "cut off" else bytes(len(whole) - kept)))
        with pytest.raises(ValueError, match=rf"^{path} is no checkpoint of kdlib, or a damaged .*remove it"):
            fit(network(), few, checkpoint=path, **OPTIONS)
    path.write_bytes(whole)
    fit(network(), few, checkpoint=path, **OPTIONS)


def test_a_file_without_a_checksum_is_read(tmp_path):
    """As kdlib wrote them until 0.1."""
    from safetensors.torch import save_file

    model = network()
    save_file(model.state_dict(), tmp_path / "old", metadata={"kdlib": '{"format": 1}'})
    other = network(seed=1)
    load_weights(other, tmp_path / "old")
    assert same(model, other)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("", "'{0}/' is a folder, and a file is meant"),
        (
            "file/run",
            r"checkpoint is '{0}/file/run', where nothing can be written \(.*\); name another",
        ),
    ],
)
def test_a_place_where_no_checkpoint_can_be_is_told_before_the_training(few, tmp_path, place, message):
    (tmp_path / "file").touch()
    counted = StopAfter(network(), 1)
    with pytest.raises(ValueError, match="^" + message.format(tmp_path)):
        fit(counted, few, checkpoint=f"{tmp_path}/{place}", **OPTIONS)
    assert counted.left == 1


def test_a_folder_for_a_checkpoint_is_made(few, tmp_path):
    fit(network(), few, checkpoint=tmp_path / "new" / "run", **OPTIONS)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["run"]


def test_weights_are_no_run_to_go_on_with(few, tmp_path):
    save_weights(network(), tmp_path / "student.safetensors")
    with pytest.raises(ValueError, match=r"student\.safetensors has a network's weights and no run; give"):
        fit(network(), few, checkpoint=tmp_path / "student.safetensors", **OPTIONS)


def test_a_checkpoint_of_a_newer_kdlib(tmp_path, monkeypatch):
    monkeypatch.setattr("kdlib.training.state.FORMAT", 7)
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


@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel], ids=["compiled", "DataParallel"])
def test_weights_of_a_wrapped_network_have_its_own_names(wrap, tmp_path):
    """So that they are read into the network alone, and the other way round."""
    save_weights(wrap(network(seed=1)), tmp_path / "wrapped.safetensors")
    plain = network(seed=2)
    load_weights(plain, tmp_path / "wrapped.safetensors")
    assert same(plain, network(seed=1))
    save_weights(network(seed=3), tmp_path / "plain.safetensors")
    load_weights(wrap(plain), tmp_path / "plain.safetensors")
    assert same(plain, network(seed=3))
