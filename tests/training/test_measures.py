"""What is measured after each epoch: the figures themselves, and that measuring changes nothing."""

import pytest
import torch
import torch.nn.functional as F

from kdlib import Attention, Distiller, HardLabels, LogitMatching, create_model, fit, load_data, predict
from kdlib.losses.inputs import DivergedError
from kdlib.models import NoisyTeacher
from kdlib.training.measures import Measures


@pytest.fixture(scope="module")
def data():
    return load_data("digits")


def network(width=4, seed=0):
    return create_model("convnet", 10, in_channels=1, width=width, seed=seed)


def test_the_figures(data):
    student, teacher = network(), network(8, seed=1)
    distiller = Distiller(student, teacher, [HardLabels(0.5), LogitMatching(0.25)])
    measured = Measures(distiller, data.test, 1, torch.device("cpu"))(1)
    ours, theirs = (predict(model, data.test, device="cpu") for model in (student, teacher))
    assert measured["test_accuracy"] == (ours.argmax(dim=1) == data.test.labels).double().mean().item()
    assert measured["test_logit_difference"] == pytest.approx((theirs - ours).abs().mean().item())
    matching = (ours - theirs).square().mean() * 0.25
    expected = 0.5 * F.cross_entropy(ours, data.test.labels) + matching
    assert measured["test_loss"] == pytest.approx(expected.item(), rel=1e-5)


def test_without_a_teacher_there_is_no_difference_to_it(data):
    measures = Measures(Distiller(network(), None, [HardLabels()]), data.test, 1, torch.device("cpu"))
    assert set(measures(1)) == {"test_accuracy", "test_loss"}


def test_a_term_on_layers_has_no_test_loss(data):
    terms = [HardLabels(), Attention(1.0, layers=["layer1"])]
    measures = Measures(Distiller(network(), network(8), terms), data.test, 1, torch.device("cpu"))
    assert set(measures(1)) == {"test_accuracy", "test_logit_difference"}


@pytest.mark.parametrize(("every", "tested"), [(1, [1, 2, 3, 4]), (3, [3]), (None, [])])
def test_epochs_that_have_a_test(data, every, tested):
    measures = Measures(Distiller(network(), None, [HardLabels()]), data.test, every, torch.device("cpu"))
    assert [epoch for epoch in (1, 2, 3, 4) if measures(epoch)] == tested


def test_measuring_takes_no_random_numbers_from_the_training(data):
    few = data.train.balanced(60)
    weights = []
    for test_every in (1, None):
        student = network()
        distiller = Distiller(student, NoisyTeacher(network(8), std=1.0, seed=3), [LogitMatching()])
        options = {"epochs": 2, "device": "cpu", "progress": False}
        fit(distiller, few, test=data.test, test_every=test_every, **options)
        weights.append(torch.cat([value.flatten().float() for value in student.state_dict().values()]))
    assert torch.equal(*weights)


def test_answers_that_are_no_numbers(data):
    student = network()
    with torch.no_grad():
        student.classifier.bias[0] = torch.nan
    measures = Measures(Distiller(student, None, [HardLabels()]), data.test, 1, torch.device("cpu"))
    with pytest.raises(DivergedError, match="NaN or infinite after epoch 2; try a lower learning rate"):
        measures(2)


def test_on_epoch_sees_the_curves_grow_and_an_earlier_sitting_again(data, tmp_path):
    few, seen = data.train.balanced(60), []
    options = {"epochs": 3, "device": "cpu", "progress": False, "checkpoint": tmp_path / "run"}
    record = fit(network(), few, on_epoch=lambda curves: seen.append(list(curves.get("loss", []))), **options)
    loss = record.epochs["loss"]
    assert seen == [[], loss[:1], loss[:2], loss]
    fit(network(), few, on_epoch=lambda curves: seen.append(list(curves["loss"])), **options)
    assert seen[4:] == [loss]
