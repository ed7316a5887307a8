"""Losses on relations: what the images of a batch are to one another, and the channels of a layer."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlib.losses.inputs import (
    check_above_zero,
    check_directions,
    check_finite,
    check_form,
    check_order,
    check_places,
    check_positions,
    check_same_shape,
    check_vectors,
    full_precision,
)
from kdlib.losses.maps import aligned, as_maps, to_smaller_size
from kdlib.losses.vectors import inner_products, unit_length

PKT_EPSILON = 1e-7


def rkd_distance_loss(student_features: Tensor, teacher_features: Tensor, form: str = "paper") -> Tensor:
    r"""Huber distance between the student's and the teacher's distances among images, each in its own unit.

    .. math:: \frac{1}{N (N - 1)} \sum_{i \ne j} \ell_1\!\left(\frac{\|s_i - s_j\|}{\mu_s},
        \frac{\|t_i - t_j\|}{\mu_t}\right), \quad \mu = \operatorname*{mean}_{i \ne j} \|x_i - x_j\|

    where ℓ₁ is ½d² up to :math:`|d| = 1` and :math:`|d| - ½` beyond. Moving, turning or scaling all features
    of a network changes nothing. One image has no distance: N = 1 gives 0.

    Args:
        student_features: shape (N, D); (N, L, D) and (N, C, H, W) are flattened.
        teacher_features: the same images; D may differ.
        form: "paper" (default) averages over the N(N − 1) pairs of different images, where the paper sums;
            "code" divides by N² as the authors' code does, because it counts the zeros of the diagonal.

    Returns:
        A scalar; computed in float32 at least.

    Raises:
        ValueError: the features are not of the same images, the form is unknown, or a feature is NaN or
            infinite.

    Reference:
        Park et al., "Relational Knowledge Distillation", 2019, section 3.2; the usual weight is 25.
    """
    student, teacher = _rows(student_features, teacher_features)
    check_form(form)
    count = len(student)
    if count < 2:
        return _nothing(student)
    distance = F.smooth_l1_loss(_relative_distances(student), _relative_distances(teacher), reduction="sum")
    pairs = count * (count - 1) if form == "paper" else count**2
    return check_finite(2 * distance / pairs, "features", student=student_features, teacher=teacher_features)


def rkd_angle_loss(student_features: Tensor, teacher_features: Tensor, form: str = "paper") -> Tensor:
    r"""Huber distance between the student's and the teacher's angles in all triangles of images.

    .. math:: \frac{1}{N (N - 1) (N - 2)} \sum_{i \ne j \ne k \ne i} \ell_1(\cos \angle s_i s_j s_k,
        \cos \angle t_i t_j t_k), \quad
        \cos \angle x_i x_j x_k = \left\langle \frac{x_i - x_j}{\|x_i - x_j\|},
        \frac{x_k - x_j}{\|x_k - x_j\|} \right\rangle

    where ℓ₁ is ½d² up to :math:`|d| = 1` and :math:`|d| - ½` beyond. Moving, turning or scaling all features
    of a network changes nothing. Fewer than three images have no angle: N < 3 gives 0. Where two images
    coincide to rounding the cosine counts as 0.

    The cosines come from the Gram matrix of the centred features, so that the largest tensors have N³
    numbers, not N³ times D or N² times D.

    Args:
        student_features: shape (N, D); (N, L, D) and (N, C, H, W) are flattened.
        teacher_features: the same images; D may differ.
        form: "paper" (default) averages over the N(N − 1)(N − 2) triples of different images, where the paper
            sums; "code" divides by N³ as the authors' code does, because it counts degenerate triples too.

    Returns:
        A scalar; computed in float32 at least.

    Raises:
        ValueError: the features are not of the same images, the student has one feature an image, the form is
            unknown, or a feature is NaN or infinite.

    Reference:
        Park et al., "Relational Knowledge Distillation", 2019, section 3.2; the usual weight is 50.
    """
    student, teacher = _rows(student_features, teacher_features)
    check_directions(student, "the cosine of an angle")
    check_form(form)
    count = len(student)
    if count < 3:
        return _nothing(student)
    angle = F.smooth_l1_loss(_cosines(student), _cosines(teacher), reduction="sum")
    triples = count * (count - 1) * (count - 2) if form == "paper" else count**3
    return check_finite(angle / triples, "features", student=student_features, teacher=teacher_features)


def similarity_preserving_loss(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    r"""Squared difference of the two networks' similarities among images, each row of norm 1.

    .. math:: \frac{1}{N^2} \|G^s - G^t\|_F^2, \quad G_{i \cdot} = \frac{(F F^\top)_{i \cdot}}
        {\|(F F^\top)_{i \cdot}\|_2}

    N = 1 gives 0: an image is only like itself.

    Args:
        student_features: shape (N, D); (N, L, D) and (N, C, H, W) are flattened.
        teacher_features: the same images; D may differ.

    Returns:
        A scalar; computed in float32 at least.

    Raises:
        ValueError: the features are not of the same images, or a feature is NaN or infinite.

    Reference:
        Tung and Mori, "Similarity-Preserving Knowledge Distillation", 2019, section 3. Paper and
        code agree; the usual weight is 3000.
    """
    student, teacher = _rows(student_features, teacher_features)
    difference = unit_length(inner_products(student, student), 1) - unit_length(
        inner_products(teacher, teacher), 1
    )
    return check_finite(
        difference.square().mean(), "features", student=student_features, teacher=teacher_features
    )


def correlation_congruence_loss(
    student_features: Tensor,
    teacher_features: Tensor,
    gamma: float = 0.4,
    order: int = 2,
    form: str = "paper",
) -> Tensor:
    r"""Squared difference of the two networks' kernel matrices among images.

    .. math:: \frac{1}{N^2} \sum_{i,j} (k(s_i, s_j) - k(t_i, t_j))^2, \quad
        k(x, y) = e^{-2\gamma} \sum_{p=0}^{P} \frac{(2\gamma)^p}{p!} \langle \hat x, \hat y \rangle^p,
        \quad \hat x = x / \|x\|

    k is the Gaussian kernel :math:`e^{-\gamma \|\hat x - \hat y\|^2}`, expanded to order P. N = 1 gives 0.

    The form "code" is what the authors gave to RepDistiller, and another loss altogether: the mean over
    neighbours in the batch of :math:`\langle |s_i - t_i|, |s_{i+1} - t_{i+1}| \rangle`. It compares each
    image with the teacher's, not images with one another, and depends on the order of the batch.

    Args:
        student_features: shape (N, D); (N, L, D) and (N, C, H, W) are flattened.
        teacher_features: the same images; D may differ, except in the form "code".
        gamma: γ of the Gaussian kernel, above 0; not used by "code".
        order: P, 1 or more; not used by "code".
        form: "paper" (default) or "code".

    Returns:
        A scalar; computed in float32 at least.

    Raises:
        ValueError: the features are not of the same images, or not of the same shape for "code", the student
            has one feature an image, γ or the order is out of range, the form is unknown, or a feature is NaN
            or infinite.

    Reference:
        Peng et al., "Correlation Congruence for Knowledge Distillation", 2019. In
        RepDistiller the weight is 0.02, for the form "code".
    """
    student, teacher = _rows(student_features, teacher_features)
    check_form(form)
    check_above_zero(gamma=gamma)
    check_order(order)
    if form == "paper":
        check_directions(student, "a cosine")
        loss = (
            (_gaussian_kernel(student, gamma, order) - _gaussian_kernel(teacher, gamma, order))
            .square()
            .mean()
        )
    else:
        check_same_shape(student_features, teacher_features)
        if len(student) < 2:
            return _nothing(student)
        difference = (student - teacher).abs()
        loss = (difference[:-1] * difference[1:]).sum(dim=1).mean()
    return check_finite(loss, "features", student=student_features, teacher=teacher_features)


def pkt_loss(student_features: Tensor, teacher_features: Tensor, form: str = "paper") -> Tensor:
    r"""Divergence of the student's from the teacher's probabilities that one image is another's neighbour.

    .. math:: \frac{1}{N} \sum_i \sum_{j \ne i} p^t_{j|i} \log \frac{p^t_{j|i}}{p^s_{j|i}}, \quad
        p_{j|i} = \frac{k_{ij}}{\sum_{l \ne i} k_{il}}, \quad k_{ij} = \tfrac12 (\cos(x_i, x_j) + 1)

    Inside the logarithm 1e-7 is added to both, as in the authors' code: images in opposite directions have
    k = 0. N ≤ 2 leaves no choice of neighbour and gives 0 in the form "paper"; in "code" N = 1 gives 0.

    Args:
        student_features: shape (N, D); (N, L, D) and (N, C, H, W) are flattened.
        teacher_features: the same images; D may differ.
        form: "paper" (default) is the formula above, where the paper sums over i; "code" counts each image as
            its own nearest neighbour too and takes the mean over all N² pairs, which is more than N times
            smaller: the usual weight 30000 belongs to it.

    Returns:
        A scalar in nats; computed in float32 at least.

    Raises:
        ValueError: the features are not of the same images, the student has one feature an image, the form is
            unknown, or a feature is NaN or infinite.

    Reference:
        Passalis and Tefas, "Learning Deep Representations with Probabilistic Knowledge Transfer", 2018.
    """
    student, teacher = _rows(student_features, teacher_features)
    check_directions(student, "a cosine")
    check_form(form)
    with_self = form == "code"
    student_p, teacher_p = _neighbours(student, with_self), _neighbours(teacher, with_self)
    terms = teacher_p * ((teacher_p + PKT_EPSILON).log() - (student_p + PKT_EPSILON).log())
    loss = terms.mean() if with_self else terms.sum() / len(student)
    return check_finite(loss, "features", student=student_features, teacher=teacher_features)


def nst_loss(student_maps: Tensor, teacher_maps: Tensor) -> Tensor:
    r"""Distance between the patterns of the two networks' channels: squared MMD with a polynomial kernel.

    .. math:: \frac{1}{N} \sum_n \left[ \frac{1}{C_s^2} \sum_{i,i'} k(\hat s_i, \hat s_{i'})
        + \frac{1}{C_t^2} \sum_{j,j'} k(\hat t_j, \hat t_{j'})
        - \frac{2}{C_s C_t} \sum_{i,j} k(\hat s_i, \hat t_j) \right], \quad k(x, y) = \langle x, y \rangle^2

    A channel is one sample: its map of H·W activations, scaled to L2 norm 1. The loss is 0 when the two sets
    of channels have the same mean of x xᵀ; in which order the channels come does not matter. With this kernel
    the bracket is :math:`\|\hat S^\top \hat S / C_s - \hat T^\top \hat T / C_t\|_F^2`, which is computed
    where there are fewer positions than channels.

    Args:
        student_maps: shape (N, C_s, H, W).
        teacher_maps: shape (N, C_t, H', W'). Where sizes differ, the larger maps are averaged down to the
            smaller by adaptive pooling, as RepDistiller does. Of tokens (N, L, D) a feature is a channel, and
            both have as many tokens. Beside maps they are laid out as such, without a token of the class or
            of distillation.

    Returns:
        A scalar; computed in float32 at least.

    Raises:
        ValueError: the maps are not of the same images, or 1×1, tokens are more or fewer than the teacher's
            or make no grid beside its maps, or a feature is NaN or infinite.

    Reference:
        Huang and Wang, "Like What You Like: Knowledge Distill via Neuron Selectivity Transfer", 2017,
        section 4 (polynomial kernel, d = 2, c = 0); its weight is λ / 2 and the half is not inside. The
        authors' code leaves the teacher's own term out, which moves the value and not the gradient.
    """
    check_places(student_maps, teacher_maps)
    ours, theirs = (as_maps(features) for features in aligned(student_maps, teacher_maps))
    maps = to_smaller_size(full_precision(ours), full_precision(theirs), "average")
    check_positions(maps[0], "a channel's pattern")
    student, teacher = (unit_length(features.flatten(2), dim=2) for features in maps)
    if student.shape[2] <= max(student.shape[1], teacher.shape[1]):
        difference = inner_products(student.mT, student.mT) / student.shape[1]
        difference = difference - inner_products(teacher.mT, teacher.mT) / teacher.shape[1]
        loss = difference.square().sum(dim=(1, 2)).mean()
    else:
        own = inner_products(student, student).square().mean()
        own = own + inner_products(teacher, teacher).square().mean()
        loss = own - 2 * inner_products(student, teacher).square().mean()
    return check_finite(loss, "feature maps", student=student_maps, teacher=teacher_maps)


def _rows(student_features: Tensor, teacher_features: Tensor) -> tuple[Tensor, Tensor]:
    """Both checked, as (N, D) in float32 at least."""
    check_vectors(student_features, teacher_features)
    return full_precision(student_features).flatten(1), full_precision(teacher_features).flatten(1)


def _nothing(features: Tensor) -> Tensor:
    """0, with a gradient of 0."""
    return features[:0].sum()


def _relative_distances(features: Tensor) -> Tensor:
    """Distances of the N(N − 1)/2 pairs in units of their mean; 0 where all images coincide."""
    distances = F.pdist(features)
    mean = distances.mean()
    return distances / torch.where(mean == 0, 1.0, mean)


def _cosines(features: Tensor) -> Tensor:
    """cos ∠ x_i x_j x_k at [j, i, k], shape (N, N, N); 0 where two of the three are one image."""
    features = features - features.mean(dim=0)
    gram = inner_products(features, features)
    norms = gram.diagonal()
    sums = norms[:, None] + norms
    squares = sums - 2 * gram
    # Below the rounding of the Gram matrix there is no direction from one image to the other.
    different = ~torch.eye(len(gram), dtype=torch.bool, device=gram.device)
    apart = ~(squares <= 8 * torch.finfo(gram.dtype).eps * sums) & different
    inverse = torch.where(apart, squares, 1.0).rsqrt() * apart
    # ⟨x_i − x_j, x_k − x_j⟩ = g_ik − (g_ij − ½ g_jj) − (g_jk − ½ g_jj)
    halves = gram - norms[:, None] / 2
    products = gram[None] - halves[:, :, None] - halves[:, None, :]
    return products * (inverse[:, :, None] * (inverse[:, None, :] * different))


def _gaussian_kernel(features: Tensor, gamma: float, order: int) -> Tensor:
    """exp(−γ‖x̂ − ŷ‖²) of all pairs, expanded to `order`, shape (N, N)."""
    directions = unit_length(features, dim=1)
    cosines = inner_products(directions, directions)
    kernel, term = torch.ones_like(cosines), torch.ones_like(cosines)
    for p in range(1, order + 1):
        term = term * cosines * (2 * gamma / p)
        kernel = kernel + term
    return kernel * math.exp(-2 * gamma)


def _neighbours(features: Tensor, with_self: bool) -> Tensor:
    """Probability that j is a neighbour of i at [i, j], shape (N, N)."""
    directions = unit_length(features, dim=1)
    kernel = (inner_products(directions, directions) + 1) / 2
    if not with_self:
        kernel = kernel.masked_fill(torch.eye(len(kernel), dtype=torch.bool, device=kernel.device), 0.0)
    kernel = kernel.clamp(min=0)
    return kernel / kernel.sum(dim=1, keepdim=True).clamp(min=PKT_EPSILON)
