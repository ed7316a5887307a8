"""Losses on attention: where in the image a layer is active."""

from collections.abc import Sequence

import torch
from torch import Tensor

from kdlib.losses.inputs import (
    check_exponent,
    check_finite,
    check_form,
    check_layers,
    check_place,
    check_places,
    check_positions,
    full_precision,
)
from kdlib.losses.maps import aligned, as_maps, to_smaller_size
from kdlib.losses.vectors import unit_length


def attention_map(features: Tensor, p: float = 2.0) -> Tensor:
    r"""Where a layer is active: channels summed to one map per image, of L2 norm 1.

    .. math:: \hat Q = Q / \|Q\|_2, \quad Q_{hw} = \sum_c |A_{chw}|^p

    The map says where, not how strongly: features times a constant have the same map. An image whose
    features are all zero has a map of zeros.

    Args:
        features: activations of one layer, shape (N, C, H, W); or tokens (N, L, D), whose features are
            summed.
        p: exponent, 1 or more; a higher one looks at the strongest activations only.

    Returns:
        Shape (N, H, W), or (N, L) of tokens, no entry negative, float32 at least.

    Raises:
        ValueError: the shape is another, `p` is below 1, or a feature is NaN or infinite.

    Reference:
        Zagoruyko and Komodakis, "Paying More Attention to Attention", 2017, section 3.1. The authors' code
        takes the mean over channels, which the norm undoes. Copies that write ``features.pow(p)`` without the
        absolute value are wrong for odd p.
    """
    check_place("given", features)
    check_exponent(p)
    attention = check_finite(_attention(as_maps(features), p), "feature maps", given=features)
    return attention.squeeze(2) if features.ndim == 3 else attention


def attention_transfer_loss(
    student_features: Tensor | Sequence[Tensor],
    teacher_features: Tensor | Sequence[Tensor],
    p: float = 2.0,
    form: str = "code",
) -> Tensor:
    r"""Difference of student's and teacher's attention maps, averaged over images, summed over layers.

    .. math:: \text{code: } \sum_j \frac{1}{N H_j W_j} \sum_n \|\hat Q^s_{jn} - \hat Q^t_{jn}\|_2^2, \qquad
        \text{paper: } \sum_j \frac{1}{N} \sum_n \|\hat Q^s_{jn} - \hat Q^t_{jn}\|_2

    The two differ in the square and in the division by H·W, so their weights differ by orders of magnitude.
    The weight 1000 of the literature belongs to "code", which is therefore the default. The β of the paper's
    experiments is 10³ over the places of a map and the batch size, about 0.1 on CIFAR, before squares that
    are summed over both: the same 1000, and no weight for "paper". Of the β / 2 in equation 2 the half is
    not inside.

    Args:
        student_features: one layer's activations, shape (N, C, H, W), or a list with one entry per layer.
        teacher_features: as many; the number of channels may differ. Where sizes differ, the larger maps are
            averaged down to the smaller (adaptive average pooling of the activations, before the power), as
            RepDistiller does; the authors' own networks have equal sizes. Of tokens (N, L, D) both have as
            many. Beside maps they are laid out as such, without a token of the class or of distillation.
        p: exponent of the attention map, 1 or more.
        form: "code" (default) is the authors' released code; "paper" is equation 2 with the 2-norm.

    Returns:
        A scalar; computed in float32 at least.

    Raises:
        ValueError: the lists differ in length, maps are not of the same images or are 1×1, where attention is
            1 everywhere, tokens are more or fewer than the teacher's or make no grid beside its maps, `p` is
            below 1, the form is unknown, or a feature is NaN or infinite.

    Reference:
        Zagoruyko and Komodakis, "Paying More Attention to Attention", 2017, equation 2; code:
        github.com/szagoruyko/attention-transfer.
    """
    layers = check_layers(student_features, teacher_features, check_places)
    check_exponent(p)
    check_form(form)
    return torch.stack([_layer_loss(student, teacher, p, form) for student, teacher in layers]).sum()


def _layer_loss(student: Tensor, teacher: Tensor, p: float, form: str) -> Tensor:
    ours, theirs = (as_maps(features) for features in aligned(student, teacher))
    student_small, teacher_small = to_smaller_size(full_precision(ours), full_precision(theirs), "average")
    check_positions(student_small, "attention")
    difference = _attention(student_small, p) - _attention(teacher_small, p)
    if form == "code":
        loss = difference.square().mean()
    else:
        loss = torch.linalg.vector_norm(difference, dim=(1, 2)).mean()
    return check_finite(loss, "feature maps", student=student, teacher=teacher)


def _attention(features: Tensor, p: float) -> Tensor:
    values = full_precision(features)
    powers = values.square() if p == 2 else values.abs() ** p
    return unit_length(powers.sum(dim=1), dim=(1, 2))
