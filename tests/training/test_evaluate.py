"""What is measured after each epoch: the figures themselves, and that measuring changes nothing."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdlib import Attention, Distiller, HardLabels, LogitMatching, create_model, fit, load_data, predict
from kdlib.losses.inputs import DivergedError
from kdlib.models import NoisyTeacher
from kdlib.terms import Term
from kdlib.training.evaluate import Evaluator


@pytest.fixture(scope="module")
def data():
    return load_data("digits")


def network(width=4, seed=0):
    return create_model("convnet", 10, in_channels=1, width=width, seed=seed)


def test_the_figures(data):
    student, teacher = network(), network(8, seed=1)
    distiller = Distiller(student, teacher, [HardLabels(0.5), LogitMatching(0.25)])
    measured = Evaluator(distiller, data.test, 1, torch.device("cpu"))(1)
    ours, theirs = (predict(model, data.test, device="cpu") for model in (student, teacher))
    assert measured["test_accuracy"] == (ours.argmax(dim=1) == data.test.labels).double().mean().item()
    assert measured["test_logit_difference"] == pytest.approx((theirs - ours).abs().mean().item())
    matching = (ours - theirs).square().mean() * 0.25
    expected = 0.5 * F.cross_entropy(ours, data.test.labels) + matching
    assert measured["test_loss"] == pytest.approx(expected.item(), rel=1e-5)


def test_without_a_teacher_there_is_no_difference_to_it(data):
    evaluator = Evaluator(Distiller(network(), None, [HardLabels()]), data.test, 1, torch.device("cpu"))
    assert set(evaluator(1)) == {"test_accuracy", "test_loss"}


def test_a_term_on_layers_has_no_test_loss(data):
    terms = [HardLabels(), Attention(1.0, layers=["layer1"])]
    evaluator = Evaluator(Distiller(network(), network(8), terms), data.test, 1, torch.device("cpu"))
    assert set(evaluator(1)) == {"test_accuracy", "test_logit_difference"}


@pytest.mark.parametrize(("every", "tested"), [(1, [1, 2, 3, 4]), (3, [3]), (None, [])])
def test_epochs_that_have_a_test(data, every, tested):
    evaluator = Evaluator(Distiller(network(), None, [HardLabels()]), data.test, every, torch.device("cpu"))
    assert [epoch for epoch in (1, 2, 3, 4) if evaluator(epoch)] == tested


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


class Answer(Term):
    """A term of a user's, on the student's answers alone."""

    name = "answer"
    needs_teacher = False

    def __init__(self):
        super().__init__(1.0)

    def forward(self, outputs):
        return outputs.student_logits.square().mean()


class ByPosition(Answer):
    """Remembers the answers to every image, as temporal ensembling does."""

    def __init__(self, size):
        super().__init__()
        self.register_buffer("memory", torch.zeros(size, 10))

    def forward(self, outputs):
        before = self.memory[outputs.indices]
        self.memory[outputs.indices] = outputs.student_logits.detach()
        return (outputs.student_logits - before).square().mean()


class MovingCentre(Answer):
    """Remembers the mean answer, as DINO does."""

    def __init__(self):
        super().__init__()
        self.norm, self.seen = nn.BatchNorm1d(10), []

    def forward(self, outputs):
        self.seen.append(len(outputs.labels))
        return self.norm(outputs.student_logits).square().mean()


class WithNoise(Answer):
    def forward(self, outputs):
        return (outputs.student_logits + torch.randn(1)).square().mean()


class Keeping(Answer):
    """Keeps what it computed, with its gradient, which torch cannot copy."""

    def forward(self, outputs):
        self.last = outputs.student_logits * 2
        return self.last.square().mean()


def test_a_term_that_asks_which_images_these_are_has_no_test_loss(data):
    few = data.train.balanced(60)
    distiller = Distiller(network(), None, [ByPosition(len(few))])
    record = fit(distiller, few, test=data.test, epochs=2, device="cpu", progress=False)
    assert "test_loss" not in record.epochs
    assert len(record.epochs["test_accuracy"]) == len(record.epochs["answer"]) == 2
    assert (distiller.terms[0].memory != 0).any(dim=1).all()


def test_what_a_term_remembers_is_of_the_training_images(data):
    few, terms = data.train.balanced(60), []
    for test in (data.test, None):
        distiller = Distiller(network(), None, [MovingCentre()])
        record = fit(distiller, few, test=test, epochs=2, batch_size=20, device="cpu", progress=False)
        assert ("test_loss" in record.epochs) == (test is not None)
        terms.append(distiller.terms[0])
    assert terms[0].seen == terms[1].seen == [20] * 6
    for tested, untested in zip(terms[0].buffers(), terms[1].buffers(), strict=True):
        assert torch.equal(tested, untested)


def test_a_term_that_draws_does_not_take_from_the_training(data):
    weights = []
    for test_every in (1, None):
        distiller = Distiller(network(), None, [WithNoise()])
        options = {"epochs": 2, "device": "cpu", "progress": False}
        fit(distiller, data.train.balanced(60), test=data.test, test_every=test_every, **options)
        weights.append(torch.cat([value.flatten().float() for value in distiller.state_dict().values()]))
    assert torch.equal(*weights)


def test_a_term_that_cannot_be_copied_has_no_test_loss(data):
    distiller = Distiller(network(), None, [Keeping()])
    options = {"epochs": 1, "device": "cpu", "progress": False}
    record = fit(distiller, data.train.balanced(60), test=data.test, **options)
    assert set(record.epochs) == {"loss", "answer", "test_accuracy"}


def test_answers_that_are_no_numbers(data):
    student = network()
    with torch.no_grad():
        student.classifier.bias[0] = torch.nan
    evaluator = Evaluator(Distiller(student, None, [HardLabels()]), data.test, 1, torch.device("cpu"))
    with pytest.raises(DivergedError, match="NaN or infinite after epoch 2; try a lower learning rate"):
        evaluator(2)


def test_on_epoch_sees_the_curves_grow_and_an_earlier_sitting_again(data, tmp_path):
    few, seen = data.train.balanced(60), []
    options = {"epochs": 3, "device": "cpu", "progress": False, "checkpoint": tmp_path / "run"}
    record = fit(network(), few, on_epoch=lambda curves: seen.append(list(curves.get("loss", []))), **options)
    loss = record.epochs["loss"]
    assert seen == [[], loss[:1], loss[:2], loss]
    fit(network(), few, on_epoch=lambda curves: seen.append(list(curves["loss"])), **options)
    assert seen[4:] == [loss]
