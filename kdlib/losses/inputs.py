"""What every loss asks of its inputs, said in one sentence when it is not so; and how it sums over them."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

REDUCTIONS = ("batchmean", "mean", "sum", "none")
FORMS = ("paper", "code")


def check_logits(student_logits: Tensor, teacher_logits: Tensor) -> None:
    """Raise ValueError unless both are floating-point logits of one shape (N, C)."""
    for whose, logits in (("student", student_logits), ("teacher", teacher_logits)):
        check_matrix(whose, logits)
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f"student logits have shape {tuple(student_logits.shape)} and teacher logits "
            f"{tuple(teacher_logits.shape)}; give both the same images and the same classes, (N, C)."
        )


def check_matrix(whose: str, values: Tensor, what: str = "logits") -> None:
    """Raise ValueError unless these are floating-point numbers of shape (N, C)."""
    if values.ndim != 2 or 0 in values.shape or not values.is_floating_point():
        columns = "class" if what == "logits" else "feature"
        raise ValueError(
            f"{whose} {what} have shape {tuple(values.shape)} and type {values.dtype}; "
            f"give floating-point numbers of shape (N, C), one row per image and one column per {columns}."
        )


def check_labels(student_logits: Tensor, labels: Tensor) -> None:
    """Raise ValueError unless `labels` are N class indices for logits of shape (N, C).

    The range of the labels is checked on the CPU only: on a GPU the check would wait for the device at
    every step, and `kdlib.data` has already checked every label when the data was loaded.
    """
    check_matrix("student", student_logits)
    if labels.dtype != torch.int64 or labels.shape != student_logits.shape[:1]:
        raise ValueError(
            f"labels have shape {tuple(labels.shape)} and type {labels.dtype}; "
            f"give {student_logits.shape[0]} class indices of type torch.int64, one per row of logits."
        )
    if labels.device.type == "cpu" and not torch.compiler.is_compiling():
        num_classes = student_logits.shape[1]
        outside = labels[(labels < 0) | (labels >= num_classes)]
        if outside.numel():
            raise ValueError(
                f"label {int(outside[0])} is out of range; with {num_classes} classes "
                f"labels run from 0 to {num_classes - 1}."
            )


def check_probabilities(student_logits: Tensor, labels: Tensor) -> None:
    """Raise ValueError unless `labels` are a probability for every class, in the shape of the logits (N, C).

    Their values are checked on the CPU only, as those of class indices are.
    """
    check_matrix("student", student_logits)
    if labels.shape != student_logits.shape:
        raise ValueError(
            f"labels have shape {tuple(labels.shape)} and the student's logits "
            f"{tuple(student_logits.shape)}; give a probability for every class of every image."
        )
    if labels.device.type == "cpu" and not torch.compiler.is_compiling():
        values = labels.float()
        if not (bool((values >= 0).all()) and bool(((values.sum(1) - 1).abs() < 0.01).all())):
            raise ValueError("labels are no probabilities; give rows of numbers from 0 to 1 whose sum is 1.")


def check_temperature(temperature: float) -> None:
    """Raise ValueError unless the temperature is a positive, finite number."""
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(
            f"temperature is {temperature}; give a finite number above 0 (1 leaves the logits alone)."
        )


def check_label_smoothing(label_smoothing: float) -> None:
    """Raise ValueError unless this is a share."""
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"label_smoothing is {label_smoothing}; give a share between 0 and 1.")


def check_exponent(p: float) -> None:
    """Raise ValueError unless this can be the exponent of an attention map."""
    if not 1 <= p < math.inf:
        raise ValueError(f"p is {p}; give a finite exponent of 1 or more (2 is the paper's best).")


def check_order(order: int) -> None:
    """Raise ValueError unless an expansion can have this order."""
    if order < 1:
        raise ValueError(f"order is {order}; give 1 or more terms of the expansion.")


def check_above_zero(**numbers: float) -> None:
    """Raise ValueError, naming the first of `numbers` that is not above 0 or not finite."""
    for name, number in numbers.items():
        if not (math.isfinite(number) and number > 0):
            raise ValueError(f"{name} is {number}; give a finite number above 0.")


def check_reduction(reduction: str) -> None:
    """Raise ValueError unless the reduction is one of REDUCTIONS."""
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction is {reduction!r}; choose one of {', '.join(REDUCTIONS)}.")


def check_form(form: str) -> None:
    """Raise ValueError unless the form is one of FORMS."""
    if form not in FORMS:
        raise ValueError(f"form is {form!r}; choose one of {', '.join(FORMS)}.")


def check_weights(**weights: float) -> None:
    """Raise ValueError, naming the first of `weights` that is negative, NaN or infinite."""
    for name, weight in weights.items():
        if not (math.isfinite(weight) and weight >= 0):
            raise ValueError(f"{name} is {weight}; give a finite weight of 0 or more.")


def check_classes(logits: Tensor) -> None:
    """Raise ValueError unless there are two classes at least."""
    if logits.shape[1] < 2:
        raise ValueError("logits have one class; this loss compares classes, give two or more.")


def check_more_than_two_classes(logits: Tensor, what: str, remedy: str) -> None:
    """Raise ValueError where two classes leave nothing to learn."""
    if logits.shape[1] == 2:
        raise ValueError(f"logits have two classes, and {what}, so nothing can be learnt from it; {remedy}.")


def check_positions(maps: Tensor, what: str) -> None:
    """Raise ValueError where maps have one position, which leaves nothing to learn."""
    if maps.shape[2:].numel() == 1:
        raise ValueError(
            f"the maps are 1×1, and {what} is then the same whatever the student computes, so nothing can be "
            "learnt from it; tap an earlier layer."
        )


def check_directions(student: Tensor, what: str) -> None:
    """Raise ValueError where features are one number an image, whose direction is its sign."""
    if student.shape[1] == 1:
        raise ValueError(
            f"the student has one feature an image, and {what} among such is ±1 whatever it computes, so "
            "nothing can be learnt from it; tap a wider layer."
        )


def check_vectors(student_features: Tensor, teacher_features: Tensor) -> None:
    """Raise ValueError unless both are floating-point (N, ...) for the same N images; widths may differ."""
    for whose, features in (("student", student_features), ("teacher", teacher_features)):
        if features.ndim < 2 or 0 in features.shape or not features.is_floating_point():
            raise ValueError(
                f"{whose} features have shape {tuple(features.shape)} and type {features.dtype}; "
                "give floating-point numbers of shape (N, D), (N, L, D) or (N, C, H, W)."
            )
    _check_same_images(student_features, teacher_features)


def check_maps(student_maps: Tensor, teacher_maps: Tensor) -> None:
    """Raise ValueError unless both are maps (N, C, H, W) of the same N images; C, H and W may differ."""
    check_map("student", student_maps)
    check_map("teacher", teacher_maps)
    _check_same_images(student_maps, teacher_maps)


def check_places(student_features: Tensor, teacher_features: Tensor) -> None:
    """Raise ValueError unless both are maps (N, C, H, W) or tokens (N, L, D) of the same N images."""
    check_place("student", student_features)
    check_place("teacher", teacher_features)
    _check_same_images(student_features, teacher_features)


def check_place(whose: str, features: Tensor) -> None:
    """Raise ValueError unless these are floating-point maps (N, C, H, W) or tokens (N, L, D)."""
    if features.ndim != 3 or 0 in features.shape or not features.is_floating_point():
        check_map(whose, features, " or (N, L, D)")


def check_map(whose: str, maps: Tensor, others: str = "") -> None:
    """Raise ValueError unless these are floating-point feature maps (N, C, H, W)."""
    if maps.ndim != 4 or 0 in maps.shape or not maps.is_floating_point():
        raise ValueError(
            f"{whose} feature maps have shape {tuple(maps.shape)} and type {maps.dtype}; "
            f"give floating-point numbers of shape (N, C, H, W){others}."
        )


def check_same_shape(student_features: Tensor, teacher_features: Tensor) -> None:
    """Raise ValueError unless both features have one shape."""
    if student_features.shape != teacher_features.shape:
        raise ValueError(
            f"student features have shape {tuple(student_features.shape)} and teacher features "
            f"{tuple(teacher_features.shape)}; bring them to one shape with a regressor on the student."
        )


def check_layers(
    student_maps: Tensor | Sequence[Tensor],
    teacher_maps: Tensor | Sequence[Tensor],
    check_pair: Callable[[Tensor, Tensor], None] = check_maps,
) -> list[tuple[Tensor, Tensor]]:
    """Pairs of maps, one per layer, from one map each or from two lists of the same length.

    Raises:
        ValueError: the lists are empty or differ in length, or `check_pair` refuses a pair.
    """
    student = [student_maps] if isinstance(student_maps, Tensor) else list(student_maps)
    teacher = [teacher_maps] if isinstance(teacher_maps, Tensor) else list(teacher_maps)
    if not student or len(student) != len(teacher):
        raise ValueError(
            f"the student gives {len(student)} feature maps and the teacher {len(teacher)}; "
            "give one or more, and as many of one as of the other."
        )
    for pair in zip(student, teacher, strict=True):
        check_pair(*pair)
    return list(zip(student, teacher, strict=True))


class DivergedError(ValueError):
    """A network's answers, or the loss, are NaN or infinite."""


def check_finite(loss: Tensor, what: str = "logits", **values: Tensor) -> Tensor:
    """Return `loss`, or raise DivergedError naming the first of `values` that made it NaN or infinite.

    Only on the CPU: reading one value back from a GPU at every step would stall it, and there the training
    loop watches the loss.
    """
    if loss.device.type != "cpu" or torch.compiler.is_compiling() or bool(loss.isfinite().all()):
        return loss
    for whose, tensor in values.items():
        broken = ~tensor.isfinite()
        if broken.any():
            row = int(broken.flatten(1).any(dim=1).nonzero()[0])
            raise DivergedError(
                f"{whose} {what} hold {tensor.detach()[broken][0].item()} in row {row}; "
                "look for too high a learning rate, an overflow in half precision, or a broken checkpoint."
            )
    return loss


def reduced(values: Tensor, reduction: str) -> Tensor:
    """(N, ...) to a scalar, or to (N,) for "none"."""
    if reduction == "batchmean":
        return values.sum() / values.shape[0]
    if reduction == "mean":
        return values.mean()
    return values.sum() if reduction == "sum" else values.flatten(1).sum(dim=1)


def full_precision(logits: Tensor) -> Tensor:
    """Half-precision logits as float32, others unchanged.

    The log of a summed softmax underflows in half precision, also under autocast.
    """
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def _check_same_images(student_features: Tensor, teacher_features: Tensor) -> None:
    if student_features.shape[0] != teacher_features.shape[0]:
        raise ValueError(
            f"student features have shape {tuple(student_features.shape)} and teacher features "
            f"{tuple(teacher_features.shape)}; give both the same images, N."
        )
