"""Losses on logits: what the label says, and what the teacher says."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlib.losses.inputs import (
    check_classes,
    check_finite,
    check_form,
    check_label_smoothing,
    check_labels,
    check_logits,
    check_matrix,
    check_more_than_two_classes,
    check_probabilities,
    check_reduction,
    check_temperature,
    check_weights,
    full_precision,
    reduced,
)
from kdlib.losses.vectors import centred, unit_length


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

    Of soft labels, such as mixup makes, it is :math:`-\frac{1}{N} \sum_{n, c} y_{n, c} \log p^s_{n, c}`.

    Args:
        student_logits: shape (N, C).
        labels: class indices, int64, shape (N,); or a probability for every class, floating, shape (N, C).
        label_smoothing: share of each label that is spread evenly over all C classes; 0 trusts the label.

    Returns:
        The mean over the batch, in nats.

    Raises:
        ValueError: shapes do not match, a label is out of range or no probability, a logit is NaN or
            infinite, or `label_smoothing` is outside [0, 1].
    """
    check_label_smoothing(label_smoothing)
    values = full_precision(student_logits)
    if labels.is_floating_point():
        check_probabilities(student_logits, labels)
        loss = F.cross_entropy(values, labels.to(values.dtype), label_smoothing=label_smoothing)
    else:
        check_labels(student_logits, labels)
        loss = F.cross_entropy(values, labels, label_smoothing=label_smoothing)
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
    loss = reduced(divergence, reduction) * temperature**2
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
    return check_finite(reduced(squares, reduction), student=student_logits, teacher=teacher_logits)


def dkd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
) -> Tensor:
    r"""Soft targets in two parts: how sure of the label, and how the other classes compare.

    .. math:: T^2 \left[ \alpha \, \mathrm{KL}(b^t \,\|\, b^s)
        + \beta \, \mathrm{KL}(\hat p^t \,\|\, \hat p^s) \right],
        \quad b = (p_y, 1 - p_y), \quad \hat p_c = \frac{p_c}{1 - p_y} \;\; (c \ne y), \quad
        p = \mathrm{softmax}(z / T)

    averaged over images. `soft_target_loss` is α = 1 and β = 1 − p^t_y, which all but drops the second part
    where the teacher is sure. With two classes the second part is 0, and α = 0 is refused.

    Args:
        student_logits: shape (N, C), C ≥ 2.
        teacher_logits: shape (N, C).
        labels: class indices, int64, shape (N,).
        alpha: weight of the label's part (TCKD), 0 or more.
        beta: weight of the other classes' part (NCKD), 0 or more; the paper uses 2 to 8 for CIFAR ResNets.
        temperature: T, above 0.

    Returns:
        A scalar in nats; computed in float32 at least, from logarithms, so that no probability underflows.

    Raises:
        ValueError: shapes do not match, there is one class, or two and α = 0, a label is out of range, the
            temperature is not above 0, a weight is negative, or a logit is NaN or infinite.

    Reference:
        Zhao et al., "Decoupled Knowledge Distillation", 2022. T² is in the authors' code and not in the
        paper's formula; it is in here. Their code also warms the whole loss up over 20 epochs.
    """
    check_logits(student_logits, teacher_logits)
    check_classes(student_logits)
    check_labels(student_logits, labels)
    check_temperature(temperature)
    check_weights(alpha=alpha, beta=beta)
    if not alpha:
        check_more_than_two_classes(
            student_logits, "there is one other class to compare", "give alpha above 0"
        )
    student = _label_and_others(full_precision(student_logits) / temperature, labels)
    teacher = _label_and_others(full_precision(teacher_logits) / temperature, labels)
    label_part, others_part = (
        F.kl_div(s, t, reduction="batchmean", log_target=True) for s, t in zip(student, teacher, strict=True)
    )
    loss = (alpha * label_part + beta * others_part) * temperature**2
    return check_finite(loss, student=student_logits, teacher=teacher_logits)


def dist_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    beta: float = 1.0,
    gamma: float = 1.0,
    temperature: float = 1.0,
    form: str = "paper",
) -> Tensor:
    r"""One minus Pearson's correlation with the teacher's probabilities, by image and by class.

    .. math:: T^2 \left[ \beta \Bigl(1 - \frac{1}{N} \sum_n \rho(p^s_{n \cdot}, p^t_{n \cdot})\Bigr)
        + \gamma \Bigl(1 - \frac{1}{C} \sum_c \rho(p^s_{\cdot c}, p^t_{\cdot c})\Bigr) \right],
        \quad p = \mathrm{softmax}(z / T)

    The first part (inter-class) asks that the classes keep their relation within an image, the second
    (intra-class) that the images keep theirs within a class. Neither asks for equal probabilities: a student
    whose probabilities are a·p^t + b with a > 0 has a loss of 0.

    A row or column of one value has no correlation and counts as ρ = 0. So a batch of one image has an
    intra-class part of γT², with no gradient. Two values have ρ = 1 or −1, with no gradient either: two
    images teach nothing by the second part, and two classes nothing by the first, so that γ = 0 is refused
    there.

    Args:
        student_logits: shape (N, C), C ≥ 2.
        teacher_logits: shape (N, C).
        beta: weight of the inter-class part, 0 or more.
        gamma: weight of the intra-class part, 0 or more.
        temperature: T, above 0; the paper uses 1 on ImageNet and 4 on CIFAR-100.
        form: "paper" (default) is Pearson's correlation; "code" adds 1e-8 to its denominator, as the authors'
            code does. That matters: a class that no image of the batch is likely to be has a denominator far
            below 1e-8, and then counts as ρ = 0 in "code".

    Returns:
        A scalar between 0 and 2T²(β + γ); computed in float32 at least.

    Raises:
        ValueError: shapes do not match, there is one class, or two and γ = 0, the temperature is not above 0,
            a weight is negative, the form is unknown, or a logit is NaN or infinite.

    Reference:
        Huang et al., "Knowledge Distillation from A Stronger Teacher", 2022. The code first released has
        no temperature; where later copies have one they multiply by T², as here.
    """
    check_logits(student_logits, teacher_logits)
    check_classes(student_logits)
    check_temperature(temperature)
    check_weights(beta=beta, gamma=gamma)
    if not gamma:
        check_more_than_two_classes(student_logits, "their correlation is 1 or −1", "give gamma above 0")
    check_form(form)
    student, teacher = softened(student_logits, temperature), softened(teacher_logits, temperature)
    inter = 1 - _pearson(student, teacher, 1, form).mean()
    intra = 1 - _pearson(student, teacher, 0, form).mean()
    loss = (beta * inter + gamma * intra) * temperature**2
    return check_finite(loss, student=student_logits, teacher=teacher_logits)


def standardize_logits(logits: Tensor, form: str = "paper") -> Tensor:
    r"""Logits of mean 0 and standard deviation 1 in each image.

    .. math:: \hat z_c = (z_c - \bar z) / \sigma, \quad \sigma^2 = \frac{1}{C} \sum_c (z_c - \bar z)^2

    Give both student and teacher through this to any loss on logits: the student then need not reach the
    teacher's range of logits, only its order and spacing. A row of equal logits becomes zeros.

    Args:
        logits: shape (N, C), C ≥ 3; those of two classes would become 1 and −1, whatever they were.
        form: "paper" (default) is the formula above; "code" is the authors' release, which has 1 / (C − 1)
            in σ² and adds 1e-7 to σ: results are smaller by √((C − 1) / C), 0.5 % with 100 classes.

    Returns:
        Shape (N, C), float32 at least.

    Raises:
        ValueError: the shape is not (N, C), there are fewer than three classes, the form is unknown, or a
            logit is NaN or infinite.

    Reference:
        Sun et al., "Logit Standardization in Knowledge Distillation", 2024, algorithm 1.
    """
    check_matrix("given", logits)
    check_classes(logits)
    check_more_than_two_classes(
        logits,
        "standardised they are 1 and −1 whatever they were",
        "take them as they are (standardize=False)",
    )
    check_form(form)
    num_classes = logits.shape[1]
    spread = centred(full_precision(logits), dim=1)
    if form == "paper":
        standard = unit_length(spread, dim=1) * math.sqrt(num_classes)
    else:
        sigma = torch.linalg.vector_norm(spread, dim=1, keepdim=True) / math.sqrt(num_classes - 1)
        standard = spread / (sigma + 1e-7)
    return check_finite(standard, given=logits)


def _label_and_others(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """log (p_y, 1 − p_y), shape (N, 2), and log p̂ with 0 in place of the label, shape (N, C)."""
    is_label = labels[:, None] == torch.arange(logits.shape[1], device=labels.device)
    others = logits.masked_fill(is_label, -torch.inf)
    log_parts = torch.stack([logits.gather(1, labels[:, None])[:, 0], others.logsumexp(dim=1)], dim=1)
    return log_parts.log_softmax(dim=1), others.log_softmax(dim=1).masked_fill(is_label, 0.0)


def _pearson(first: Tensor, second: Tensor, dim: int, form: str) -> Tensor:
    """Pearson's correlation along `dim`; 0 where one of the two does not vary."""
    first, second = centred(first, dim), centred(second, dim)
    if form == "paper":
        return (unit_length(first, dim) * unit_length(second, dim)).sum(dim)
    lengths: Tensor = torch.linalg.vector_norm(first, dim=dim) * torch.linalg.vector_norm(second, dim=dim)
    return (first * second).sum(dim) / (lengths + 1e-8)
