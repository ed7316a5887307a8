"""Checkers for the exercises of chapter 7."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlib import losses
from kdlib.course.checks import answers
from kdlib.course.checks.exercises import exercise
from kdlib.experiments import paired_difference


@exercise("7.1")
def count_angles(answer: Any) -> str | None:
    slips: dict[float, str] = {
        64 * 63 * 62: "You counted each angle twice; swapping the two outer images gives the same angle.",
        64 * 63 * 62 // 6: "These are the triangles; each has an angle at each of its three corners.",
        64 * 63 // 2: "These are the distances; an angle takes three images.",
        64**3: "You let images repeat; the three must be different, and two orders give one angle.",
        64 * 64 * 63 // 2: "The corner itself is no outer image; 63 images are left for those.",
    }
    return answers.number(
        answer, 64 * 63 * 62 // 2, slips, "Choose the corner, then two of the other 63 images."
    )


@exercise("7.2")
def disguise(answer: Any) -> str | None:
    features = _features(0)
    disguised = answers.result(answer, features.clone(), shape=(len(features), 2 * features.shape[1]))
    if not disguised.isfinite().all():
        return "It returns NaN or an infinity."
    distance, angle, similarity = (
        loss(disguised, features).item()
        for loss in (
            losses.rkd_distance_loss,
            losses.rkd_angle_loss,
            losses.similarity_preserving_loss,
        )
    )
    if max(distance, angle) > 1e-9:
        return (
            f"RKD on distances is {distance:.2g} and on angles {angle:.2g}; some directions are stretched "
            "more than others. Are the columns of your matrix orthonormal?"
        )
    if similarity > 1e-12:
        return f"SP is {similarity:.2g}, but RKD is 0; you moved the features, and SP notices that."
    alike = (F.normalize(disguised, dim=0).T @ F.normalize(features, dim=0)).abs().max().item()
    if alike > 0.9999:
        return "A column is still one of the teacher's, or a multiple; mix the columns by a rotation."
    return None


@exercise("7.3")
def centred_similarity(answer: Any) -> str | None:
    features = _features(1)
    value = answers.result(answer, features.clone(), shape=(len(features), len(features)))
    centred = features - features.mean(dim=0)
    gram = centred @ centred.T
    own_mean = features - features.mean(dim=1, keepdim=True)
    directions = F.normalize(centred, dim=1)
    slips = {
        "Nothing was taken out; this is SP's own matrix.": F.normalize(features @ features.T, dim=1),
        "You took out each image's own mean; take the mean over the batch, dimension 0.": F.normalize(
            own_mean @ own_mean.T, dim=1
        ),
        "You took out one mean of all numbers; each column has its own.": F.normalize(
            (features - features.mean()) @ (features - features.mean()).T, dim=1
        ),
        "The rows are not scaled to length 1.": gram,
        "The columns have length 1; scale the rows, dimension 1.": F.normalize(gram, dim=0),
        "These are cosines; scale the rows of the matrix and not the features.": directions @ directions.T,
    }
    return answers.compared(
        value, F.normalize(gram, dim=1), slips, "It is not the similarity of centred features."
    )


@exercise("7.4")
def average_fsp(answer: Any) -> str | None:
    generator = torch.Generator().manual_seed(2)
    first = torch.randn(3, 2, 8, 8, generator=generator, dtype=torch.float64)
    second = torch.randn(3, 5, 4, 4, generator=generator, dtype=torch.float64)
    value = answers.result(answer, first, second, shape=(3, 2, 5))
    total = torch.einsum("nihw,njhw->nij", F.avg_pool2d(first, 2), second)
    slips = {
        "The larger maps are pooled by their maximum; take the average.": losses.fsp_matrix(first, second),
        "It is not divided by the number of positions, H/2 times W/2.": total,
        "You divided by the positions of the larger maps; after pooling there are fewer.": total / 64,
        "You divided by the side and not by the number of positions.": total / 4,
        "You divided by the number of channels; divide by the number of positions.": total / 10,
        "The larger maps lost three positions of four; average them instead.": (
            torch.einsum("nihw,njhw->nij", first[:, :, ::2, ::2], second) / 16
        ),
    }
    return answers.compared(
        value, total / 16, slips, "It is not the mean over positions of the channels' products."
    )


@exercise("7.5")
def square_for_four(answer: Any) -> str | None:
    mean = (4 + 2 * 2**0.5) / 6
    side, diagonal = 1 / mean - 1, 2**0.5 / mean - 1
    right = (4 * side**2 + 2 * diagonal**2) / 12
    slips = {
        2 * right: "The Huber loss is half of the square, up to a difference of 1.",
        6 * right: "That is the sum over the six pairs; RKD takes their mean.",
        12 * right: "That is a sum of squares; take the mean over the six pairs, and half of it.",
        (2**0.5 - 1) ** 2
        / 6: "You measured in the side of the square; the unit is the mean of its six distances.",
        (4 * abs(side) + 2 * abs(diagonal))
        / 6: "Those are the differences themselves; below 1 Huber squares them.",
        (4 * side**2 + 2 * diagonal**2) / 16: "The mean is over six pairs; a point is no pair with itself.",
        0.0: "In the plane only three points can be equally far apart, so something is left.",
    }
    return answers.number(
        answer, right, slips, "List the six distances, divide by their mean, compare with 1."
    )


@exercise("7.6")
def teacher_of_other_digits(answer: Any) -> str | None:
    keys = {"first weights", "taught", "shown"}
    if not (isinstance(answer, Mapping) and set(answer) == keys):
        raise TypeError(f"the answer is {answer!r}; give a dict with the keys {', '.join(sorted(keys))}.")
    before, after = ([float(share) for share in answer[key]] for key in ("first weights", "taught"))
    if len(before) != len(after) or len(after) < 2:
        return "Give one share for each seed under both keys, of two seeds or more."
    if min(*before, *after) < 0 or max(*before, *after) > 1:
        return "Give shares between 0 and 1, as `classified` returns them."
    if before == after:
        return "Both lists are of the same networks; look at each map before its training, too."
    mean = sum(after) / len(after)
    if mean > 0.9:
        return f"{mean:.0%} is what a teacher brings that knows the three; train yours without 4, 7 and 9."
    is_shown = paired_difference(after, before).low > 0
    if bool(answer["shown"]) != is_shown:
        where = "lies above zero" if is_shown else "does not lie above zero"
        return f"The interval of your {len(after)} pairs {where}, so `shown` is {is_shown}."
    return None


def _features(seed: int) -> Tensor:
    """Features of seven images in five numbers, away from zero."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(7, 5, generator=generator, dtype=torch.float64) + 1
