"""The checkers of chapter 99: right answers pass, and each plausible mistake is told by its own sentence."""

import math

import pytest
import torch.nn.functional as F
from torch import Tensor

from kdlib.course.checks import check


def divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    student, teacher = (F.log_softmax(z / temperature, dim=1) for z in (student, teacher))
    return (teacher.exp() * (teacher - student)).sum(dim=1)


@pytest.mark.parametrize(
    ("number", "answer"),
    [("99.1", math.log(2)), ("99.2", 2), ("99.3", divergence), ("99.4", 4.004)],
)
def test_right(number: str, answer: object) -> None:
    assert check(number, answer).state == "right", check(number, answer)


@pytest.mark.parametrize(
    ("number", "answer", "sentence"),
    [
        ("99.1", 1, "bits"),
        ("99.1", 0.5, "logarithm of their ratio"),
        ("99.1", -0.693, "never negative"),
        ("99.1", 0, "Only the class"),
        ("99.2", 32, "multiplied"),
        ("99.2", 4, "subtracted"),
        ("99.2", 8, "do change"),
        ("99.2", 3, "Divide the difference"),
        ("99.3", lambda s, t, T: -divergence(s, t, T), "never negative"),
        ("99.3", lambda s, t, T: divergence(t, s, T), "wrong way round"),
        ("99.3", lambda s, t, _: divergence(s, t, 1), "no effect"),
        ("99.3", lambda s, t, T: T**2 * divergence(s, t, T), "bare divergence"),
        ("99.3", lambda s, t, T: divergence(s, t, T) / 4, "sum over them"),
        ("99.3", lambda s, t, T: divergence(s, t, 1 / T), "should give"),
        ("99.3", lambda s, t, T: divergence(s, t, T).mean(), "shape"),
        ("99.4", 2, "logits are apart"),
        ("99.4", 0.25, "other way round"),
        ("99.4", 1, "cannot be alike"),
        ("99.4", 3.5, "the square"),
    ],
)
def test_wrong(number: str, answer: object, sentence: str) -> None:
    feedback = check(number, answer)
    assert feedback.state == "wrong"
    assert sentence in feedback.message


@pytest.mark.parametrize("number", ["99.1", "99.2", "99.3", "99.4"])
def test_open(number: str) -> None:
    assert check(number, ...).state == "open"
