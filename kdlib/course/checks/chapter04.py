"""Checkers for the exercises of chapter 4."""

from typing import Any

import torch
from torch import Tensor

from kdlib.course.checks import answers
from kdlib.course.checks.exercises import exercise


@exercise("4.1")
def matching_weight(answer: Any) -> str | None:
    right = 0.5 / 20**2
    slips = {
        0.5: "That is with the factor T², which this program has not.",
        2 * right: "The limit is not the logit loss itself, but half of it.",
        4 * right: "It is the other way round: the soft-target loss becomes half of the logit loss.",
        20 * right: "Without T² the gradient shrinks with 1/T², not with 1/T.",
        0.5 * 20**2: "Without T² the gradient is smaller, not larger; divide by T².",
        right / 101: "You divided by the classes; the logit loss is a mean over them already.",
        right * 101: "You multiplied by the classes; the logit loss is a mean over them already.",
        0.0: "It is small, but not nothing: compare the two losses in the limit.",
    }
    return answers.number(
        answer, right, slips, "Compare the two losses in the limit: one is a multiple of the other."
    )


@exercise("4.2")
def choose_then_report(answer: Any) -> str | None:
    val = {1: [0.84, 0.85, 0.83], 2: [0.90, 0.91, 0.95], 4: [0.93, 0.94, 0.92], 8: [0.92, 0.90, 0.91]}
    test = {1: [0.83, 0.84, 0.82], 2: [0.89, 0.90, 0.88], 4: [0.90, 0.925, 0.905], 8: [0.93, 0.94, 0.95]}
    value = answers.called(answer, val, test)
    if not (isinstance(value, tuple | list) and len(value) == 2):
        raise TypeError(f"the function returns {value!r}; return the temperature and the accuracy.")
    temperature, accuracy = value
    chosen_wrongly = {
        8: "You chose by the test accuracy; what is chosen on the test images cannot be reported on them.",
        2: "You chose by the best single run; compare the means over the seeds.",
        1: "You chose the lowest accuracy; use max.",
    }
    if temperature != 4:
        otherwise = f"It returns {temperature!r}; the temperature with the highest mean on validation is 4."
        return chosen_wrongly.get(temperature, otherwise)
    slips = {
        0.93: "You report the validation accuracy, which did the choosing and is therefore too high.",
        0.925: "You report the best seed; the mean over the seeds is what another run can expect.",
        0.90: "You report one seed; the mean over the seeds is what another run can expect.",
    }
    otherwise = f"It reports {accuracy}; the mean test accuracy at the chosen temperature is 0.91."
    return answers.number(accuracy, 0.91, slips, otherwise)


@exercise("4.3")
def centred_logit_loss(answer: Any) -> str | None:
    student, teacher = _logits(0), _logits(1)
    difference = student - teacher
    value = answers.result(answer, student, teacher, shape=())
    centred = difference - difference.mean(dim=1, keepdim=True)
    right = centred.square().mean()
    one_side = (student - student.mean(dim=1, keepdim=True) - teacher).square().mean()
    other_side = (student - teacher + teacher.mean(dim=1, keepdim=True)).square().mean()
    slips = {
        "Nothing was taken out; this is the plain logit loss.": difference.square().mean(),
        "You took the mean over the images; take it over the classes, dimension 1.": (
            (difference - difference.mean(dim=0)).square().mean()
        ),
        "You took out one mean for all; each image has its own.": (difference - difference.mean())
        .square()
        .mean(),
        "You centred the student only; the teacher's logits have a mean too.": one_side,
        "You centred the teacher only; the student's logits have a mean too.": other_side,
        "This is divided by N; divide by N times C.": centred.square().sum(dim=1).mean(),
        "This is the sum; divide by N times C.": centred.square().sum(),
    }
    otherwise = f"It gives {value:.4g} where the centred loss is {right:.4g}."
    return answers.compared(value, right, slips, otherwise)


@exercise("4.4")
def precision(answer: Any) -> str | None:
    logits = torch.eye(3)[[0, 0, 0, 0, 1, 2, 2, 2, 0, 0]]
    labels = torch.tensor([0, 0, 1, 2, 1, 0, 2, 2, 0, 1])
    value = float(answers.called(answer, logits, labels, 0))
    slips = {
        3 / 4: "This is the recall: you divided by the images that are the class.",
        6 / 10: "This is the accuracy on all images.",
        3 / 10: "You divided by all images; divide by those called the class.",
        3.0: "This is a count; divide it by the number of images called the class.",
        4 / 6: "You divided the images that are the class by those called so; count the right ones.",
    }
    mistake = answers.number(
        value, 3 / 6, slips, f"It gives {value:.4g} where three of the six called so are right."
    )
    if mistake is not None:
        return mistake
    nothing = float(answers.called(answer, logits[:4], labels[:4], 1))
    return None if nothing == 0 else f"Where no image is called the class it gives {nothing}; return 0 there."


@exercise("4.5")
def a_digit_never_seen(answer: Any) -> str | None:
    if isinstance(answer, dict):
        return "These are all scores; give the one for the held-out digit after the correction."
    share = float(answer)
    if 1 < share <= 100:
        return f"{share:.3g} looks like a percentage; give the share as a number between 0 and 1."
    if not 0 <= share <= 1:
        return f"{share:.3g} is no share; it lies between 0 and 1."
    if share < 0.15:
        return "Hardly any is recognised; was the bias added, and did the student learn from the teacher?"
    if share < 0.5:
        return "Fewer than half are recognised; train from soft targets at temperature 4, without labels."
    return None


def _logits(seed: int) -> Tensor:
    """Logits of six images and four classes, with a mean of their own for each image."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    return values + 2 * torch.randn(6, 1, generator=generator, dtype=torch.float64) + 1
