"""Losses on features: what a layer computes, compared value by value."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlib.losses.inputs import (
    check_above_zero,
    check_finite,
    check_form,
    check_layers,
    check_maps,
    check_reduction,
    check_same_shape,
    check_vectors,
    full_precision,
    reduced,
)


def hint_loss(student_features: Tensor, teacher_features: Tensor, reduction: str = "mean") -> Tensor:
    r"""Squared difference of features, averaged over all of them (FitNets).

    .. math:: \frac{1}{N D} \sum_{n,d} (f^s_{nd} - f^t_{nd})^2, \quad D = C H W

    Args:
        student_features: shape (N, C, H, W), (N, L, D) or (N, D), through a regressor where widths or sizes
            differ.
        teacher_features: the same shape.
        reduction: "mean" (default, the formula above) as RepDistiller and mdistiller do; "batchmean" divides
            by N only, and is twice the paper's ½‖·‖²; "sum"; "none" gives the sum per image, shape (N,).

    Returns:
        A scalar, or shape (N,); computed in float32 at least.

    Raises:
        ValueError: shapes differ, the reduction is unknown, or a feature is NaN or infinite.

    Reference:
        Romero et al., "FitNets: Hints for Thin Deep Nets", 2015, equation 3. The paper trains on this loss
        alone first, up to the guided layer, and on soft targets after.
    """
    check_vectors(student_features, teacher_features)
    check_same_shape(student_features, teacher_features)
    check_reduction(reduction)
    squares = (full_precision(student_features) - full_precision(teacher_features)).square()
    loss = reduced(squares, reduction)
    return check_finite(loss, "features", student=student_features, teacher=teacher_features)


def vid_loss(
    student_mean: Tensor,
    teacher_features: Tensor,
    log_scale: Tensor,
    minimum_variance: float = 1e-5,
    reduction: str = "mean",
) -> Tensor:
    r"""Negative log-likelihood of the teacher's features under a Gaussian that the student predicts.

    .. math:: \frac{1}{2 N D} \sum_{n,c,h,w} \left[ \frac{(\mu_{nchw} - f^t_{nchw})^2}{\sigma_c^2}
        + \log \sigma_c^2 \right], \quad \sigma_c^2 = \log(1 + e^{\alpha_c}) + \varepsilon

    without the constant ½ log 2π. Channels that the student cannot predict get a large σ and count less. The
    loss can be negative and is not 0 at equal features.

    Args:
        student_mean: μ, the regressor's output from the student's features, shape (N, C, H, W) or (N, C).
        teacher_features: the same shape.
        log_scale: α, one trainable number per channel, shape (C,); VID's code starts where σ² is 5.
        minimum_variance: ε, above 0.
        reduction: "mean" (default) as in the authors' code; "batchmean" is the paper's sum, averaged over
            images; "sum"; "none" gives one value per image, shape (N,).

    Returns:
        A scalar, or shape (N,), in nats; computed in float32 at least.

    Raises:
        ValueError: shapes do not match, `minimum_variance` is not above 0, the reduction is unknown, or a
            feature is NaN or infinite.

    Reference:
        Ahn et al., "Variational Information Distillation for Knowledge Transfer", 2019, section 3.
        Copies compute log(1 + exp α) as written, which overflows in half precision; this uses softplus.
    """
    check_vectors(student_mean, teacher_features)
    check_same_shape(student_mean, teacher_features)
    check_reduction(reduction)
    channels = student_mean.shape[1]
    if log_scale.shape != (channels,):
        raise ValueError(
            f"log_scale has shape {tuple(log_scale.shape)}; give one number per channel, shape ({channels},)."
        )
    check_above_zero(minimum_variance=minimum_variance)
    variance = F.softplus(full_precision(log_scale)) + minimum_variance
    variance = variance.reshape(1, channels, *[1] * (student_mean.ndim - 2))
    squares = (full_precision(student_mean) - full_precision(teacher_features)).square()
    loss = reduced(0.5 * (squares / variance + variance.log()), reduction)
    check_finite(loss, "means", student=student_mean)
    return check_finite(loss, "features", teacher=teacher_features)


def ofd_margin(scale: Tensor, shift: Tensor, form: str = "paper") -> Tensor:
    r"""Margin of each channel: the mean of its negative responses, read off the batch norm before the ReLU.

    .. math:: m = \mathrm{E}[x \mid x < 0]
        = \mu - \sigma \, \frac{\varphi(\mu / \sigma)}{\Phi(-\mu / \sigma)},
        \quad x \sim \mathcal{N}(\mu, \sigma^2), \quad \sigma = |\gamma|, \; \mu = \beta

    Args:
        scale: γ, the batch norm's weight, shape (C,); its sign does not matter.
        shift: β, the batch norm's bias, shape (C,).
        form: "paper" (default) is the formula for every channel; "code" replaces it by −3σ where x < 0 has a
            probability of 0.001 or less, as the authors' code does, where the formula gives about −0.3σ.

    Returns:
        Shape (C,), no entry positive, in the type of `scale`. A channel with γ = 0 has margin min(β, 0).

    Raises:
        ValueError: the two are not vectors of one length, a number is NaN or infinite, or the form is
            unknown.

    Reference:
        Heo et al., "A Comprehensive Overhaul of Feature Distillation", 2019, section 3.
    """
    check_form(form)
    if scale.ndim != 1 or scale.shape != shift.shape:
        raise ValueError(
            f"scale has shape {tuple(scale.shape)} and shift {tuple(shift.shape)}; "
            "give the weight and the bias of one batch norm, both (C,)."
        )
    if not bool((scale.isfinite() & shift.isfinite()).all()):
        raise ValueError("a scale or shift is NaN or infinite; look for a broken checkpoint of the teacher.")
    # Where μ is many σ above 0, it and the second term nearly cancel: the difference needs float64.
    mean, sigma = shift.double(), scale.double().abs().clamp(min=1e-30)
    ratio = mean / sigma
    # φ(r) / Φ(−r) by the scaled error function, in which neither of the two underflows.
    margin = mean - sigma * math.sqrt(2 / math.pi) / torch.special.erfcx(ratio / math.sqrt(2))
    # Beyond 1e4 σ even float64 cancels; there the mean of the tail is −σ² / μ.
    margin = torch.where(ratio > 1e4, -sigma / ratio, margin)
    if form == "code":
        margin = torch.where(torch.special.ndtr(-ratio) > 0.001, margin, -3 * sigma)
    return margin.to(scale.dtype)


def ofd_loss(
    student_maps: Tensor, teacher_maps: Tensor, margin: Tensor, reduction: str = "batchmean"
) -> Tensor:
    r"""Partial squared distance to the teacher's features before the ReLU, cut at a margin (overhaul).

    .. math:: \frac{1}{N} \sum_{n,c,h,w} \begin{cases} 0 & s \le t \le 0 \\ (s - t)^2 & \text{otherwise}
        \end{cases}, \quad t = \max(f^t, m_c)

    Where the teacher is silent (t ≤ 0) it is enough that the student is no louder.

    Args:
        student_maps: features before the ReLU, through a 1×1 convolution and batch norm, (N, C, H, W).
        teacher_maps: features before the ReLU, the same shape.
        margin: one number per channel, 0 or less, shape (C,); see `ofd_margin`.
        reduction: "batchmean" (default) is the paper's sum averaged over images; the authors' training script
            divides that by 1000 more, and by 2 for each stage before the last; "mean"; "sum"; "none" gives
            one value per image, shape (N,).

    Returns:
        A scalar, or shape (N,); computed in float32 at least.

    Raises:
        ValueError: shapes do not match, the reduction is unknown, or a feature is NaN or infinite.

    Reference:
        Heo et al., "A Comprehensive Overhaul of Feature Distillation", 2019, section 3; paper and code agree.
    """
    check_maps(student_maps, teacher_maps)
    check_same_shape(student_maps, teacher_maps)
    check_reduction(reduction)
    if margin.shape != student_maps.shape[1:2]:
        raise ValueError(
            f"margin has shape {tuple(margin.shape)}; give one number per channel, "
            f"shape ({student_maps.shape[1]},)."
        )
    student = full_precision(student_maps)
    target = torch.maximum(full_precision(teacher_maps), margin.to(student.dtype)[:, None, None])
    counts = (student > target) | (target > 0)
    loss = reduced((student - target).square() * counts, reduction)
    return check_finite(loss, "feature maps", student=student_maps, teacher=teacher_maps)


def review_loss(student_maps: Tensor | Sequence[Tensor], teacher_maps: Tensor | Sequence[Tensor]) -> Tensor:
    r"""Hierarchical context loss of ReviewKD: squared differences at full size, and averaged to 4, 2, 1.

    .. math:: \sum_j \frac{\sum_k 2^{-k} \, \mathrm{MSE}(\mathrm{pool}_k f^s_j, \mathrm{pool}_k f^t_j)}
        {\sum_k 2^{-k}}

    with k = 0 the maps as they are and k = 1, 2, … those of 4×4, 2×2 and 1×1 that are smaller than the maps.

    Args:
        student_maps: fused maps of the student, one tensor (N, C, H, W) or a list with one entry per stage.
        teacher_maps: as many, with the same shapes.

    Returns:
        A scalar; computed in float32 at least.

    Raises:
        ValueError: the lists differ in length, shapes do not match, or a feature is NaN or infinite.

    Reference:
        Chen et al., "Distilling Knowledge via Knowledge Review", 2021, section 3.4. The paper names the
        pyramid only; sizes and weights are those of the authors' code.
    """
    layers = check_layers(student_maps, teacher_maps)
    for student, teacher in layers:
        check_same_shape(student, teacher)
    return torch.stack([_hierarchical_loss(student, teacher) for student, teacher in layers]).sum()


def _hierarchical_loss(student: Tensor, teacher: Tensor) -> Tensor:
    difference = full_precision(student) - full_precision(teacher)
    loss, weight, total = difference.square().mean(), 1.0, 1.0
    # Pooling is linear, so the difference is pooled. Where 4 divides both sides, the means of a level are
    # means of the level's before; elsewhere its windows overlap, and it starts from the whole map.
    even = all(side % 4 == 0 for side in difference.shape[2:])
    pooled = difference
    for size in (4, 2, 1):
        if size < min(difference.shape[2:]):
            weight /= 2
            total += weight
            pooled = F.adaptive_avg_pool2d(pooled if even else difference, size)
            loss = loss + weight * pooled.square().mean()
    return check_finite(loss / total, "feature maps", student=student, teacher=teacher)
