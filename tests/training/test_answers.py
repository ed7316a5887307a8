"""A teacher that is asked once: the same bits, and no question twice."""

import os

import pytest
import torch
from torch import nn

from kdlib import Attention, Distiller, HardLabels, SoftTargets, create_model, fit, load_data
from kdlib.models import ShuffledTeacher
from kdlib.training import answers

QUICK = {"epochs": 3, "device": "cpu", "progress": False, "learning_rate": 0.05, "batch_size": 16}


class Teacher(nn.Module):
    """Counts the images that it is asked about in training steps."""

    asked = 0

    def __init__(self, seed=1):
        super().__init__()
        self.network = create_model("convnet", 10, in_channels=1, width=6, seed=seed)

    def forward(self, images):
        Teacher.asked += len(images)
        return self.network(images)


@pytest.fixture(autouse=True)
def count():
    Teacher.asked = 0


def train(count=50):
    return load_data("digits").train.balanced(count)


def taught(folder, temperature=4.0, teacher=None, images=None, **options):
    """The weights of a student, its record, and how many answers were asked for."""
    student = create_model("convnet", 10, in_channels=1, width=4, seed=0)
    distiller = Distiller(
        student, teacher or Teacher(), [HardLabels(0.1), SoftTargets(0.9, temperature=temperature)]
    )
    before = Teacher.asked
    record = fit(distiller, images or train(), answers=folder, **(QUICK | options))
    weights = torch.cat([value.flatten().float() for value in student.state_dict().values()])
    return weights, record, Teacher.asked - before


@pytest.mark.parametrize(
    "options", [{}, {"precision": "bf16-mixed"}, {"accelerate": False}, {"accumulate": 3}]
)
def test_answers_that_are_read_give_the_same_bits_as_asking(tmp_path, options):
    asking, record, _ = taught(None, **options)
    first, _, asked = taught(tmp_path, **options)
    second, again, none = taught(tmp_path, **options)
    assert torch.equal(asking, first)
    assert torch.equal(asking, second)
    assert again.epochs == record.epochs
    assert asked - none == 3 * 50
    assert again.final == record.final


def test_a_grid_over_temperatures_and_weights_asks_once(tmp_path):
    images = train()
    alone = {t: taught(None, t, images=images)[0] for t in (1.0, 2.0)}
    *_, asked = taught(tmp_path, 4.0, images=images)
    for temperature, expected in alone.items():
        weights, _, now = taught(tmp_path, temperature, images=images)
        assert torch.equal(weights, expected)
        assert asked - now == 150


def test_more_epochs_ask_for_those_that_are_new(tmp_path):
    counts = [taught(tmp_path, epochs=epochs)[2] for epochs in (2, 3, 3)]
    assert (counts[0] - counts[2], counts[1] - counts[2]) == (100, 50)


@pytest.mark.parametrize(
    "other",
    [
        lambda: {"teacher": Teacher(seed=2)},
        lambda: {"seed": 1},
        lambda: {"augment": False},
        lambda: {"batch_size": 17},
        lambda: {"images": train(60).subset(range(10, 60))},
        lambda: {"precision": "bf16-mixed"},
        lambda: {"accelerate": False},
    ],
)
def test_what_shows_the_teacher_something_else_asks_anew(tmp_path, other):
    expected = taught(None, **other())[0]
    taught(tmp_path)
    weights, _, asked = taught(tmp_path, **other())
    assert asked >= 150
    assert torch.equal(weights, expected)


def test_a_run_that_was_stopped_leaves_no_half_epoch(tmp_path):
    def stop(step, _values):
        if step == 6:  # of four in an epoch
            raise KeyboardInterrupt

    options = {"checkpoint": tmp_path / "run"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kdlib.training.state._SECONDS_BETWEEN_CHECKPOINTS", -1)
        with pytest.raises(KeyboardInterrupt):
            taught(tmp_path / "kept", on_step=stop, **options)
    (folder,) = (tmp_path / "kept").iterdir()
    assert [file.name for file in folder.iterdir()] == ["epoch-0000.safetensors"]
    resumed, *_ = taught(tmp_path / "kept", **options)
    assert torch.equal(resumed, taught(None)[0])
    assert torch.equal(resumed, taught(tmp_path / "kept")[0])
    assert len(list(folder.iterdir())) == 3


def test_the_oldest_answers_make_room(tmp_path, monkeypatch):
    monkeypatch.setattr(answers, "LIMIT", 0)
    for seed in (0, 1):
        taught(tmp_path, seed=seed, epochs=1)
    assert len(list(tmp_path.iterdir())) == 1
    monkeypatch.setattr(answers, "LIMIT", 1 << 20)
    taught(tmp_path, seed=2, epochs=1)
    first, second = tmp_path.iterdir()
    os.utime(first, (0, 0))
    size = sum(file.stat().st_size for file in second.iterdir())
    monkeypatch.setattr(answers, "LIMIT", size)
    taught(tmp_path, seed=3, epochs=1)
    assert not first.exists()
    assert second.exists()


def test_a_damaged_file_is_named(tmp_path):
    taught(tmp_path)
    file = next(tmp_path.glob("*/epoch-0001.safetensors"))
    file.write_bytes(file.read_bytes()[:-40] + bytes(40))
    with pytest.raises(ValueError, match=r"epoch-0001\.safetensors is no checkpoint of kdlib, or a dam"):
        taught(tmp_path)


def digits():
    return [next(train().batches(50))]


@pytest.mark.parametrize(
    ("model", "data", "options", "words"),
    [
        (lambda s: s, train, {}, "there is no teacher"),
        (
            lambda s: Distiller(s, Teacher().network, [Attention(1, layers="layer2")]),
            train,
            {},
            "a term reads",
        ),
        (lambda s: Distiller(s, lambda images: s(images), [SoftTargets()]), train, {}, "is a function"),
        (
            lambda s: Distiller(s, ShuffledTeacher(Teacher()), [SoftTargets()]),
            train,
            {},
            "draws random numbers",
        ),
        (lambda s: Distiller(s, Teacher(), [SoftTargets()]), digits, {}, "the batches are given"),
        (
            lambda s: Distiller(s, Teacher(), [SoftTargets()]),
            train,
            {"batch_transform": lambda *batch: batch},
            "batch_transform draws",
        ),
    ],
)
def test_what_cannot_be_kept(tmp_path, model, data, options, words):
    student = create_model("convnet", 10, in_channels=1, width=4, seed=0)
    with pytest.raises(ValueError, match=f"answers cannot be kept: .*{words}.*; leave out answers"):
        fit(model(student), data(), answers=tmp_path, **(QUICK | options))
    assert not list(tmp_path.iterdir())
