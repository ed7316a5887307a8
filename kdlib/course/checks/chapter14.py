"""Checkers for the exercises of chapter 14."""

from statistics import mean, median
from typing import Any

import torch

from kdlib.course.checks import answers
from kdlib.course.checks.exercises import exercise


@exercise("14.1")
def size_of_a_file(answer: Any) -> str | None:
    slips = {
        11.18: "That is one byte for each weight; float32 has 32 bits.",
        22.36: "That is float16, two bytes each; the weights are float32.",
        89.44: "That is float64, eight bytes each; the weights are float32.",
        357.76: "You count bits; eight of them are a byte.",
        44_720_000: "Those are bytes; give megabytes, of a million bytes each.",
        44_720: "Those are kilobytes; give megabytes, of a million bytes each.",
        42.65: "Those are mebibytes, of 1024 times 1024 bytes; give megabytes, of a million bytes each.",
    }
    return answers.number(answer, 44.72, slips, "How many bytes does one float32 take? Every weight is one.")


@exercise("14.2")
def safe_lead(answer: Any) -> str | None:
    slips = {
        0.002: "The largest may be 0.002 lower, and at the same time the second 0.002 higher.",
        0.001: "The differences of the two logits add up; they do not share 0.002 between them.",
        0.0: "Then the smallest difference could already turn them round.",
    }
    return answers.number(
        answer,
        0.004,
        slips,
        "Let the largest logit fall as far as it can, and the second rise.",
    )


@exercise("14.3")
def twins(answer: Any) -> str | None:
    generator = torch.Generator().manual_seed(0)
    train = torch.randint(0, 256, (12, 3, 4, 4), generator=generator, dtype=torch.uint8)
    test = torch.randint(0, 256, (7, 3, 4, 4), generator=generator, dtype=torch.uint8)
    train[11] = train[5]
    test[0], test[3], test[4] = train[5], train[2], train[2]
    test[1], test[2] = train[7], train[8]
    test[1:3, 0, 0, 0] ^= 1
    test[6] = train[6]
    value = float(answers.called(answer, train, test))
    slips = {
        5: "An image that is in training twice was counted twice; count test images, not pairs.",
        3: "A test image that is there twice was counted once; count each of them.",
        1: "You compare images of the same number only; a twin can stand anywhere in training.",
        4 / 7: "That is a share; give how many.",
        6: "One pixel may not differ: compare the whole image, not a part of it or its mean.",
    }
    return answers.number(value, 4, slips, f"In a test with 4 twins among 7 images it finds {value:g}.")


@exercise("14.4")
def fair_ratio(answer: Any) -> str | None:
    teacher = [90.0, 40.0, 8.0, 8.2, 8.1, 31.0, 7.9, 8.3]
    student = [25.0, 3.0, 0.5, 0.4, 0.55, 0.45, 4.0, 0.52]
    value = float(answers.called(answer, list(teacher), list(student), 2))
    t, s = teacher[2:], student[2:]
    right = median(t) / median(s)
    slips = {
        median(s) / median(t): "That is the other way round: a student that is faster has a ratio above 1.",
        mean(t) / mean(s): "Those are means, which one slow call moves far; take medians.",
        median(teacher) / median(student): "The warm-up is still in it; leave out the first calls.",
        mean(teacher) / mean(student): "Those are means, with the warm-up still in them.",
        min(t) / min(s): "Those are the fastest calls, which luck decides; take medians.",
        median(t) - median(s): "That is a difference in milliseconds; give a ratio.",
        median(teacher[:-2]) / median(student[:-2]): "You left out the last calls; the warm-up comes first.",
        median(teacher[:2]) / median(student[:2]): "You kept the warm-up and left out the rest.",
    }
    return answers.number(
        value, right, slips, f"For medians of {median(t):.3g} and {median(s):.3g} ms it gives {value:.3g}."
    )


@exercise("14.5")
def two_widths(answer: Any) -> str | None:
    narrow, wide = answers.measured(answer, 4, 16)
    if max(narrow, wide) > 1:
        return "Give fractions, such as 0.5 for 50 %."
    if narrow == wide:
        return "The two are equal to the last digit: was the width passed on to train?"
    if wide < 0.6:
        return "So low a wide student had no good teacher: pass `teacher`, and `terms` for the loss."
    if narrow > wide:
        return "The narrow student is ahead: are the two values at each other's keys?"
    return None
