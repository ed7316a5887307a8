"""Checkers for the exercises of chapter 11."""

import math
from typing import Any

import torch
from torch import Tensor

from kdlib.course.checks import answers
from kdlib.course.checks.exercises import exercise


@exercise("11.1")
def overlapping_weights(answer: Any) -> str | None:
    slips = {
        576 * 96: "That is a full convolution; each part sees only two of the four.",
        576 * 96 / 4: "That is a grouped convolution; here each part sees its neighbour as well.",
        576 * 96 / 8: "Only one side is halved: each output channel sees half of the input channels.",
        3 * 576 * 96 / 4: "A part sees itself and *one* neighbour.",
        576 * 96 * 9 / 2: "It is a 1×1 convolution.",
        576 * 96 / 2 + 576: "There is no bias; batch norm follows.",
    }
    return answers.number(answer, 576 * 96 / 2, slips, "How many input channels does one output channel see?")


@exercise("11.2")
def soft_weight(answer: Any) -> str | None:
    slips = {
        0.5: "SoftTargets multiplies by T²; the program does not.",
        8.0: "The other way round: SoftTargets has T² inside already.",
        0.125: "The square: it multiplies by T², not by T.",
        0.5 / 8: "4² is 16.",
        0.5 / 256: "Both logits are divided by 4, and still it is T² that SoftTargets multiplies by.",
    }
    return answers.number(answer, 0.5 / 16, slips, "weight · T² must be the program's 0.5.")


@exercise("11.3")
def factor(answer: Any) -> str | None:
    for step, steps, floor in ((0, 80, 0.1), (76, 80, 0.1), (20, 80, 0.1), (80, 80, 0.1), (30, 90, 0.3)):
        value = float(answers.called(answer, step, steps, floor))
        right = _factor(step, steps, floor)
        if math.isclose(value, right, abs_tol=1e-6):
            continue
        half = (1 + math.cos(step * math.pi / steps)) / 2
        slips = {
            "The floor is 0.1 whatever is asked for.": _factor(step, steps, 0.1),
            "It ends at 0; shrink and lift it, so that it ends at the floor.": half,
            "It is lifted, but not shrunk: it starts above 1.": half + floor,
            "It is shrunk, but not lifted: it ends at 0.": half * (1 - floor),
            "That is a straight line; the cosine is slow at both ends.": 1 - (1 - floor) * step / steps,
            "It jumps to the floor; the source's factor is shrunk, not cut off.": max(half, floor),
            "The cosine is not halved: 1 + cos goes from 2 to 0.": 2 * half * (1 - floor) + floor,
            "That is a whole cosine; it comes back. Half of one ends at π.": (
                (1 + math.cos(2 * step * math.pi / steps)) / 2 * (1 - floor) + floor
            ),
        }
        for sentence, slip in slips.items():
            if math.isclose(value, slip, abs_tol=1e-6):
                return sentence
        return f"At step {step} of {steps}, with floor {floor}, it is {value:.4g} and should be {right:.4g}."
    return None


@exercise("11.4")
def three_gains(answer: Any) -> str | None:
    taught, alone = [0.50, 0.72, 0.81, 0.80, 0.76], [0.48, 0.77, 0.74, 0.66, 0.79]
    value = answers.result(answer, taught, alone, 2, shape=(3,))
    first, second = (torch.tensor(curve, dtype=torch.float64) for curve in (taught, alone))
    right = torch.stack(
        [first.max() - second.max(), first[-1] - second[-1], first[-2:].mean() - second[-2:].mean()]
    )
    if answers.same(value, right):
        return None
    if answers.same(value, -right):
        return "The sign is turned: with a teacher less without."
    if answers.same(value, 100 * right):
        return "The curves are fractions; leave the gains as fractions."
    slips = (
        (0, (first - second).max(), "The first is the largest difference; take each run's own best epoch."),
        (0, first.max() - second[first.argmax()], "The first reads both runs at the same epoch."),
        (2, first.mean() - second.mean(), "The third is the mean of all epochs; take the last n."),
        (2, first[:2].mean() - second[:2].mean(), "The third is the mean of the *first* n epochs."),
    )
    for place, slip, sentence in slips:
        if answers.same(value[place], slip):
            return sentence
    wrong = [name for name, ok in zip(_READINGS, value.isclose(right, atol=1e-6), strict=True) if not ok]
    return f"Look again at the gain by {wrong[0]}."


@exercise("11.5")
def mask(answer: Any) -> str | None:
    value = answers.result(answer, 8, 16, shape=(8, 16))
    own = torch.eye(4, dtype=torch.float64)
    slips = {
        "That is an ordinary grouped convolution; add the neighbour.": own,
        "The neighbour is the *next* part; yours is the one before.": own + own.roll(-1, dims=1),
        "The last part has a neighbour too: the first.": own + torch.diag(torch.ones(3), 1).double(),
        "That is a full convolution.": torch.ones(4, 4, dtype=torch.float64),
        "A part sees itself as well as its neighbour.": own.roll(1, dims=1),
        "A part has one neighbour, and yours has two.": own + own.roll(1, dims=1) + own.roll(-1, dims=1),
    }
    otherwise = "There are other numbers than 0 and 1 in it."
    if bool(((value == 0) | (value == 1)).all()):
        otherwise = (
            f"It has {int(value.sum())} ones where there are {8 * 16 // 2} weights, or they are elsewhere."
        )
    blocks = {sentence: _blocks(quarters) for sentence, quarters in slips.items()}
    return answers.compared(value, _blocks(own + own.roll(1, dims=1)), blocks, otherwise)


@exercise("11.6")
def the_same_total_rate(answer: Any) -> str | None:
    points = float(answer)
    if 0 < abs(points) < 0.08:
        return f"{points:.3g} looks like a fraction; in points it is a hundred times that."
    if points < -10:
        return (
            f"{points:.1f} points is the gap at the same first rate; divide 0.0001 by 0.55, it gets larger."
        )
    if points > 10:
        return f"{points:.1f} points are too many; take off those of the constant rate, 1e-4/without."
    return None


_READINGS = ("best epochs", "the last epoch", "the mean of the last n epochs")


def _factor(step: int, steps: int, floor: float) -> float:
    return (1 + math.cos(step * math.pi / steps)) / 2 * (1 - floor) + floor


def _blocks(quarters: Tensor) -> Tensor:
    return quarters.repeat_interleave(2, dim=0).repeat_interleave(4, dim=1)
