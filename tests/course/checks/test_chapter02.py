"""The checkers of chapter 2: right answers pass, and each plausible mistake is told by its own sentence."""

import math

import pytest
import torch
import torch.nn.functional as F

from kdlib.course.checks import check


def dark_knowledge(logits, labels, temperature):
    true_class = F.one_hot(labels, logits.shape[1]).bool()
    return torch.softmax(logits.masked_fill(true_class, -torch.inf) / temperature, dim=1)


def zeroed_afterwards(logits, labels, temperature):
    p = torch.softmax(logits / temperature, dim=1) * (1 - F.one_hot(labels, logits.shape[1]))
    return p / p.sum(dim=1, keepdim=True)


def entropy(logits, temperature):
    log_p = F.log_softmax(logits / temperature, dim=1)
    return -(log_p.exp() * log_p).sum(dim=1)


def naive_entropy(logits, temperature):
    p = torch.softmax(logits / temperature, dim=1)
    return -(p * p.log()).sum(dim=1)


def temperature_for(logits, target, low=1e-4, high=1e4):
    while high / low > 1.0001:
        middle = math.sqrt(low * high)
        if entropy(logits[None].double(), middle) < target:
            low = middle
        else:
            high = middle
    return middle


@pytest.mark.parametrize(
    ("number", "answer"),
    [
        ("2.1", 0.75),
        ("2.2", 12),
        ("2.2", torch.tensor(12.0)),
        ("2.3", dark_knowledge),
        ("2.4", entropy),
        ("2.5", temperature_for),
        ("2.6", 0.62),
    ],
)
def test_right(number, answer):
    assert check(number, answer).state == "right", check(number, answer)


@pytest.mark.parametrize(
    ("number", "answer", "sentence"),
    [
        ("2.1", 0.9, "answer at T = 1"),
        ("2.1", 0.45, "halved the probability"),
        ("2.1", 0.9487, "forgot to normalise"),
        ("2.1", 81 / 82, "squared the odds"),
        ("2.1", 75, "percentage"),
        ("2.1", 0.6, "square root"),
        ("2.1", "three quarters", "give one number"),
        ("2.2", 4, "louder teacher is the sharper"),
        ("2.2", 4 / 3, "divided by 3"),
        ("2.2", 7, "added 3"),
        ("2.2", 5, "Only z / T"),
        ("2.3", zeroed_afterwards, "very sure"),
        ("2.3", lambda z, _, t: dark_knowledge(z, z.argmax(1), t), "likes best"),
        ("2.3", lambda z, _, t: torch.softmax(z / t, dim=1), "still has probability"),
        ("2.3", lambda z, y, t: torch.softmax(z / t, dim=1) * (1 - F.one_hot(y, 4)), "sums to"),
        ("2.3", lambda z, y, _: dark_knowledge(z, y, 1), "no effect"),
        ("2.3", lambda z, y, t: dark_knowledge(z, y, 1 / t), "multiply"),
        ("2.3", lambda z, y, t: dark_knowledge(-z, y, t), "proportions"),
        ("2.3", lambda z, y, t: dark_knowledge(z, y, t)[:, 1:], "shape"),
        ("2.3", dark_knowledge(torch.ones(1, 2), torch.tensor([0]), 1), "without calling it"),
        ("2.4", naive_entropy, "logarithm is infinite"),
        ("2.4", lambda z, t: -entropy(z, t), "never negative"),
        ("2.4", lambda z, t: entropy(z, t) / math.log(2), "bits"),
        ("2.4", lambda z, _: entropy(z, 1), "no effect"),
        ("2.4", lambda z, t: entropy(z, 1 / t), "multiply"),
        ("2.4", lambda z, t: entropy(z, t) / z.shape[1], "sum over them"),
        ("2.4", lambda z, t: entropy(z, t).mean(), "shape"),
        ("2.4", lambda z, t: entropy(z, 2 * t), "should give"),
        ("2.5", lambda *_: 4.0, "too"),
        ("2.5", lambda z, h: temperature_for(z, h * math.log(2)), "target is in nats"),
        ("2.5", lambda z, h: temperature_for(z, h, low=0.1, high=10), "With logits"),
        ("2.5", lambda *_: 0, "above 0"),
        ("2.5", 3.0, "without calling it"),
        ("2.6", 1.09, "trained without smoothing"),
        ("2.6", 1 / 0.62, "softer still"),
        ("2.6", 0.1, "smallest NLL"),
        ("2.6", -0.6, "above 0"),
    ],
)
def test_wrong(number, answer, sentence):
    feedback = check(number, answer)
    assert feedback.state == "wrong"
    assert sentence in feedback.message


@pytest.mark.parametrize("number", ["2.1", "2.2", "2.3", "2.4", "2.5", "2.6"])
def test_open(number):
    assert check(number, ...).state == "open"
