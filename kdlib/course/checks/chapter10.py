"""Checkers for the exercises of chapter 10."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from kdlib.course.checks import answers
from kdlib.course.checks.exercises import exercise


@exercise("10.1")
def same_pictures(answer: Any) -> str | None:
    error = 100 * math.sqrt(0.11 / 10_000)
    slips = {
        1 - error: "That is one standard error below; the interval takes 1.96.",
        1 + 1.96 * error: "That is the upper end.",
        1.96 * error: "That is half the width of the interval; take it off the difference.",
        1
        - 1.96 * 100 * math.sqrt(0.01 / 10_000): "d is the share that exactly one reads, not the difference.",
        1 - 1.96 * 100 * math.sqrt(0.06 / 10_000): "The 500 that only the second reads belong to d as well.",
        0.01 - 1.96 * error / 100: "That is a fraction; give points.",
        1.0: "That is the difference itself.",
    }
    return answers.number(
        answer,
        1 - 1.96 * error,
        slips,
        "Difference in points, minus 1.96 times 100 √(d / N), with N = 10,000.",
    )


@exercise("10.2")
def another_alpha(answer: Any) -> str | None:
    slips = {
        0.7: "That would be right if the other program had T² too.",
        0.3: "The other α is the weight of the labels, and the other program has no T².",
        0.7 * 25 / (0.7 * 25 + 0.3): "The report's loss has the 25 inside already; divide by it.",
        0.3 / (0.3 + 0.7 * 25): "That is the weight of the labels, and with T² where it is not.",
        0.7 / (0.7 + 0.3 * 5): "T² is 25.",
        0.028: "The proportion has to be right: the labels weigh 1 − α, and not 0.3.",
        0.7 / 0.3 / 25: "That is α / (1 − α).",
    }
    return answers.number(
        answer, 0.7 / (0.7 + 0.3 * 25), slips, "Set 25 α / (1 − α) equal to the other program's 0.7 / 0.3."
    )


@exercise("10.3")
def regressed_features(answer: Any) -> str | None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 4, 2, 2), (5, 6, 1, 1)]
    student = [torch.randn(2, s, h, w, generator=generator, dtype=torch.float64) for s, _, h, w in shapes]
    teacher = [
        torch.randn(2, t, h, w, generator=generator, dtype=torch.float64, requires_grad=True)
        for _, t, h, w in shapes
    ]
    regressors = [_regressor(s, t, generator) for s, t, _, _ in shapes]
    loss = answers.called(answer, student, teacher, regressors)
    if not isinstance(loss, Tensor) or loss.shape != ():
        raise TypeError(f"the function returns {loss!r}; return a tensor with one number.")
    gaps = [r(s) - t for r, s, t in zip(regressors, student, teacher, strict=True)]
    right = torch.stack([gap.square().mean() for gap in gaps]).sum()
    slips = {
        "You took the mean over the layers; the report sums.": right / 2,
        "You summed the squares; the error is their mean.": torch.stack(
            [g.square().sum() for g in gaps]
        ).sum(),
        "You summed over all but the images; `F.mse_loss` takes the mean over everything.": (
            torch.stack([g.square().sum() / len(g) for g in gaps]).sum()
        ),
        "Only the last layer is in it.": gaps[-1].square().mean(),
        "Only the first layer is in it.": gaps[0].square().mean(),
        "The weight β is in it; the exercise asks for the sum.": 0.1 * right,
    }
    otherwise = f"It gives {loss:.4g} where the sum of the errors is {right:.4g}."
    mistake = answers.compared(loss.detach(), right, slips, otherwise)
    return mistake or _gradients_are_wrong(loss, teacher, regressors)


@exercise("10.4")
def silent_shapes(answer: Any) -> str | None:
    if isinstance(answer, str) or not hasattr(answer, "__iter__"):
        raise TypeError(f'the answer is {answer!r}; give a set of letters, such as {{"a", "b"}}.')
    given = {str(letter).strip().lower() for letter in answer}
    if not given <= set("abcde"):
        raise ValueError(f"the answer has {', '.join(sorted(given - set('abcde')))}; give letters a to e.")
    reasons = {
        "a": "one channel is repeated 256 times without a word.",
        "b": "neither 64 nor 256 is 1, so that nothing can be repeated, and it raises.",
        "c": "a single place is repeated over 4 by 4.",
        "d": "a missing dimension in front is filled in, and the one row is compared with all 8.",
        "e": "2 is not 1; it is not repeated, and it raises.",
    }
    for letter in sorted(given ^ set("acd")):
        return f"Look at {letter} again: {reasons[letter]}"
    return None


@exercise("10.5")
def choose_then_report(answer: Any) -> str | None:
    found = {"T = 2": _share(6, 7), "T = 4": _share(9, 5), "T = 8": _share(7, 9)}
    try:
        setting, accuracy = answers.called(answer, found)
        accuracy = float(accuracy)
    except (TypeError, ValueError):
        raise TypeError("the function should return a setting and a number.") from None
    slips = {
        ("T = 8", 0.9): "The test images have chosen; they are only to judge.",
        ("T = 4", 0.9): "That is the validation accuracy, by which the setting was chosen.",
        ("T = 4", 0.9 / 2 + 0.5 / 2): "That is over both kinds of images; report the test images alone.",
        ("T = 4", 5.0): "That is a number of images; give a fraction.",
        ("T = 2", 0.7): "That is the worst on the validation images.",
    }
    for (name, value), sentence in slips.items():
        if setting == name and math.isclose(accuracy, value, abs_tol=1e-6):
            return sentence
    if setting != "T = 4":
        return f"It chooses {setting!r}; the best on the validation images is 'T = 4'."
    if not math.isclose(accuracy, 0.5, abs_tol=1e-6):
        return f"It reports {accuracy:.4g}; on the test images 'T = 4' gets 0.5 right."
    return None


@exercise("10.6")
def images_to_choose_by(answer: Any) -> str | None:
    few, some, many = answers.measured(answer, 30, 100, 300)
    if max(few, some, many) <= 0:
        return "Choosing flatters; subtract the lead on the other images from the lead where it was chosen."
    if few < 0.1:
        return f"{few:.3g} by 30 images looks like a fraction; in points it is a hundred times that."
    if few == some == many:
        return "All three are the same; choose on order[:images] and judge on order[images:]."
    if not few > some > many:
        return "The more images choose, the less is luck; have the keys changed places, or the two parts?"
    if few < 2 * many:
        return f"{few:.2f} and {many:.2f} points are too near; take off the lead on the other images."
    return None


def _share(validation: int, test: int) -> tuple[Tensor, Tensor]:
    """So many of ten images right."""
    return torch.arange(10) < validation, torch.arange(10) < test


def _regressor(student: int, teacher: int, generator: torch.Generator) -> nn.Conv2d:
    layer = nn.Conv2d(student, teacher, 1, bias=False, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(teacher, student, 1, 1, generator=generator, dtype=torch.float64))
    return layer


def _gradients_are_wrong(loss: Tensor, teacher: list[Tensor], regressors: list[nn.Conv2d]) -> str | None:
    if not loss.requires_grad:
        return "The value is right, but no gradient reaches the regressors; they have to learn too."
    loss.backward()
    if any(features.grad is not None for features in teacher):
        return "The value is right, but a gradient reaches the teacher's features; detach them."
    if any(layer.weight.grad is None for layer in regressors):
        return "The value is right, but no gradient reaches the regressors; they have to learn too."
    return None
