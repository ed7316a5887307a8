"""Checkers for the exercises of chapter 13."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from kdlib import metrics
from kdlib.course.checks import answers
from kdlib.course.checks.exercises import exercise


@exercise("13.1")
def least_agreement(answer: Any) -> str | None:
    slips = {
        75: "Give a fraction: 0.75 for 75 %.",
        0.76: "That is both right if they err independently; the least is when they never err together.",
        0.77: "That is for independent errors; the least is when they never err together.",
        0.8: "That is when the teacher's mistakes are all among the student's; can they be elsewhere?",
        0.85: "That is the largest share on which both can be right or both wrong; look for the smallest.",
        0.25: "That is where one of the two is wrong; they agree on the others.",
        0.0: "Where both are right they agree, whether they want to or not.",
    }
    return answers.number(
        answer,
        0.75,
        slips,
        "On how many images can one of the two be wrong, at most? On the others both are right.",
    )


@exercise("13.2")
def error_consistency(answer: Any) -> str | None:
    labels = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2, 2])
    student = torch.tensor([0, 0, 1, 1, 1, 2, 2, 2, 0, 1])
    teacher = torch.tensor([0, 0, 2, 1, 0, 1, 2, 2, 2, 1])
    value = float(answers.called(answer, student, teacher, labels))
    a_s, a_t = _accuracy(student, labels), _accuracy(teacher, labels)
    chance = a_s * a_t + (1 - a_s) * (1 - a_t)
    alike = ((student == labels) == (teacher == labels)).double().mean().item()
    same = (student == teacher).double().mean().item()
    right = (alike - chance) / (1 - chance)
    slips = {
        alike: "That is the share that is alike; take off what chance gives, and divide by what was left.",
        alike - chance: "Divide by 1 − c₀, or it cannot reach 1.",
        (same - chance) / (1 - chance): (
            "You count images on which they name the same class. Two different mistakes are consistent too."
        ),
        (alike - a_s * a_t) / (1 - a_s * a_t): "c₀ lacks the images on which both are wrong.",
        (alike - chance) / chance: "Divide by 1 − c₀, not by c₀.",
    }
    return answers.number(
        value,
        right,
        slips,
        f"For accuracies of {a_s:.1f} and {a_t:.1f}, alike on {alike:.1f}, it should be {right:.3f}.",
    )


@exercise("13.3")
def overlooked(answer: Any) -> str | None:
    if isinstance(answer, str) or not isinstance(answer, Iterable):
        raise TypeError(f"the answer is {answer!r}; give a set of letters.")
    given = {str(letter).strip().lower() for letter in answer}
    if not given <= set(_CHANGES):
        raise ValueError(f"there is no {', '.join(sorted(given - set(_CHANGES)))}; give letters a to f.")
    for letter in sorted(given ^ {"a", "c", "d", "f"}):
        return f"Look at {letter} again: {_CHANGES[letter]}"
    return None


@exercise("13.4")
def fitted_temperature(answer: Any) -> str | None:
    for truth in (2.5, 0.4):
        logits, labels = _miscalibrated(truth)
        value = float(answers.called(answer, logits, labels))
        tried = torch.logspace(-1, 1, 2001).tolist()
        right = min(tried, key=lambda t: cross_entropy(logits / t, labels).item())
        lowest = min(tried, key=lambda t: metrics.expected_calibration_error(logits / t, labels))
        slips = {
            1 / right: "That is the factor to multiply the logits by; give the T that divides them.",
            1.0: "It leaves the logits as they are.",
            tried[0]: "That is the end of the range: do you look for the largest loss, or for accuracy?",
            tried[
                -1
            ]: "That is the end of the range: do you look for the largest loss, or for the flattest answer?",
            lowest: "That is where the ECE is smallest, which hangs on the bins; take the log-likelihood.",
        }
        if abs(value / right - 1) < 0.02:
            continue
        return answers.number(
            value,
            right,
            slips,
            f"For logits whose likelihood is best at T = {right:.2f} it gives {value:.2f}.",
        )
    return None


@exercise("13.5")
def seeds_needed(answer: Any) -> str | None:
    slips: dict[float, str] = {
        9: "That takes 1.96 for t. With so few seeds Student's t is larger, and depends on n.",
        11: "With 11 seeds half the width is 1.008, still above 1.0. (Is t taken for n − 1?)",
        3: "That is the number of seeds at which s / √n is below 1.0; the interval is t times as wide.",
        10: "With 10 seeds half the width is 1.07.",
        38: "That is for the whole width; the exercise asks for half of it.",
    }
    return answers.number(
        answer, 12, slips, "Try n = 2, 3, 4, … and take the first with t · 1.5 / √n below 1.0."
    )


@exercise("13.6")
def seeing_teacher(answer: Any) -> str | None:
    value = float(answer)
    if value > 1:
        return "Give a fraction, such as 0.5 for 50 %."
    if value < 0.55:
        return "So low a student had a teacher that never saw a moved image: fit it with augment=True."
    if value > 0.97:
        return "That is the teacher itself, or the accuracy on other images; take the student, on `moved`."
    return None


_CHANGES = {
    "a": "one factor for all features cancels between numerator and denominator.",
    "b": "a factor for one feature changes how far apart the images lie, and which are near each other.",
    "c": "the mean over images is taken out.",
    "d": "similarities between images do not know which feature is first.",
    "e": "row k of one must be the image of row k of the other.",
    "f": "each product of two features keeps its sign.",
}


def _accuracy(classes: Tensor, labels: Tensor) -> float:
    return (classes == labels).double().mean().item()


def _miscalibrated(temperature: float) -> tuple[Tensor, Tensor]:
    """Logits that are calibrated when divided by about this temperature."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(2000, 5, generator=generator, dtype=torch.float64)
    labels = torch.multinomial(logits.softmax(dim=1), 1, generator=generator)[:, 0]
    return temperature * logits, labels
