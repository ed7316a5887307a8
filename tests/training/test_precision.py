"""What "auto" means for a precision, and losses that stay in float32 under all of them."""

import logging

import pytest
import torch

from kdlib import Distiller, HardLabels, SoftTargets, create_model, fit, load_data
from kdlib.training import precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("native", "network", "expected"),
    [(True, "resnet20", "bf16-mixed"), (False, "resnet20", "32-true"), (True, "convnet", "32-true")],
)
def test_auto_is_bf16_where_it_is_native_and_pays(monkeypatch, native, network, expected):
    monkeypatch.setattr(precision, "has_bfloat16", lambda _device: native)
    assert precision.choose_precision("auto", CPU, create_model(network, 10), None) == expected


def test_a_large_teacher_counts(monkeypatch):
    monkeypatch.setattr(precision, "has_bfloat16", lambda _device: True)
    networks = create_model("convnet", 10), create_model("resnet20", 10)
    assert precision.choose_precision("auto", CPU, *networks) == "bf16-mixed"


def test_weights_that_are_not_trained_are_computed_too(monkeypatch):
    monkeypatch.setattr(precision, "has_bfloat16", lambda _device: True)
    network = create_model("resnet20", 10).requires_grad_(False)
    assert precision.choose_precision("auto", CPU, network) == "bf16-mixed"


@pytest.mark.parametrize(
    ("name", "message"),
    [("bf16", "precision is 'bf16'; choose one of auto, 32-true"), ("16-mixed", "needs a GPU")],
)
def test_precisions_that_cannot_be(name, message):
    with pytest.raises(ValueError, match=message):
        precision.choose_precision(name, CPU)


def test_fabric_says_nothing_and_its_log_stays_as_it_was(caplog):
    log = logging.getLogger("lightning_fabric.utilities.rank_zero")
    with caplog.at_level(logging.INFO, logger=log.name):
        precision.make_fabric(CPU, "bf16-mixed")
        assert log.level == logging.INFO
    assert not caplog.records


def test_training_in_bfloat16_learns_and_keeps_float32_weights():
    data = load_data("digits")
    student, teacher = (create_model("convnet", 10, in_channels=1, width=8, seed=seed) for seed in (0, 1))
    fit(teacher, data.train, epochs=6, progress=False, device="cpu", precision="32-true")
    record = fit(
        Distiller(student, teacher, [HardLabels(0.1), SoftTargets(0.9)]),
        data.train, epochs=12, test=data.test, progress=False, device="cpu", precision="bf16-mixed",
    )  # fmt: skip
    assert record.settings["precision"] == "bf16-mixed"
    assert record.final["accuracy"] > 0.8
    assert {weight.dtype for weight in student.parameters()} == {torch.float32}
