"""The checkers of chapter 3: right answers pass, and each plausible mistake is told by its own sentence."""

import pytest
import torch
import torch.nn.functional as F

from kdlib.course.checks import check


def soft_loss(s, t, temperature, reduction="batchmean", square=True):
    log_q = F.log_softmax(s.float() / temperature, dim=1)
    log_p = F.log_softmax(t.float() / temperature, dim=1)
    return (temperature**2 if square else 1) * F.kl_div(log_q, log_p, reduction=reduction, log_target=True)


def naive_loss(s, t, temperature):
    p, q = torch.softmax(t / temperature, dim=1), torch.softmax(s / temperature, dim=1)
    return temperature**2 * (p * (p.log() - q.log())).sum(dim=1).mean()


def cross_entropy(s, t, temperature):
    return temperature**2 * F.cross_entropy(s / temperature, torch.softmax(t / temperature, dim=1))


def no_logarithm(s, t, temperature):
    p, q = torch.softmax(t / temperature, dim=1), torch.softmax(s / temperature, dim=1)
    return temperature**2 * F.kl_div(q, p, reduction="batchmean")


def floor(t, temperature):
    log_p = F.log_softmax(t / temperature, dim=1)
    return -(temperature**2) * (log_p.exp() * log_p).sum(dim=1).mean()


@pytest.mark.parametrize(
    ("number", "answer"),
    [
        ("3.1", 1600),
        ("3.2", [-0.4, 0.2, 0.2]),
        ("3.2", torch.tensor([-0.4, 0.2, 0.2])),
        ("3.3", soft_loss),
        ("3.4", (0.1, 0.1)),
        ("3.4", (1 - 0.9, 0.9 / 9)),
        ("3.5", floor),
        ("3.6", 13.2),
    ],
)
def test_right(number, answer):
    assert check(number, answer).state == "right", check(number, answer)


@pytest.mark.parametrize(
    ("number", "answer", "sentence"),
    [
        ("3.1", 16, "T² alone"),
        ("3.1", 100, "reduction alone"),
        ("3.1", 400, "T for T²"),
        ("3.1", 1 / 1600, "too small"),
        ("3.1", 116, "multiply"),
        ("3.1", 20, "Two factors"),
        ("3.2", [0.4, -0.2, -0.2], "sign"),
        ("3.2", [-0.1, 0.05, 0.05], "without T²"),
        ("3.2", [-0.2, 0.1, 0.1], "factor of T"),
        ("3.2", [-0.8, 0.4, 0.4], "T² times the difference"),
        ("3.2", [0.5, 0.3, 0.2], "sum to 1, so"),
        ("3.2", [-0.4, 0.4, 0.0], "class by class"),
        ("3.2", [-0.4, 0.2], "shape"),
        ("3.3", naive_loss, "log_softmax"),
        ("3.3", lambda s, t, temperature: soft_loss(s, t, temperature, square=False), "T² is missing"),
        ("3.3", lambda s, t, temperature: soft_loss(s, t, temperature) / temperature, "multiply by T"),
        ("3.3", lambda s, t, temperature: soft_loss(s, t, temperature) / s.shape[1], "number of classes"),
        ("3.3", lambda s, t, temperature: soft_loss(s, t, temperature, "sum"), "sum over images"),
        ("3.3", lambda s, t, temperature: soft_loss(t, s, temperature), "reverse"),
        ("3.3", cross_entropy, "cross-entropy"),
        ("3.3", lambda s, t, temperature: temperature**2 * soft_loss(s, t, 1), "inside the softmax"),
        ("3.3", lambda s, t, _: soft_loss(s, t, 1), "no effect"),
        ("3.3", no_logarithm, "never negative"),
        ("3.3", lambda s, t, temperature: 2 * soft_loss(s, t, temperature), "is right"),
        ("3.3", lambda s, t, temperature: soft_loss(s, t, temperature, "none"), "shape"),
        ("3.3", lambda s, t, temperature: soft_loss(s, t, temperature).item(), "return a tensor"),
        ("3.4", (0.1, 0.9), "T² inside"),
        ("3.4", (0.9, 0.1), "labels"),
        ("3.4", (0.1, 8.1), "multiplied"),
        ("3.4", (0.1, 0.3), "divided by T"),
        ("3.4", (0.5, 0.1), "F.cross_entropy"),
        ("3.4", (0.1, 0.2), "must come to"),
        ("3.4", 0.1, "shape"),
        ("3.5", lambda *_: torch.zeros(()), "floor of the KL"),
        ("3.5", lambda t, temperature: floor(t, temperature) / temperature**2, "without T²"),
        ("3.5", lambda t, temperature: floor(t, temperature) / temperature, "multiply by T"),
        ("3.5", lambda t, temperature: -floor(t, temperature), "never negative"),
        ("3.5", lambda t, temperature: temperature**2 * floor(t, 1), "T = 1"),
        (
            "3.5",
            lambda t, temperature: temperature**2 * torch.tensor(t.shape[1]).double().log(),
            "even answer",
        ),
        ("3.5", lambda t, temperature: 2 * floor(t, temperature), "which student"),
        ("3.6", 0.132, "looks like a fraction"),
        ("3.6", -13.2, "cannot be ahead"),
        ("3.6", 2, "both factors are missing"),
        ("3.6", 80, "still has its labels"),
    ],
)
def test_wrong(number, answer, sentence):
    feedback = check(number, answer)
    assert feedback.state == "wrong"
    assert sentence in feedback.message


@pytest.mark.parametrize("number", ["3.1", "3.2", "3.3", "3.4", "3.5", "3.6"])
def test_open(number):
    assert check(number, ...).state == "open"
