"""A loss that is no number, memory that is not there: the run stops at once and says why."""

import pytest
import torch
from torch import nn

from kdlib import Distiller, HardLabels, create_model, fit, load_data
from kdlib.distiller import Objective
from kdlib.losses.inputs import check_finite
from kdlib.training import DivergedError
from kdlib.training.guards import LossGuard, at_step, largest_that_fits
from kdlib.training.state import TrainState

OPTIONS = {"progress": False, "device": "cpu", "batch_size": 16, "epochs": 2}


@pytest.fixture(scope="module")
def few():
    return load_data("digits").train.balanced(64)


class Breaks(Objective):
    """An objective whose loss is NaN in one step."""

    def __init__(self, at):
        super().__init__()
        self.student = create_model("convnet", 10, in_channels=1, width=2, seed=0)
        self.at, self.steps = at, 0

    def connect(self, *_):
        return self

    def describe(self):
        return ["breaks"]

    def forward(self, images, labels, _indices=None):
        self.steps += 1
        loss = nn.functional.cross_entropy(self.student(images), labels)
        broken = loss * float("nan") if self.steps == self.at else loss
        return broken, {"first": loss, "second": broken}


def test_nan_stops_the_run_at_its_step_and_leaves_the_weights_finite(few):
    model = Breaks(at=6)
    with pytest.raises(
        ValueError, match="loss, second became NaN or infinite in step 2 of epoch 2; try a lower"
    ):
        fit(model, few, **OPTIONS)
    assert model.steps == 6
    assert all(weight.isfinite().all() for weight in model.parameters())


class DivergesInTheLoss(Breaks):
    """As a term does on a CPU, which looks at its inputs before the run can look at the loss."""

    def forward(self, images, labels, indices=None):
        loss, terms = super().forward(images, labels, indices)
        return check_finite(loss, student=loss.reshape(1, 1)), terms


def test_a_loss_that_finds_nan_itself_says_in_which_step(few):
    with pytest.raises(
        DivergedError, match=r"^student logits hold nan in row 0, in step 2 of epoch 2; look for too high"
    ) as caught:
        fit(DivergesInTheLoss(at=6), few, **OPTIONS)
    assert str(caught.value.__cause__).startswith("student logits hold nan in row 0; look for")


def test_a_divergence_without_a_remedy_says_its_step_too():
    with pytest.raises(DivergedError, match=r"^all is lost, in step 3$"), at_step("in step 3"):
        raise DivergedError("all is lost.")
    with pytest.raises(ValueError, match=r"^something else$"), at_step("in step 3"):
        raise ValueError("something else")


def test_the_last_good_checkpoint_stays(few, tmp_path, monkeypatch):
    monkeypatch.setattr("kdlib.training.state._SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    with pytest.raises(ValueError, match="step 2 of epoch 2"):
        fit(Breaks(at=6), few, checkpoint=tmp_path / "run", **OPTIONS)
    healed = Breaks(at=-1)
    record = fit(healed, few, checkpoint=tmp_path / "run", **OPTIONS)
    assert healed.steps == 3, "five of eight steps were kept"
    assert len(record.epochs["loss"]) == 2


def test_a_watch_on_a_device_that_is_slow_to_ask_looks_before_anything_is_kept():
    guard = LossGuard()
    values = {"loss": torch.tensor(float("inf"), device="meta")}
    for step in range(5):
        guard.check(f"in step {step}", values)  # not looked at: a meta tensor has no value to read
    guard._waiting = [("in step 3", ["loss"], torch.tensor([float("inf")]))]
    with pytest.raises(ValueError, match="loss became NaN or infinite in step 3"):
        guard.flush()
    guard.flush()


def test_a_loss_that_is_looked_at_late_is_looked_at_before_a_checkpoint(few, tmp_path, monkeypatch):
    """As a GPU's is, together with the steps after it."""

    def wait(guard, where, values):
        guard._waiting.append(
            (where, list(values), torch.stack([value.detach() for value in values.values()]))
        )

    monkeypatch.setattr(LossGuard, "check", wait)
    monkeypatch.setattr("kdlib.training.state._SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    with pytest.raises(DivergedError, match="loss, second became NaN or infinite in step 2 of epoch 2"):
        fit(Breaks(at=6), few, checkpoint=tmp_path / "run", **OPTIONS)


class Hungry(nn.Module):
    """A network that finds memory for a few images only."""

    def __init__(self, most):
        super().__init__()
        self.network, self.most = create_model("convnet", 10, in_channels=1, width=2, seed=0), most

    def forward(self, images):
        if len(images) > self.most and self.training:
            raise RuntimeError(
                "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"
            )
        return self.network(images)


@pytest.mark.parametrize(
    ("most", "message"),
    [
        (5, "a batch of 16 images does not fit into memory; batch_size=4 fits"),
        (0, "a batch of 16 images does not fit into memory; not even one image does"),
    ],
)
def test_out_of_memory_says_which_batch_size_fits(few, most, message):
    with pytest.raises(MemoryError, match=message):
        fit(Hungry(most), few, **OPTIONS)


def test_other_errors_are_not_taken_for_it():
    def broken(_size):
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        largest_that_fits(broken, 8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scheduler_step": "batch"}, "scheduler_step is 'batch'; choose 'step' or 'epoch'"),
        ({"test_every": 0}, "test_every is 0"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0; it must be 0 or more, and finite"),
        ({"learning_rate": float("inf")}, "learning_rate is inf; it must be 0 or more, and finite"),
        ({"optimizer_options": {"momentum": "high"}}, "momentum of SGD is 'high'; write a finite number"),
        (
            {"scheduler": "MultiStepLR", "scheduler_options": {"milestones": "3,5"}},
            "milestones of MultiStepLR is '3,5'; write a list of whole numbers above 0",
        ),
    ],
)
def test_arguments_that_cannot_be(few, changes, message):
    with pytest.raises(ValueError, match=message):
        fit(create_model("convnet", 10, in_channels=1), few, **(OPTIONS | changes))


def test_more_classes_in_the_data_than_in_the_network(few):
    with pytest.raises(ValueError, match=r"label 9 is out of range; with 9 classes|label \d is out of range"):
        fit(create_model("convnet", 5, in_channels=1), few, **OPTIONS)


def test_a_batch_larger_than_the_data_is_one_step(few):
    record = fit(create_model("convnet", 10, in_channels=1), few, **(OPTIONS | {"batch_size": 1000}))
    assert len(record.epochs["loss"]) == 2


def test_evaluated_only_at_the_end(few):
    data = load_data("digits")
    record = fit(create_model("convnet", 10, in_channels=1), few, test=data.test, test_every=None, **OPTIONS)
    assert "test_accuracy" not in record.epochs
    assert 0 <= record.final["accuracy"] <= 1


def test_hard_labels_alone_are_what_a_plain_network_gets(few):
    record = fit(create_model("convnet", 10, in_channels=1), few, **OPTIONS)
    assert record.settings["terms"] == [repr(HardLabels())]


def test_weights_that_are_no_numbers_are_not_kept(few, tmp_path):
    """A loss may be finite, and the step after it may not be: the checkpoint from before stays."""
    model = create_model("convnet", 10, in_channels=1, width=2, seed=0)
    path = tmp_path / "run"
    state = TrainState(
        Distiller(model, None, [HardLabels()]), torch.optim.SGD(model.parameters()), None, {}, path
    )
    state.save_checkpoint()
    before = path.read_bytes()
    with torch.no_grad():
        model.classifier.bias[3] = torch.inf
    with pytest.raises(DivergedError, match=r"student\.classifier\.bias became NaN or infinite in epoch 1"):
        state.save_checkpoint()
    assert path.read_bytes() == before
