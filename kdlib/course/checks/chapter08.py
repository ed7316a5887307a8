"""Checkers for the exercises of chapter 8."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from kdlib import losses
from kdlib.course.checks import answers
from kdlib.course.checks.exercises import exercise


@exercise("8.1")
def surer_teacher(answer: Any) -> str | None:
    odds = 0.6 / 0.4
    slips = {
        1
        / (1 + odds * math.exp(10)): "The 10 goes through the temperature too: the odds grow by exp(10 / 4).",
        1 / (1 + odds * math.exp(40)): "Divide the 10 by the temperature; you multiplied.",
        1 - 1 / (1 + odds * math.exp(2.5)): "That is the probability of the label; the weight is the rest.",
        0.4
        * math.exp(-2.5): "Close: the probabilities still have to sum to 1. Multiply the odds, not 1 − p.",
        0.4: "That is the weight before anything was added.",
        1 / (1 + odds / math.exp(2.5)): "The label's odds grow; you made them smaller.",
    }
    return answers.number(
        answer, 1 / (1 + odds * math.exp(2.5)), slips, "Write down the odds of the label before and after."
    )


@exercise("8.2")
def others_part(answer: Any) -> str | None:
    student, teacher, labels = _logits(0), _logits(1), torch.tensor([0, 2, 4, 1, 3, 2])
    value = answers.result(answer, student, teacher, labels, 3.0, shape=())
    right = _others(student, teacher, labels, 3.0)
    weight = 1 - losses.softened(teacher, 3.0).gather(1, labels[:, None])[:, 0]
    slips = {
        "T² is in; the exercise asks for the bare divergence.": 9 * right.mean(),
        "You summed over the images; take the mean.": right.sum(),
        "You divided by the number of other classes as well; sum over classes, mean over images.": (
            right.mean() / (student.shape[1] - 1)
        ),
        "The factor 1 − p is still in it.": (weight * right).mean(),
        "Student and teacher have changed places: the teacher's probabilities weigh the logarithms.": (
            _others(teacher, student, labels, 3.0).mean()
        ),
        "The temperature has no effect; divide the logits by it.": _others(
            student, teacher, labels, 1.0
        ).mean(),
        "The label is still among the classes.": losses.soft_target_loss(student, teacher, 3.0) / 9,
    }
    otherwise = f"It gives {value:.4g} where the others' part is {right.mean():.4g}."
    if mistake := answers.compared(value, right.mean(), slips, otherwise):
        return mistake
    sure = teacher + 5000 * torch.nn.functional.one_hot(labels, teacher.shape[1])
    value = answers.result(answer, student, sure, labels, 3.0, shape=())
    if not answers.same(value, right.mean()):
        return (
            f"For a teacher that is sure of the label it gives {value:.4g}. There 1 − p rounds to 0; take "
            "the label out before the softmax."
        )
    return None


@exercise("8.3")
def forgiven(answer: Any) -> str | None:
    right = {"soft targets": {"a"}, "others' part": {"a", "c"}, "standardised": {"a", "b"}}
    if not isinstance(answer, Mapping) or set(answer) != set(right):
        raise TypeError(f"the answer is {answer!r}; give a dictionary with the keys {', '.join(right)}.")
    for loss, letters in right.items():
        given = {str(letter).strip().lower() for letter in answer[loss]}
        if not given <= set("abcd"):
            raise ValueError(f"{loss} has {', '.join(sorted(given - set('abcd')))}; give letters a to d.")
        for letter in sorted(given ^ letters):
            return f"Look at {letter} for {loss} again: {_CHANGES[letter]}"
    return None


@exercise("8.4")
def equal_weights(answer: Any) -> str | None:
    try:
        hard, soft = (float(value) for value in answer)
    except (TypeError, ValueError):
        raise TypeError(f"the answer is {answer!r}; give two numbers, (hard weight, soft weight).") from None
    if (hard, soft) == (1.0, 9.0):
        return None
    slips = {
        (1.0, 8.0): "You left out α: the teacher's part has the weights 1 and 8.",
        (0.1, 9.0): "The labels weigh 1 beside DKD, and 0.1 here.",
        (0.1, 0.9): "That is the recipe as it stands; its teacher's part weighs a tenth of DKD's.",
        (9.0, 1.0): "The order is hard weight, soft weight.",
        (0.1, 0.8): "The weights of DKD are 1 and 8, ten times as much.",
    }
    return slips.get(
        (hard, soft), "Add up what multiplies the teacher's part in DKD, and take over its hard weight."
    )


@exercise("8.5")
def dist_of_one(answer: Any) -> str | None:
    slips = {
        0.0: "0 would mean a perfect correlation; one value has no correlation at all.",
        2.0: "That is a correlation of −1; one value has none, and it counts as 0.",
        0.5: "There is nothing to average over.",
    }
    return answers.number(answer, 1.0, slips, "What is 1 − ρ when ρ counts as 0?")


@exercise("8.6")
def the_same_fifty_pictures(answer: Any) -> str | None:
    shifted, still = answers.measured(answer, "shifted", "as they are")
    if max(shifted, still) > 1:
        return "Give shares between 0 and 1; 0.9 is 90 %."
    if abs(shifted - still) < 0.015:
        return "The two are alike; `fit` shifts the images unless it is told augment=False."
    if shifted < still:
        return "The students without shifts cannot be ahead; have the two changed places?"
    if shifted < 0.915:
        return f"{shifted:.0%} with shifts is what the other teacher's students reach; let `unshifted` teach."
    return None


_CHANGES = {
    "a": "a constant in all logits cancels in a softmax, and is part of the mean that standardising removes.",
    "b": "a factor is like a temperature; what divides by the spread of the logits removes it.",
    "c": "only the label's logit has changed; who looks at it?",
    "d": "the most likely class has become the least likely.",
}


def _others(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """KL divergence among the other classes, one value per image."""
    rest = labels[:, None] != torch.arange(student.shape[1])
    log_q, log_p = (
        torch.log_softmax(z[rest].view(len(z), -1) / temperature, dim=1) for z in (student, teacher)
    )
    return (log_p.exp() * (log_p - log_q)).sum(dim=1)


def _logits(seed: int) -> Tensor:
    return 3 * torch.randn(6, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
