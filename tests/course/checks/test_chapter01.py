"""The checkers of chapter 1: right answers pass, and each plausible mistake is named."""

import math
import statistics

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdlib import create_model
from kdlib.course import checks


def says(number, answer, words):
    feedback = checks.check(number, answer)
    return feedback.state == "wrong" and words in feedback.message


@pytest.mark.parametrize("number", ["1.1", "1.2", "1.3", "1.4", "1.5"])
def test_an_exercise_not_begun_is_open(number):
    assert checks.check(number, ...).state == "open"


class TestAnswersOfTheTeacher:
    def test_right(self):
        assert checks.check("1.1", 50 * 80).state == "right"

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            (50, "labels"),
            (80, "epochs"),
            (160, "batches"),
            (2000, "batch size"),
            (40000, "ten numbers"),
            (7, "shown"),
        ],
    )
    def test_wrong(self, answer, words):
        assert says("1.1", answer, words)


class TestWeights:
    def test_right(self):
        assert checks.check("1.2", lambda w: 90 * w**2 + 63 * w + 10).state == "right"

    def test_the_network_itself_agrees(self):
        def weigh(width):
            return sum(
                p.numel() for p in create_model("convnet", 10, in_channels=1, width=width).parameters()
            )

        assert checks.check("1.2", weigh).state == "right"

    @pytest.mark.parametrize(
        ("function", "words"),
        [
            (lambda w: 90 * w**2 + 49 * w + 10, "batch norms are missing"),
            (lambda w: 90 * w**2 + 63 * w, "linear layer's bias"),
            (lambda w: 90 * w**2 + 70 * w + 10, "gave the convolutions a bias"),
            (lambda w: 10 * w**2 + 55 * w + 10, "nine weights"),
            (lambda w: 100 * w, "For width 1 it gives 100"),
            (6274, "give the function itself"),
        ],
    )
    def test_wrong(self, function, words):
        assert says("1.2", function, words)


def interval(taught, alone, *, spread=statistics.stdev, t=3.182, root=2.0, sign=1):
    differences = [sign * (a - b) for a, b in zip(taught, alone, strict=True)]
    mean, margin = statistics.fmean(differences), t * spread(differences) / root
    return mean - margin, mean + margin


def unpaired(taught, alone):
    margin = 3.182 * math.sqrt((statistics.variance(taught) + statistics.variance(alone)) / 4)
    mean = statistics.fmean(taught) - statistics.fmean(alone)
    return mean - margin, mean + margin


class TestInterval:
    def test_right(self):
        assert checks.check("1.3", interval).state == "right"

    @pytest.mark.parametrize(
        ("function", "words"),
        [
            (unpaired, "two unpaired groups"),
            (lambda a, b: interval(a, b, spread=statistics.pstdev), "divided the squares by n"),
            (lambda a, b: interval(a, b, root=1.0), "left out the square root"),
            (lambda a, b: interval(a, b, root=4.0), "divided by n;"),
            (lambda a, b: interval(a, b, t=1.96), "1.96"),
            (lambda a, b: interval(a, b, t=5.0), "should reach"),
            (lambda a, b: interval(a, b, sign=-1), "taught minus alone"),
            (lambda a, b: interval(a, b)[::-1], "other order"),
            (lambda *_: (0.0, 1.0), "interval's middle"),
            (lambda *_: 0.1, "two numbers"),
        ],
    )
    def test_wrong(self, function, words):
        assert says("1.3", function, words)


class Wrapped(nn.Module):
    """A teacher built on another by a function of its logits."""

    def __init__(self, change):
        super().__init__()
        self.teacher = create_model("convnet", 10, in_channels=1, width=2, seed=0)
        self.change = change

    def forward(self, images):
        return self.change(self.teacher(images))


def even(logits, *, soften=4.0, give=4.0):
    p = (logits / soften).softmax(dim=1)
    largest, named = p.max(dim=1, keepdim=True)
    return give * ((1 - largest) / 9).expand_as(p).scatter(1, named, largest).log()


class TestDoubtWithoutASecondChoice:
    def test_right(self):
        assert checks.check("1.4", Wrapped(even)).state == "right"

    def test_any_constant_may_be_added(self):
        assert checks.check("1.4", Wrapped(lambda z: even(z) + 7)).state == "right"

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda z: (even(z) / 4).softmax(dim=1), "return probabilities"),
            (lambda z: even(z, soften=1.0), "soften with 4"),
            (lambda z: even(z, give=1.0), "four times the logarithms"),
            (lambda z: z, "do not have the same"),
            (lambda z: 100 * F.one_hot(z.argmax(dim=1), 10).float(), "no doubt"),
            (lambda z: -even(z), "names another class"),
            (lambda z: z / 0, "not finite"),
            (lambda z: z.argmax(dim=1), "return (64, 10)"),
        ],
    )
    def test_wrong(self, change, words):
        assert says("1.4", Wrapped(change), words)

    def test_a_tensor_is_no_teacher(self):
        assert says("1.4", torch.zeros(1), "give the module")


class TestGain:
    def test_right(self):
        assert checks.check("1.5", {20: 21.0, 200: 3.5}).state == "right"

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            ({20: 3.0, 200: 8.0}, "comes out larger"),
            ({20: 0.21, 200: 0.035}, "fraction"),
            ({20: -21.0, 200: -3.5}, "negative"),
            ({20: 2100.0, 200: 350.0}, "cannot be"),
            (21.0, "give a dict"),
        ],
    )
    def test_wrong(self, answer, words):
        assert says("1.5", answer, words)
