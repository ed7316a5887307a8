"""Losses on logits: what the label says, and what the teacher says."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlib.losses.inputs import (
    check_finite,
    check_labels,
    check_logits,
    check_reduction,
    check_temperature,
    full_precision,
)


def softened(logits: Tensor, temperature: float) -> Tensor:
    r"""Softmax with temperature, :math:`p_c = \exp(z_c / T) / \sum_k \exp(z_k / T)`.

    T = 1 is the ordinary softmax; a higher temperature moves probability from the likely classes to the
    others and keeps their order.

    Args:
        logits: shape (..., C).
        temperature: T, above 0.

    Returns:
        Probabilities of the same shape, float32 or float64.

    Raises:
        ValueError: the temperature is not a finite number above 0.

    Reference:
        Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015, equation 1.
    """
    check_temperature(temperature)
    return torch.softmax(full_precision(logits) / temperature, dim=-1)


def hard_label_loss(student_logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    r"""Cross-entropy with the labels, :math:`-\frac{1}{N} \sum_n \log p^s_{n, y_n}`, at temperature 1.

    Args:
        student_logits: shape (N, C).
        labels: class indices, int64, shape (N,).
        label_smoothing: share of each label that is spread evenly over all C classes; 0 trusts the label.

    Returns:
        The mean over the batch, in nats.

    Raises:
        ValueError: shapes do not match, a label is out of range, a logit is NaN or infinite, or
            `label_smoothing` is outside [0, 1].
    """
    check_labels(student_logits, labels)
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"label_smoothing is {label_smoothing}; give a share between 0 and 1.")
    loss = F.cross_entropy(full_precision(student_logits), labels, label_smoothing=label_smoothing)
    return check_finite(loss, student=student_logits)


def soft_target_loss(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float = 4.0, reduction: str = "batchmean"
) -> Tensor:
    r"""Kullback-Leibler divergence of the student's softened answer from the teacher's, times T².

    .. math:: T^2 \, \mathrm{KL}(p^t \,\|\, p^s) = T^2 \sum_c p^t_c (\log p^t_c - \log p^s_c),
        \quad p = \mathrm{softmax}(z / T)

    T² is inside because the gradient of the bare divergence shrinks as 1/T²: with it, the weight of this
    loss against the hard-label loss need not change with the temperature.

    Args:
        student_logits: shape (N, C).
        teacher_logits: shape (N, C); no gradient is stopped here, a `Distiller` runs its teacher without.
        temperature: T, above 0.
        reduction: "batchmean" (default) divides the sum by N and is the formula above averaged over images;
            "mean" divides by N·C, which makes the loss C times smaller; "sum"; "none" gives one value per
            image, shape (N,).

    Returns:
        A scalar, or shape (N,), in nats; computed in float32 at least.

    Raises:
        ValueError: shapes do not match, the temperature is not above 0, the reduction is unknown, or a
            logit is NaN or infinite.

    Reference:
        Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015, section 2.
        Code that is often copied drops T², or calls ``F.kl_div`` with its default reduction "mean".
    """
    check_logits(student_logits, teacher_logits)
    check_temperature(temperature)
    check_reduction(reduction)
    student_log_p = F.log_softmax(full_precision(student_logits) / temperature, dim=1)
    teacher_log_p = F.log_softmax(full_precision(teacher_logits) / temperature, dim=1)
    divergence = F.kl_div(student_log_p, teacher_log_p, reduction="none", log_target=True)
    loss = _reduce(divergence, reduction) * temperature**2
    return check_finite(loss, student=student_logits, teacher=teacher_logits)


def logit_mse_loss(student_logits: Tensor, teacher_logits: Tensor, reduction: str = "mean") -> Tensor:
    r"""Squared difference of logits, :math:`\frac{1}{NC} \sum_{n,c} (z^s_{nc} - z^t_{nc})^2`.

    Twice the limit of `soft_target_loss` at high temperature, where both have zero-mean logits.

    Args:
        student_logits: shape (N, C).
        teacher_logits: shape (N, C).
        reduction: "mean" (default, the formula above) divides by N·C, as PyTorch's ``F.mse_loss`` and the
            code of this course's sources do; "batchmean" divides by N; "sum"; "none" gives the sum over
            classes per image, shape (N,).

    Returns:
        A scalar, or shape (N,); computed in float32 at least.

    Raises:
        ValueError: shapes do not match, the reduction is unknown, or a logit is NaN or infinite.

    Reference:
        Ba and Caruana, "Do Deep Nets Really Need to be Deep?", 2014, equation 1, which has ½ and "batchmean".
    """
    check_logits(student_logits, teacher_logits)
    check_reduction(reduction)
    squares = (full_precision(student_logits) - full_precision(teacher_logits)).square()
    return check_finite(_reduce(squares, reduction), student=student_logits, teacher=teacher_logits)


def _reduce(values: Tensor, reduction: str) -> Tensor:
    """(N, C) to a scalar, or to (N,) for "none"."""
    if reduction == "batchmean":
        return values.sum() / values.shape[0]
    if reduction == "mean":
        return values.mean()
    return values.sum() if reduction == "sum" else values.sum(dim=1)
