"""Checkers for the exercises of chapter 7."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlib import losses
from kdlib.course.checks import answers
from kdlib.course.checks.exercises import exercise


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
def numbers_for_eight(answer: Any) -> str | None:
    slips = {
        8.0: "Eight would do, but one fewer is enough: two points need only a line.",
        9.0: "That is for ten classes.",
        3.0: "A cube has eight corners, but they are not all equally far apart.",
        2.0: "In the plane only three points can be equally far apart.",
        28.0: "That is the number of distances.",
        6.0: "One too few: two points need one dimension, three need two.",
    }
    return answers.number(answer, 7.0, slips, "Count up: two points need a line, three a plane.")


@exercise("7.6")
def teacher_of_other_digits(answer: Any) -> str | None:
    before, after = answers.measured(answer, "first weights", "taught")
    if max(before, after) > 1:
        return "Give shares between 0 and 1, as `read` returns them."
    if before == after:
        return "Both are of the same network; read the map before the training, too."
    if after < before:
        return "The taught student's share is below that of its first weights; have the two changed places?"
    if after < 0.7:
        return (
            f"{after:.0%} is little after 30 epochs; train on alike(data.train), with the loss on distances."
        )
    if after > 0.925:
        return f"{after:.0%} is what a teacher brings that knows the three; train yours without 4, 7 and 9."
    return None


def _features(seed: int) -> Tensor:
    """Features of seven images in five numbers, away from zero."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(7, 5, generator=generator, dtype=torch.float64) + 1
