"""Checkers for the exercises of chapter 99."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlib.course.checks import answers
from kdlib.course.checks.exercises import exercise


@exercise("99.1")
def certain_teacher_undecided_student(answer: Any) -> str | None:
    slips = {
        1.0: "These are bits; for nats take the natural logarithm.",
        0.5: "That is the difference of the probabilities; take the logarithm of their ratio.",
        -math.log(2): "A divergence is never negative; in the ratio the teacher's probability comes first.",
    }
    hint = "Only the class that the teacher has counts: 1 · log(1 / ½)."
    return answers.number(answer, math.log(2), slips, hint)


@exercise("99.2")
def log_odds_at_four(answer: Any) -> str | None:
    slips = {
        32.0: "You multiplied; the logits are divided by the temperature.",
        4.0: "You subtracted the temperature; the logits are divided by it.",
        8.0: "They do change: both logits are divided by the temperature, and so is their difference.",
    }
    return answers.number(answer, 2.0, slips, "Divide the difference of the two logits by the temperature.")


@exercise("99.3")
def divergence_per_image(answer: Any) -> str | None:
    student, teacher = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    value = answers.result(answer, student, teacher, 3.0, shape=(6,))
    expected = _divergence(student, teacher, 3.0)
    slips = {
        "The sign is wrong: a divergence is never negative.": -expected,
        "You have student and teacher the wrong way round: the teacher's probabilities are the weights.": (
            _divergence(teacher, student, 3.0)
        ),
        "The temperature has no effect on the result; divide the logits by it.": (
            _divergence(student, teacher, 1.0)
        ),
        "You multiplied by T²; the exercise asks for the bare divergence.": 9 * expected,
        "This is the mean over classes; sum over them.": expected / 4,
    }
    for sentence, slip in slips.items():
        if answers.same(value, slip):
            return sentence
    if not answers.same(value, expected):
        return f"For the first image it gives {value[0]:.4g}, and should give {expected[0]:.4g}."
    return None


@exercise("99.4")
def twice_the_distance(answer: Any) -> str | None:
    slips = {
        2.0: "That is how much farther the logits are apart; divide the two losses.",
        0.25: "You divided the loss of the near student by that of the far one; take it the other way round.",
        1.0: "The two losses cannot be alike; look whether both were measured at the same distance.",
    }
    hint = "For small distances the loss grows with the square; take 0.001 and 0.002, in float64."
    return answers.number(answer, 4.0, slips, hint)


def _divergence(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    student, teacher = (F.log_softmax(z / temperature, dim=1) for z in (student_logits, teacher_logits))
    return (teacher.exp() * (teacher - student)).sum(dim=1)
