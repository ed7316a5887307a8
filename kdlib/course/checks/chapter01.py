"""Checkers for the exercises of chapter 1."""

import math
import statistics
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kdlib.course.checks import answers
from kdlib.course.checks.exercises import exercise

_T_OF_FOUR = 3.182


@exercise("1.1")
def how_often_the_teacher_answers(answer: Any) -> str | None:
    slips = {
        50.0: "That is the number of labels; the teacher answers anew each time an image is shown.",
        80.0: "That is the number of epochs; in each of them every image is shown once.",
        160.0: "That is the number of batches; each of them holds 25 images.",
        2000.0: "You multiplied epochs by the batch size; an epoch has two batches of 25.",
        40000.0: "You counted the ten numbers of each answer; one answer is one picture's.",
    }
    return answers.number(
        answer, 4000.0, slips, "Count how often any image is shown: every image, once in every epoch."
    )


@exercise("1.2")
def weights_of_a_convnet(answer: Any) -> str | None:
    for width in (1, 8, 32):
        value = float(answers.called(answer, width))
        slips: dict[float, str] = {
            90 * width**2
            + 49 * width
            + 10: "The batch norms are missing: two weights for each of w + 2w + 4w channels.",
            90 * width**2 + 56 * width + 10: "A batch norm has two weights a channel, a scale and a shift.",
            90 * width**2 + 63 * width: "The linear layer's bias is missing, one weight a class.",
            90 * width**2 + 70 * width + 10: "You gave the convolutions a bias; they have none.",
            10 * width**2
            + 55 * width
            + 10: "A convolution has nine weights for each pair of channels, not one.",
            36 * width**2 + 63 * width + 10: "From 2w to 4w channels there are 9 · 2w · 4w weights.",
        }
        if value in slips:
            return slips[value]
        right = 90 * width**2 + 63 * width + 10
        if value != right:
            return f"For width {width} it gives {value:g}; the network has {right:,} weights."
    return None


@exercise("1.3")
def paired_interval(answer: Any) -> str | None:
    taught, alone = [0.94, 0.90, 0.93, 0.95], [0.83, 0.78, 0.83, 0.85]
    value = answers.called(answer, taught, alone)
    if not (isinstance(value, Sequence) and len(value) == 2):
        raise TypeError(f"the function returns {value!r}; return two numbers, the low and the high end.")
    low, high = (float(end) for end in value)
    differences = [t - a for t, a in zip(taught, alone, strict=True)]
    mean, deviation = statistics.fmean(differences), statistics.stdev(differences)
    unpaired = math.sqrt(statistics.variance(taught) + statistics.variance(alone))
    slips = {
        1.0: None,
        2.0: "You left out the square root of n: the mean of four scatters half as much as one of them.",
        unpaired / deviation: (
            "This is the interval of two unpaired groups; take the difference for each seed first, and then "
            "the standard deviation of the differences."
        ),
        math.sqrt(
            3 / 4
        ): "You divided the squares by n; the sample standard deviation divides them by n - 1.",
        0.5: "You divided by n; the standard deviation of a mean falls with the square root of n.",
        1.96 / _T_OF_FOUR: "You took 1.96, which is for many seeds; for four, t is 3.182.",
    }
    if math.isclose((low + high) / 2, -mean, rel_tol=1e-3):
        return "You subtracted the taught from those alone; the gain is taught minus alone."
    if not math.isclose((low + high) / 2, mean, rel_tol=1e-3):
        return (
            f"The interval's middle is {(low + high) / 2:.4g}; it should be the mean difference, {mean:.4g}."
        )
    margin = (high - low) / 2
    if margin < 0:
        return "The low end is above the high end; return them in the other order."
    for factor, sentence in slips.items():
        if math.isclose(margin, factor * _T_OF_FOUR * deviation / 2, rel_tol=0.005):
            return sentence
    return (
        f"The interval reaches {margin:.4g} to either side; it should reach {_T_OF_FOUR * deviation / 2:.4g}."
    )


@exercise("1.4")
def doubt_without_a_second_choice(answer: Any) -> str | None:
    if not isinstance(answer, nn.Module):
        raise TypeError(f"the answer is {type(answer).__name__}; give the module, built on the teacher.")
    teacher = answer.get_submodule("teacher")
    images = torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        batch = images.to(next(teacher.parameters()))
        expected, value = teacher.eval()(batch), answer.eval()(batch)
    logits, expected = answers.result(lambda: value, shape=expected.shape).cpu(), expected.cpu().double()
    if not logits.isfinite().all():
        return "Some logits are not finite; take the logarithm of probabilities above 0."
    if (logits >= 0).all() and torch.allclose(logits.sum(dim=1), torch.ones(64).double(), atol=1e-3):
        return "You return probabilities; a student takes the softmax of what it gets, so return 4 · log p."
    if (logits.argmax(dim=1) != expected.argmax(dim=1)).any():
        return "It names another class on some images; the largest probability goes to the teacher's class."
    return _compare_doubt((logits / 4).softmax(dim=1), expected)


def _compare_doubt(p: Tensor, teacher_logits: Tensor) -> str | None:
    """Whether the largest probability is the teacher's at temperature 4, and the others are even."""
    largest, at_4, at_1 = (
        each.max(dim=1).values
        for each in (p, (teacher_logits / 4).softmax(dim=1), teacher_logits.softmax(dim=1))
    )
    others = p.scatter(1, p.argmax(dim=1, keepdim=True), -1.0)
    even = torch.where(others < 0, others.max(dim=1, keepdim=True).values, others)
    if not torch.allclose(even.amin(dim=1), even.amax(dim=1), atol=1e-4):
        return "The other nine do not have the same probability; spread what is left evenly over them."
    if torch.allclose(largest, at_4, atol=1e-3):
        return None
    if torch.allclose(largest, at_1, atol=1e-3):
        return "You kept the largest probability at temperature 1; soften with 4 first."
    if torch.allclose(largest, torch.ones_like(largest), atol=1e-3):
        return "It has no doubt at all; keep the teacher's probability of its class at temperature 4."
    return (
        f"At temperature 4 its class has {largest[0]:.2f} on the first image, and the teacher gives "
        f"{at_4[0]:.2f}; the student divides by 4, so the logits are four times the logarithms."
    )


@exercise("1.5")
def gain_against_labels(answer: Any) -> str | None:
    if not (isinstance(answer, dict) and set(answer) == {20, 200}):
        raise TypeError(f"the answer is {answer!r}; give a dict with the gain for 20 and for 200.")
    few, many = float(answer[20]), float(answer[200])
    if few < 0 and few < many:
        return "The gain is negative; subtract those alone from the taught."
    if max(abs(few), abs(many)) < 1:
        return f"A gain of {few:.3g} looks like a fraction; in points it is a hundred times that."
    if abs(few) > 90:
        return f"A gain of {few:.3g} points cannot be; take the mean of two differences in per cent."
    if few <= many:
        return (
            f"You found {few:.1f} points with 20 images and {many:.1f} with 200; over four seeds or more the "
            "gain with 20 comes out larger, so look whether each pair is trained on images of that size."
        )
    return None
