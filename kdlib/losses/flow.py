"""Losses on flow: how one layer's features go over into the next one's."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from kdlib.losses.inputs import (
    check_finite,
    check_layers,
    check_maps,
    check_reduction,
    full_precision,
    reduced,
)
from kdlib.losses.maps import check_pooling, to_smaller_size
from kdlib.losses.vectors import inner_products


def fsp_matrix(first: Tensor, second: Tensor, pooling: str = "max") -> Tensor:
    r"""Flow of the solution procedure: inner products of two layers' channels over all positions.

    .. math:: G_{ij} = \frac{1}{H W} \sum_{h,w} F^1_{ihw} F^2_{jhw}

    Args:
        first: the earlier layer of one network, shape (N, C1, H, W).
        second: a later layer of the same network, shape (N, C2, H', W').
        pooling: how the larger maps come to the size of the smaller: "max" (default) as in the paper and
            torchdistill; "average" as in RepDistiller. The authors have released no PyTorch code.

    Returns:
        Shape (N, C1, C2), float32 at least.

    Raises:
        ValueError: a shape is not (N, C, H, W), the layers are not of the same images, or the pooling is
            unknown.

    Reference:
        Yim et al., "A Gift from Knowledge Distillation", 2017, equation 1.
    """
    check_maps(first, second)
    check_pooling(pooling)
    first, second = to_smaller_size(full_precision(first), full_precision(second), pooling)
    return inner_products(first.flatten(2), second.flatten(2)) / first.shape[2:].numel()


def fsp_loss(
    student_features: Sequence[Tensor],
    teacher_features: Sequence[Tensor],
    pooling: str = "max",
    reduction: str = "batchmean",
) -> Tensor:
    r"""Squared difference of the FSP matrices between each layer and the next, summed over the pairs.

    .. math:: \frac{1}{N} \sum_n \sum_i \|G^s_{ni} - G^t_{ni}\|_F^2

    The paper trains on this loss alone first, and on the labels alone after. Two of the well-known
    repositories do that too; others, and this course's sources, add the loss to the labels' in one stage.

    Args:
        student_features: two or more layers in order, each of shape (N, C, H, W).
        teacher_features: as many, with the same channels; sizes may differ from the student's.
        pooling: "max" (default, paper) or "average"; see `fsp_matrix`.
        reduction: "batchmean" (default) is the paper's formula above, with every λ at 1; "mean" divides by
            C1·C2 of each matrix as well, as RepDistiller does; "sum"; "none" gives one value per image, (N,).

    Returns:
        A scalar, or shape (N,); computed in float32 at least.

    Raises:
        ValueError: fewer than two layers, lists of different length, channels that differ, an unknown
            pooling or reduction, or a feature that is NaN or infinite.

    Reference:
        Yim et al., "A Gift from Knowledge Distillation", 2017, equation 2.
    """
    layers = check_layers(student_features, teacher_features)
    check_pooling(pooling)
    check_reduction(reduction)
    if len(layers) < 2:
        raise ValueError("FSP got 1 layer; give two or more, it compares what happens between layers.")
    for student, teacher in layers:
        if student.shape[1] != teacher.shape[1]:
            raise ValueError(
                f"the student has {student.shape[1]} channels where the teacher has {teacher.shape[1]}; "
                "FSP needs equal channels, tap other layers or put a regressor on the student."
            )
    terms = [_pair_loss(first, second, pooling, reduction) for first, second in pairwise(layers)]
    return torch.stack(terms).sum(dim=0)


def _pair_loss(
    first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor], pooling: str, reduction: str
) -> Tensor:
    student = fsp_matrix(first[0], second[0], pooling)
    teacher = fsp_matrix(first[1], second[1], pooling)
    loss = reduced((student - teacher).square(), reduction)
    check_finite(loss, "feature maps", student=first[0], teacher=first[1])
    return check_finite(loss, "feature maps", student=second[0], teacher=second[1])
