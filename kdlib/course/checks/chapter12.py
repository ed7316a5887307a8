"""Checkers for the exercises of chapter 12."""

import math
import statistics
from typing import Any

import torch
from torch import Tensor

from kdlib.course.checks import answers
from kdlib.course.checks.exercises import exercise


@exercise("12.1")
def translated_alpha(answer: Any) -> str | None:
    slips = {
        0.1: "In Lab 5 α is the weight of the teacher, and here that of the labels.",
        0.5: "0.5 would mean the same in both; 0.1 does not.",
        10.0: "Not the inverse: the two weights add up to 1.",
    }
    return answers.number(answer, 0.9, slips, "What weight do the labels have in Lab 5's loss?")


@exercise("12.2")
def smallest_n(answer: Any) -> str | None:
    # Of 3 accuracies on 7 images: 11 of 21 right; it is no mean of 1 or 2, and six decimals tell.
    for printed, images, right in ((11 / 21, 7, 3), (0.5, 10, 1), (0.945359, 153, None), (0.123457, 2, 81)):
        value = round(printed, 6)
        expected = _smallest(value, images) if right is None else right
        given = answers.called(answer, value, images)
        if given == expected:
            continue
        where = f"For {value} and {images} images it gives {given!r}"
        if given is None:
            return f"{where}, where {expected} fits. Compare after rounding to six decimals."
        if not isinstance(given, int):
            raise TypeError(f"the function returns {given!r}; return a whole number, or None.")
        if given < expected:
            return f"{where}. That mean would be printed with other decimals; compare all six."
        if given == _smallest(value, 1):
            return f"{where}. That is how many *answers* fit; each accuracy is of {images} images."
        if _fits(value, images, given):
            return f"{where}. That fits, but {expected} does too; start with the smallest."
        return f"{where}, where {expected} fits. The right answers are the mean times images times n."
    if answers.called(answer, 0.000001, 2) is not None:
        return "One right answer in a million cannot come from 400 images; return None there."
    return None


@exercise("12.3")
def spread(answer: Any) -> str | None:
    curves = [[0.50, 0.70, 0.94], [0.60, 0.93, 0.90], [0.40, 0.90, 0.95]]
    value = float(answers.called(answer, curves))
    last = [curve[-1] for curve in curves]
    heap = [accuracy for curve in curves for accuracy in curve]
    slips = {
        statistics.stdev(heap): "That is the spread over everything: the way up is in it.",
        statistics.pstdev(heap): "That is the spread over everything: the way up is in it.",
        statistics.pstdev(last): "You divided by n; a sample of runs needs n − 1.",
        statistics.variance(last): "That is the variance; take its root.",
        statistics.stdev(map(max, curves)): "That is the best epoch of each run; take the last.",
        statistics.stdev(
            map(statistics.fmean, curves)
        ): "You averaged each curve first; take its last value.",
        statistics.stdev(last) / math.sqrt(3): "That is the standard error of the mean; do not divide by √n.",
        statistics.fmean(map(statistics.stdev, curves)): (
            "That is the spread within each run; it should be between runs."
        ),
    }
    return answers.number(value, statistics.stdev(last), slips, "Take the last value of each curve first.")


@exercise("12.4")
def parts(answer: Any) -> str | None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 6, 2, generator=generator, dtype=torch.float64)
    value = answers.result(answer, student, teacher, shape=(2,))
    right = _parts(student, teacher)
    if answers.same(value, right):
        return None
    if answers.same(value, right.flip(0)):
        return "The order is the part of the difference, then the part of the mean."
    if answers.same(value, torch.stack([4 * right[0], right[1]])):
        return "The two do not add up to the loss: the square of the difference has a factor."
    if answers.same(value, 6 * right):
        return "You summed over the images; take the mean."
    if not answers.same(value.sum(), right.sum()):
        return f"The parts add up to {value.sum():.4g}, and the loss is {right.sum():.4g}."
    return "They add up to the loss, but are not the parts of d and m. Write z₀ and z₁ by d and m."


@exercise("12.5")
def enough_images(answer: Any) -> str | None:
    right = math.ceil(0.94 * 0.06 / 0.0025**2)
    slips = {
        0.94 * 0.06 / 0.01**2: "That makes the standard deviation one point; it should be a quarter of one.",
        math.sqrt(0.94 * 0.06) / 0.0025: "The number of images is under the root as well; square.",
        0.94 / 0.0025**2: "The variance of one answer is p (1 − p).",
        0.94 * 0.06 / 0.0025: "Square the standard deviation.",
        0.94 * 0.06 / 0.25**2: "A quarter of a point is 0.0025.",
        2 * 0.94 * 0.06 / 0.0025**2: "That is for the difference of two accuracies; one was asked for.",
        0.25 / 0.0025**2: "That is for an accuracy of one half.",
    }
    return answers.number(answer, right, slips, "Solve √(p (1 − p) / n) = 0.0025 for n.")


@exercise("12.6")
def whispering_teacher(answer: Any) -> str | None:
    loud, quiet = answers.measured(answer, "as it is", "an eighth")
    if max(loud, quiet) > 1:
        return "Give shares between 0 and 1, as they stand in the curves."
    if loud == quiet:
        return "Both eights have had the same target; give the second one zt / 8."
    if loud < quiet:
        return "The louder teacher's students are the faster ones; have the two changed places?"
    if loud - quiet < 0.015:
        return "The two are nearly level; ask after epoch 7, at the rate 0.001 and alpha 0."
    if quiet < 0.7:
        return f"{quiet:.0%} is too low; divide the sum of the eight accuracies by 8, and take curve[6]."
    return None


def _fits(printed: float, images: int, n: int) -> bool:
    return f"{round(printed * images * n) / (images * n):.6f}" == f"{printed:.6f}"


def _smallest(printed: float, images: int) -> int:
    return next(n for n in range(1, 1000) if _fits(printed, images, n))


def _parts(student: Tensor, teacher: Tensor) -> Tensor:
    error = student - teacher
    difference, mean = error[:, 1] - error[:, 0], error.mean(dim=1)
    return torch.stack([difference.square().mean() / 4, mean.square().mean()])
