"""Checkers for the exercises of chapter 2."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlib.course.checks import answers
from kdlib.course.checks.exercises import exercise
from kdlib.losses import softened


@exercise("2.1")
def the_root_of_the_odds(answer: Any) -> str | None:
    slips = {
        75.0: "Right as a percentage; give it as a number between 0 and 1.",
        0.9: "That is the answer at T = 1; at T = 2 the log-odds are half as large.",
        0.45: "You halved the probability; the temperature divides the logits, and so takes a root of odds.",
        math.sqrt(
            0.9
        ): "You took the root of the probability and forgot to normalise: the two roots sum to 1.26.",
        81
        / 82: "You squared the odds, which is what T = 1/2 does; a temperature above 1 makes them smaller.",
        0.5: "That is the limit of a very high temperature; at T = 2 the odds are not yet even.",
        0.25: "That is what the 8 gets.",
    }
    hint = "The odds are 9 to 1 at T = 1; take their square root, then turn odds into a probability."
    return answers.number(answer, 0.75, slips, hint)


@exercise("2.2")
def three_times_the_logits(answer: Any) -> str | None:
    slips = {
        4.0: "At the same temperature the louder teacher is the sharper one: its log-odds are larger.",
        4 / 3: "You divided by 3, which makes the louder teacher 9 times as sharp; it needs more heat.",
        7.0: "You added 3; the logits were multiplied, and only logits divided by T enter the softmax.",
        36.0: "You multiplied by 3 twice; the logits enter the softmax once, not squared.",
    }
    return answers.number(answer, 12.0, slips, "Only z / T enters the softmax: solve 3 z / T = z / 4 for T.")


@exercise("2.3")
def only_the_wrong_classes(answer: Any) -> str | None:
    logits, labels = _logits(), torch.tensor([0, 3, 1, 2, 2, 0])
    value = answers.result(answer, logits, labels, 3.0, shape=logits.shape)
    true_class = F.one_hot(labels, logits.shape[1]).bool()
    if answers.same(value, _without(logits, labels, 3.0)):
        return _sure_teacher(answer)
    if answers.same(value, _without(logits, logits.argmax(dim=1), 3.0)):
        return "You drop the class that the teacher likes best; drop the label, also where the teacher errs."
    if value[true_class].abs().max() > 1e-6:
        return "The true class still has probability; it should have exactly 0."
    if not answers.same(value.sum(dim=1), torch.ones(len(value))):
        return f"The first row sums to {value[0].sum():.3g}; divide by what is left, so that it sums to 1."
    if answers.same(value, _without(logits, labels, 1.0)):
        return "The temperature has no effect on the result; divide the logits by it."
    if answers.same(value, _without(logits, labels, 1 / 3)):
        return "You multiply the logits by the temperature; divide."
    return "The proportions of the wrong classes are not right: p_a / p_b should be exp((z_a - z_b) / T)."


def _sure_teacher(answer: Callable[..., Any]) -> str | None:
    logits, labels = torch.tensor([[1000.0, 2.0, 1.0]]), torch.tensor([0])
    value = answers.result(answer, logits, labels, 1.0, shape=(1, 3))
    if answers.same(value, _without(logits, labels, 1.0)):
        return None
    return (
        "Right for moderate logits, but not where the teacher is very sure: "
        f"for logits 1000, 2, 1 it gives {[round(x, 3) for x in value[0].tolist()]}; "
        "leave the true class out before the softmax."
    )


@exercise("2.4")
def entropy_without_overflow(answer: Any) -> str | None:
    logits = _logits()
    value = answers.result(answer, logits, 3.0, shape=logits.shape[:1])
    entropy = _entropy(logits, 3.0)
    slips = {
        "The sign is wrong: an entropy is never negative.": -entropy,
        "These are bits; for nats take the natural logarithm.": entropy / math.log(2),
        "The temperature has no effect on the result; divide the logits by it.": _entropy(logits, 1.0),
        "You multiply the logits by the temperature; divide.": _entropy(logits, 1 / 3),
        "This is the mean over classes; sum over them.": entropy / logits.shape[1],
    }
    for sentence, slip in slips.items():
        if answers.same(value, slip):
            return sentence
    if not answers.same(value, entropy):
        return f"For the first row it gives {value[0]:.4g} nats, and should give {entropy[0]:.4g}."
    large = torch.tensor([[1000.0, -1000.0], [1000.0, 1000.0]])
    value = answers.result(answer, large, 1.0, shape=(2,))
    if not answers.same(value, torch.tensor([0.0, math.log(2)])):
        return (
            f"Right for moderate logits, but for 1000 and -1000 it gives {value[0]:.3g} and should give 0; "
            "a probability there rounds to 0, and its logarithm is infinite."
        )
    return None


@exercise("2.5")
def the_temperature_for_an_entropy(answer: Any) -> str | None:
    logits = _logits()[0]
    for scale in (1.0, 50.0, 0.02):
        for target in (0.2, 0.7, 1.2):
            mistake = _temperature_for(answer, scale * logits, target)
            if mistake:
                return mistake if scale == 1.0 else f"With logits {scale:g} times as large: {mistake}"
    return None


@exercise("2.6")
def a_doubting_teacher(answer: Any) -> str | None:
    value = float(answer)
    if not value > 0:
        return f"You gave {value:g}; a temperature is above 0."
    if value < 0.25:
        return f"{value:g} is too cold; look for the T with the smallest NLL, not the largest."
    if 0.95 <= value <= 1.3:
        return (
            "That calibrates a teacher trained without smoothing; take the validation logits of the new one."
        )
    if value > 1.3:
        return "Above 1 the answers get softer still, and this teacher doubts too much already."
    return None


def _temperature_for(answer: Any, logits: Tensor, target: float) -> str | None:
    temperature = float(answers.called(answer, logits, target))
    if not (math.isfinite(temperature) and temperature > 0):
        return f"For {target} nats it returns T = {temperature}; a temperature is above 0 and finite."
    reached, colder, hotter = (_entropy(logits[None], f * temperature).item() for f in (1, 1 / 1.001, 1.001))
    if colder <= target <= hotter:
        return None
    if abs(reached / math.log(2) - target) < 0.002:
        return f"At T = {temperature:.4g} the entropy is {target} bits; the target is in nats."
    side = "too cold" if reached < target else "too hot"
    return f"At T = {temperature:.4g} the entropy is {reached:.4g} nats, not {target}: this is {side}."


def _logits() -> Tensor:
    """Six answers over four classes; for labels 0, 3, 1, 2, 2, 0 the teacher errs on some."""
    return 3 * torch.randn(6, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def _without(logits: Tensor, classes: Tensor, temperature: float) -> Tensor:
    chosen = F.one_hot(classes, logits.shape[1]).bool()
    return softened(logits.masked_fill(chosen, -torch.inf), temperature)


def _entropy(logits: Tensor, temperature: float) -> Tensor:
    probabilities = softened(logits, temperature)
    return -torch.xlogy(probabilities, probabilities).sum(dim=1)
