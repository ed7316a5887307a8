"""Checkers for the exercises of chapter 6."""

from typing import Any

import torch
from torch import Tensor

from kdlib import losses
from kdlib.course.checks import answers
from kdlib.course.checks.exercises import exercise


@exercise("6.1")
def map_by_hand(answer: Any) -> str | None:
    slips = {
        7.0: "That is the sum over the channels; the map also has to get length 1.",
        7 / 12: "You divided by the sum of the two places; divide by the length of the vector they make.",
        1 / 26**0.5: "The sign got lost after the sum: take the absolute value of each activation first.",
        -1 / 26**0.5: "A −4 counts as much as a 4: take absolute values before you sum.",
        3.5 / 74**0.5: "The mean over the channels is as good as the sum, but take it in the norm as well.",
        0.5**0.5: "That is the map at p = 2, which is flat; here p is 1.",
    }
    return answers.number(answer, 7 / 74**0.5, slips, "Sum |A| at each place, then divide by the length.")


@exercise("6.2")
def attention_map(answer: Any) -> str | None:
    features = _features(0)
    for p in (1, 2, 3, 4.5):
        mistake = _map_mistake(answers.result(answer, features, p, shape=(4, 3, 5)), features, p)
        if mistake is not None:
            return mistake
    return None


@exercise("6.3")
def carried_weight(answer: Any) -> str | None:
    slips = {
        1000.0: "The two forms differ by the square and by the number of places; so must the weights.",
        0.625: "That is the code's loss times its weight; divide it by the paper's loss.",
        6.25: "That weight gives the same gradient; asked is the same value.",
        1000 / 64: "You divided by the places only; the code's form also squares the length.",
        200.0: "You saw to the square only; the code's form also divides by the 64 places.",
        25.0: "There are 8 times 8 places, not 8.",
        320000.0: "It is the other way round: the paper's form is larger, so its weight is smaller.",
    }
    return answers.number(
        answer, 3.125, slips, "Compute both forms for a difference of length 0.2, and set the products equal."
    )


@exercise("6.4")
def paper_loss(answer: Any) -> str | None:
    student, teacher = _features(0), _features(1, channels=9)
    value = answers.result(answer, student, teacher, shape=())
    gap = (losses.attention_map(student) - losses.attention_map(teacher)).flatten(1)
    sums = [f.square().sum(dim=1).flatten(1) for f in (student, teacher)]
    slips = {
        "This is the code's form; the paper takes the length, without square and mean over places.": (
            gap.square().mean()
        ),
        "You squared the lengths.": gap.square().sum(dim=1).mean(),
        "This is one norm over the whole batch; take one an image, then the mean.": gap.norm(),
        "You summed over images; take the mean.": gap.norm(dim=1).sum(),
        "You divided by the number of places, as the code's form does.": gap.norm(dim=1).mean()
        / gap.shape[1],
        "The maps have not been scaled to length 1.": (sums[0] - sums[1]).norm(dim=1).mean(),
        "This is the sum of absolute differences; the paper's norm is the square root of the squares.": (
            gap.abs().sum(dim=1).mean()
        ),
    }
    right = gap.norm(dim=1).mean()
    otherwise = f"It gives {value:.4g} where the paper's form is {right:.4g}."
    return answers.compared(value, right, slips, otherwise)


@exercise("6.5")
def unseen_changes(answer: Any) -> str | None:
    if not isinstance(answer, set | frozenset | list | tuple | str):
        raise TypeError(f'the answer is {answer!r}; give a set of letters, such as {{"a", "b"}}.')
    letters = {str(letter).strip().lower() for letter in answer}
    if not letters <= set("abcdef"):
        raise ValueError(
            f"the answer holds {', '.join(sorted(letters - set('abcdef')))}; give letters a to f."
        )
    for letter, sentence in _CHANGES.items():
        if (letter in letters) != (letter in "ace"):
            return sentence
    return None


@exercise("6.6")
def larger_pictures(answer: Any) -> str | None:
    code, paper = answers.measured(answer, "code", "paper")
    if code > 1.7:
        return "The code's form falls as pictures grow; put the loss at 32 pixels above that at 16."
    if abs(code / paper - 1) < 0.15:
        return "The two factors are alike, so they are of one form; pass form= on to the loss."
    if code > paper:
        return "The two have changed places: it is the code's form that divides by the number of places."
    if code > 0.6:
        return f"The code's form divides by four times as many places now; {code:.2f} is too large."
    if not 0.6 <= paper <= 1.7:
        return f"The paper's form compares maps of length 1 at either size; {paper:.2f} is too far from 1."
    return None


_CHANGES = {
    "a": "Look at (a) again: twice the channels make Q twice as large everywhere, and the norm undoes that.",
    "b": "Look at (b) again: with factors of their own, a channel that is loud elsewhere counts for more.",
    "c": "Look at (c) again: the norm takes out any common factor.",
    "d": "Look at (d) again: 1 more changes a quiet place by another share than a loud one.",
    "e": "Look at (e) again: the absolute value does not see signs.",
    "f": "Look at (f) again: where something is, is the one thing that a map does say.",
}


def _map_mistake(value: Tensor, features: Tensor, p: float) -> str | None:
    summed, signed = features.abs().pow(p).sum(dim=1), features.pow(p).sum(dim=1)
    length = summed.flatten(1).norm(dim=1)[:, None, None]
    if answers.same(value, summed / length):
        return None
    if p in (1, 3) and answers.same(value, signed / signed.flatten(1).norm(dim=1)[:, None, None]):
        return f"At p = {p} negative activations cancel positive ones; take the absolute value first."
    slips = {
        "The absolute value comes too late: take it before the sum over the channels.": (
            features.sum(dim=1).abs().pow(p)
        ),
        "The maps have not been scaled; divide each by its length.": summed,
        "The maps have not been scaled; the mean over the channels does not do it.": summed
        / features.shape[1],
        "You divided by the sum over the places; divide by the length, the root of the sum of squares.": (
            summed / summed.sum(dim=(1, 2), keepdim=True)
        ),
        "You divided by the largest place; divide by the length.": summed
        / summed.amax(dim=(1, 2), keepdim=True),
        "All images share one norm here; each has its own.": summed / summed.norm(),
    }
    for sentence, slip in slips.items():
        if answers.same(value, slip) or answers.same(
            value, slip / slip.flatten(1).norm(dim=1)[:, None, None]
        ):
            return sentence
    if torch.isnan(value).any():
        return (
            f"At p = {p:g} it gives NaN: a negative number has no such power; take the absolute value first."
        )
    return f"At p = {p:g} it is off; sum |A| to the power p over the channels, then divide by the length."


def _features(seed: int, channels: int = 6) -> Tensor:
    """Features of four images with 3 by 5 places, negative ones among them."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(4, channels, 3, 5, generator=generator, dtype=torch.float64) + 0.3
