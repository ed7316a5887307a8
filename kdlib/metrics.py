"""What logits are worth, and how alike two networks are. Fractions between 0 and 1, unless said otherwise."""

import torch
import torch.nn.functional as F
from torch import Tensor


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of images whose likeliest class is their label.

    Args:
        logits: shape (N, C).
        labels: class indices, shape (N,).

    Raises:
        ValueError: shapes do not match, a label is out of range, or a logit is NaN.
    """
    _check(logits, labels)
    return (logits.argmax(dim=1) == labels).double().mean().item()


def top_k_accuracy(logits: Tensor, labels: Tensor, k: int = 5) -> float:
    """Share of images whose label is among the k likeliest classes.

    Raises:
        ValueError: as `accuracy`, or k is not between 1 and C.
    """
    _check(logits, labels)
    if not 1 <= k <= logits.shape[1]:
        raise ValueError(
            f"k is {k}; with {logits.shape[1]} classes it must be between 1 and {logits.shape[1]}."
        )
    return (logits.topk(k, dim=1).indices == labels[:, None]).any(dim=1).double().mean().item()


def negative_log_likelihood(logits: Tensor, labels: Tensor) -> float:
    """Mean of −log p(label), in nats, at temperature 1. Raises as `accuracy`."""
    _check(logits, labels)
    return F.cross_entropy(logits.double(), labels).item()


def expected_calibration_error(logits: Tensor, labels: Tensor, bins: int = 15) -> float:
    r"""How far confidence is from accuracy, :math:`\sum_b \frac{n_b}{N} |\mathrm{acc}_b - \mathrm{conf}_b|`.

    Images are sorted into bins of equal width by the probability of their likeliest class.

    Args:
        logits: shape (N, C).
        labels: class indices, shape (N,).
        bins: how many bins.

    Raises:
        ValueError: there is no bin, or as `accuracy`.

    Reference:
        Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", 2017, equation 3.
    """
    _check(logits, labels)
    if bins < 1:
        raise ValueError(f"bins is {bins}; it must be at least 1.")
    confidence, predicted = logits.double().softmax(dim=1).max(dim=1)
    # Written here, because Fabric imports torchmetrics wherever it is installed: over a second of each start.
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.double, device=logits.device)
    bin_number = torch.bucketize(confidence, edges[1:-1], right=True)
    gap = (predicted == labels).double() - confidence
    return gap.new_zeros(bins).index_add(0, bin_number, gap).abs().sum().item() / len(gap)


def agreement(student_logits: Tensor, teacher_logits: Tensor) -> float:
    """Share of images on which student and teacher name the same class, right or wrong.

    Args:
        student_logits: shape (N, C).
        teacher_logits: shape (N, C).

    Raises:
        ValueError: shapes do not match, or a logit is NaN.

    Reference:
        Stanton, Izmailov, Kirichenko, Alemi and Wilson, "Does Knowledge Distillation Really Work?", 2021.
    """
    if teacher_logits.shape != student_logits.shape:
        raise ValueError(
            f"student logits have shape {tuple(student_logits.shape)} and teacher logits "
            f"{tuple(teacher_logits.shape)}; give both the same images and classes."
        )
    teacher_labels = teacher_logits.argmax(dim=1)
    _check(teacher_logits, teacher_labels)
    return accuracy(student_logits, teacher_labels)


def linear_cka(first: Tensor, second: Tensor) -> float:
    r"""How alike two networks arrange the same images: linear centred kernel alignment.

    .. math::

        \mathrm{CKA}(X, Y) =
        \frac{\lVert Y^\top X \rVert_F^2}{\lVert X^\top X \rVert_F \, \lVert Y^\top Y \rVert_F}

    where X and Y are the features with the mean over images taken out. 1 where Y is X rotated, mirrored or
    scaled by one number; 0 where no feature of one goes along with any of the other. Computed in float64. The
    widths may differ. With fewer images than features even unrelated ones come out high: use many images.

    Args:
        first: features, one row an image, shape (N, D).
        second: of the same images in the same order, shape (N, E).

    Raises:
        ValueError: shapes do not fit, there are fewer than two images, a value is NaN or infinite, or one of
            the two is the same for every image.

    Reference:
        Kornblith, Norouzi, Lee and Hinton, "Similarity of Neural Network Representations Revisited", 2019.
    """
    if first.ndim != 2 or second.ndim != 2 or len(first) != len(second):
        raise ValueError(
            f"features have shapes {tuple(first.shape)} and {tuple(second.shape)}; give (N, D) and (N, E) of "
            "the same images, maps flattened or averaged first."
        )
    if len(first) < 2:
        raise ValueError(
            f"there are features of {len(first)} images; how images lie to one another takes 2 or more."
        )
    x, y = _centred(first, "first"), _centred(second, "second")
    return float((y.T @ x).square().sum() / ((x.T @ x).norm() * (y.T @ y).norm()))


def classification_metrics(
    logits: Tensor, labels: Tensor, teacher_logits: Tensor | None = None
) -> dict[str, float]:
    """What there is to say of logits, by name: what `kdlib.evaluate` reports and a run record keeps."""
    metrics = {
        "accuracy": accuracy(logits, labels),
        "top_5_accuracy": top_k_accuracy(logits, labels, k=min(5, logits.shape[1])),
        "nll": negative_log_likelihood(logits, labels),
        "ece": expected_calibration_error(logits, labels),
    }
    if teacher_logits is not None:
        metrics["agreement"] = agreement(logits, teacher_logits)
    return metrics


def _centred(features: Tensor, which: str) -> Tensor:
    values = features.double()
    if not values.isfinite().all():
        row = int((~values.isfinite()).any(dim=1).nonzero()[0])
        raise ValueError(f"the {which} features hold nan or an infinity in row {row}; leave that image out.")
    centred = values - values.mean(dim=0)
    # The mean of equal numbers is off by a rounding error.
    if centred.norm() <= 1e-12 * values.norm():
        raise ValueError(
            f"the {which} features are the same for all {len(values)} images; there is nothing to compare."
        )
    # Features may be so large or small that their fourth powers leave the range of float64.
    unit: Tensor = centred / centred.norm()
    return unit


def _check(logits: Tensor, labels: Tensor) -> None:
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not len(labels):
        raise ValueError(
            f"logits have shape {tuple(logits.shape)} and labels {tuple(labels.shape)}; "
            "give (N, C) and (N,) with N at least 1."
        )
    if logits.isnan().any():
        row = int(logits.isnan().any(dim=1).nonzero()[0])
        raise ValueError(f"the logits hold nan in row {row}; the model that made them has diverged.")
    outside = labels[(labels < 0) | (labels >= logits.shape[1])]
    if outside.numel():
        raise ValueError(
            f"label {int(outside[0])} is out of range; with {logits.shape[1]} classes "
            f"labels run from 0 to {logits.shape[1] - 1}."
        )
