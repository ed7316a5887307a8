"""Checkers for the exercises of chapter 3."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from kdlib.course.checks import answers
from kdlib.course.checks.exercises import exercise
from kdlib.losses import soft_target_loss, softened


@exercise("3.1")
def two_missing_factors(answer: Any) -> str | None:
    slips = {
        16.0: "That is the missing T² alone; the default reduction also divides by the number of classes.",
        100.0: "That is the reduction alone; without T² the gradient is smaller still.",
        400.0: "You took T for T²; the bare gradient shrinks with the square.",
        1 / 1600: "That is how much too small the loss is; the weight has to make up for it.",
        25600.0: "You took T⁴; the factor in front of the divergence is T².",
        116.0: "You added the two factors; they multiply.",
        4.0: "You took T; the missing factor is T², and the default reduction adds another.",
    }
    hint = "Two factors are missing: T², and the number of classes that the default reduction divides by."
    return answers.number(answer, 1600.0, slips, hint)


@exercise("3.2")
def a_gradient_on_paper(answer: Any) -> str | None:
    value = answers.result(lambda: torch.as_tensor(answer, dtype=torch.float64), shape=(3,))
    difference = torch.tensor([-0.2, 0.1, 0.1], dtype=torch.float64)
    slips = {
        "The sign is wrong: raising the first logit lowers the loss, so its gradient is negative.": -2.0,
        "This is the gradient without T²: you still have the 1/T of the bare divergence.": 0.5,
        "A factor of T is missing: T² times 1/T leaves one T.": 1.0,
        "This is T² times the difference; the softmax's own 1/T takes one T away.": 4.0,
    }
    if answers.same(value, 2 * difference):
        return None
    for sentence, factor in slips.items():
        if answers.same(value, factor * difference):
            return sentence
    if abs(value.sum()) > 1e-6:
        return f"These sum to {value.sum():.3g}; both answers sum to 1, so the gradient sums to 0."
    return "Take the student's answer minus the teacher's, class by class, and multiply by T."


@exercise("3.3")
def the_loss_in_full(answer: Any) -> str | None:
    student, teacher = _logits()
    value = answers.result(answer, student, teacher, 3.0, shape=())
    right = soft_target_loss(student, teacher, 3.0)
    if answers.same(value, right):
        return _extreme_logits(answer)
    reverse = soft_target_loss(teacher, student, 3.0)
    unsoftened = soft_target_loss(student, teacher, 1.0)
    images, classes = student.shape
    slips = {
        "T² is missing: the gradient now shrinks as the temperature rises.": right / 9,
        "You multiply by T; the factor is T².": right / 3,
        "It is too small by the number of classes: average over images only (batchmean).": right / classes,
        "It is the sum over images; divide by their number.": right * images,
        "This is the reverse divergence, with the student first; swap the two.": reverse,
        "This is the cross-entropy; subtract the teacher's entropy, so that a perfect student gets 0.": (
            right + 9 * _entropy(teacher, 3.0)
        ),
        "The temperature is missing inside the softmax; divide both logits by it.": 9 * unsoftened,
        "The temperature has no effect on the result.": unsoftened,
    }
    for sentence, slip in slips.items():
        if answers.same(value, slip):
            return sentence
    if value < 0:
        return (
            f"It gives {value:.4g}, and KL is never negative: F.kl_div takes the student's log-probabilities."
        )
    return f"It gives {value:.4g} where {right:.4g} is right."


def _extreme_logits(answer: Callable[..., Any]) -> str | None:
    for gap, dtype in ((1e4, torch.float32), (50.0, torch.float16)):
        student, teacher = torch.tensor([[0, gap]], dtype=dtype), torch.tensor([[gap, 0]], dtype=dtype)
        value = answers.result(answer, student, teacher, 1.0, shape=())
        if not torch.isclose(value, torch.tensor(gap, dtype=torch.float64), rtol=1e-2):
            kind = str(dtype).removeprefix("torch.")
            return (
                f"Right for moderate logits, but for a gap of {gap:g} in {kind} it gives {value:.4g} "
                f"instead of {gap:g}; take log_softmax instead of the logarithm of a softmax."
            )
    return None


@exercise("3.4")
def a_loss_translated(answer: Any) -> str | None:
    hard, soft = answers.result(lambda: torch.as_tensor(answer, dtype=torch.float64), shape=(2,)).tolist()
    if abs(hard - 0.9) < 0.005:
        return "You read alpha as the weight of the labels; in this code it stands before the soft loss."
    if abs(hard - 0.1) > 0.0005:
        return f"The hard weight is {hard:g}; read off what stands before F.cross_entropy."
    slips = {
        0.9: "SoftTargets has T² inside and this code has not; divide the soft weight by T² = 9.",
        8.1: "You multiplied by T²; SoftTargets does that already, so the weight has to take it back.",
        0.3: "You divided by T; the factor inside SoftTargets is T² = 9.",
    }
    return answers.number(soft, 0.1, slips, "The soft weight times T² = 9 must come to 0.9.")


@exercise("3.5")
def the_floor_of_the_cross_entropy(answer: Any) -> str | None:
    _, teacher = _logits()
    value = answers.result(answer, teacher, 3.0, shape=())
    entropy = _entropy(teacher, 3.0)
    images, classes = teacher.shape
    slips = {
        "That is the floor of the KL; the cross-entropy also holds the teacher's entropy.": 0 * entropy,
        "The log has T² times the cross-entropy; your floor is without T².": entropy,
        "You multiply by T; the log has T² times the cross-entropy.": 3 * entropy,
        "The sign is wrong: an entropy is never negative.": -9 * entropy,
        "Average over images, but sum over classes.": 9 * entropy / classes,
        "Average over images; this is their sum.": 9 * entropy * images,
        "This is the entropy at T = 1; soften the teacher's answer first.": 9 * _entropy(teacher, 1.0),
        "This is the entropy of an even answer; only a teacher that knows nothing has that.": (
            9 * _entropy(0 * teacher, 1.0)
        ),
    }
    otherwise = (
        f"It gives {value:.4g} where {9 * entropy:.4g} is right; which student reaches the lowest value?"
    )
    return answers.compared(value, 9 * entropy, slips, otherwise)


@exercise("3.6")
def the_cost_of_a_quiet_teacher(answer: Any) -> str | None:
    points = float(answer)
    if 0 < abs(points) < 1:
        return f"{points:.3g} looks like a fraction; in points it is a hundred times that."
    if points <= -1:
        return "The quiet teacher's student cannot be ahead; subtract its accuracy from the other's."
    if points < 4:
        return f"{points:.1f} points are too few; both factors are missing there, 16 and 10: 0.9 / 160."
    if points > 50:
        return f"{points:.0f} points are too many; the second student still has its labels, at weight 0.1."
    return None


def _logits() -> tuple[Tensor, Tensor]:
    """Student and teacher on six images of four classes."""
    student, teacher = 3 * torch.randn(
        2, 6, 4, generator=torch.Generator().manual_seed(8), dtype=torch.float64
    )
    return student, teacher


def _entropy(logits: Tensor, temperature: float) -> Tensor:
    """Mean entropy of the softened answers, in nats."""
    probabilities = softened(logits, temperature)
    return -torch.xlogy(probabilities, probabilities).sum(dim=1).mean()
