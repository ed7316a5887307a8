"""Checkers for the exercises of chapter 5."""

from typing import Any

import torch

from kdlib.course.checks import answers
from kdlib.course.checks.exercises import exercise


@exercise("5.1")
def regressor_size(answer: Any) -> str | None:
    slips: dict[float, str] = {
        512 + 2048: "That is how many channels there are; each pair of them has a weight.",
        9 * 512 * 2048 + 2 * 2048: "That is a 3×3 convolution; this one is 1×1.",
        2 * 2048: "That is the batch norm alone; the convolution has weights too.",
    }
    # Within the usual 0.5 % a count without the batch norm would pass.
    if answer == 512 * 2048:
        return "You forgot the batch norm: it has a scale and a shift for each of the 2048 channels."
    if answer == 512 * 2048 + 2048:
        return "The batch norm has a scale and a shift, two numbers for each channel."
    return answers.number(answer, 512 * 2048 + 2 * 2048, slips, "Count one weight for each pair of channels.")


@exercise("5.2")
def who_is_loud(answer: Any) -> str | None:
    student, teacher, both = answers.measured(answer, "a", "b", "c")
    if student != 1:
        return (
            "a: the regressor's weights can shrink as the student's features grow; what is left over then?"
            if student in (4, 2)
            else "a: the loss that is left over does not fall, either; the regressor was at its optimum."
        )
    if teacher == 2:
        return "b: the errors double, but the loss is a mean of their squares."
    if teacher != 4:
        return "b: the teacher's features are what is predicted; no weight makes up for their size."
    if both == 1:
        return "c: the two do not cancel; the regressor already took the student's factor out."
    if both != 4:
        return "c: take the student's factor first, then the teacher's."
    return None


@exercise("5.3")
def regress_by_hand(answer: Any) -> str | None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(3, 4, 5, 6, generator=generator)
    weights = torch.randn(7, 4, generator=generator)
    value = answers.result(answer, maps.clone(), weights.clone(), shape=(3, 7, 5, 6))
    expected = torch.nn.functional.conv2d(maps, weights[:, :, None, None])
    if answers.same(value, expected):
        return None
    if answers.same(value, expected.relu()):
        return "There is no ReLU in a regressor: what is below zero must be told from zero."
    if answers.same(value, expected / 4):
        return "You took the mean over the student's channels; a convolution takes the sum."
    return "The values are not those of a 1×1 convolution: sum weights[t, c] · maps[n, c, h, w] over c."


@exercise("5.4")
def undo_permutation(answer: Any) -> str | None:
    order = torch.tensor([2, 0, 3, 1, 4])
    matrix = answers.result(answer, order.clone(), shape=(5, 5))
    maps = torch.randn(2, 5, 3, 3, generator=torch.Generator().manual_seed(0)).double()
    restored = torch.einsum("tc,nchw->nthw", matrix, maps[:, order])
    if answers.same(restored, maps):
        return None
    if answers.same(torch.einsum("tc,nchw->nthw", matrix.T, maps[:, order]), maps):
        return "This puts them into that order once more; you want the inverse, which is the transpose."
    if answers.same(matrix, torch.eye(5)):
        return "This leaves every channel where it is."
    return (
        "Applied to maps[:, order], this does not give maps. Where does channel order[i] of the teacher go?"
    )


@exercise("5.5")
def first_control(answer: Any) -> str | None:
    letters = {
        "a": "More seeds tell how exact the 80 % is, and not what it means.",
        "c": "A larger weight makes the loss fall further, whoever does the work.",
    }
    if not isinstance(answer, str) or answer not in ("a", "b", "c"):
        return f"The answer is {answer!r}; give 'a', 'b' or 'c'."
    return letters.get(answer)


@exercise("5.6")
def random_channels(answer: Any) -> str | None:
    few, same, many = answers.measured(answer, 8, 32, 128)
    if max(few, same, many) > 1:
        return f"A share cannot be {max(few, same, many):.3g}; give fractions, such as 0.5 for 50 %."
    if not few < same < many:
        return "The share must rise with the width, since a regressor may leave out what it does not need."
    if few > 0.75:
        return (
            f"With 8 channels you find {few:.0%}; ask networks that were never trained, of the width itself."
        )
    if many < 0.93:
        return f"With 128 channels you find {many:.0%}; that is a deeper layer, ask for layer1."
    return None
