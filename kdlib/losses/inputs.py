"""What every loss asks of its inputs, said in one sentence when it is not so."""

import math

import torch
from torch import Tensor

REDUCTIONS = ("batchmean", "mean", "sum", "none")


def check_logits(student_logits: Tensor, teacher_logits: Tensor) -> None:
    """Raise ValueError unless both are floating-point logits of one shape (N, C)."""
    for whose, logits in (("student", student_logits), ("teacher", teacher_logits)):
        _check_matrix(whose, logits)
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f"student logits have shape {tuple(student_logits.shape)} and teacher logits "
            f"{tuple(teacher_logits.shape)}; give both the same images and the same classes, (N, C)."
        )


def check_labels(student_logits: Tensor, labels: Tensor) -> None:
    """Raise ValueError unless `labels` are N class indices for logits of shape (N, C).

    The range of the labels is checked on the CPU only: on a GPU the check would wait for the device at
    every step, and `kdlib.data` has already checked every label when the data was loaded.
    """
    _check_matrix("student", student_logits)
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


def check_temperature(temperature: float) -> None:
    """Raise ValueError unless the temperature is a positive, finite number."""
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(
            f"temperature is {temperature}; give a finite number above 0 (1 leaves the logits alone)."
        )


def check_reduction(reduction: str) -> None:
    """Raise ValueError unless the reduction is one of REDUCTIONS."""
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction is {reduction!r}; choose one of {', '.join(REDUCTIONS)}.")


def check_finite(loss: Tensor, **logits: Tensor) -> Tensor:
    """Return `loss`, or raise ValueError naming the first of `logits` that made it NaN or infinite.

    Only on the CPU: reading one value back from a GPU at every step would stall it, and there the training
    loop watches the loss.
    """
    if loss.device.type != "cpu" or torch.compiler.is_compiling() or bool(loss.isfinite().all()):
        return loss
    for whose, values in logits.items():
        broken = ~values.isfinite()
        if broken.any():
            row = int(broken.any(dim=1).nonzero()[0])
            raise ValueError(
                f"{whose} logits hold {values.detach()[broken][0].item()} in row {row}; "
                "look for too high a learning rate, an overflow in half precision, or a broken checkpoint."
            )
    return loss


def full_precision(logits: Tensor) -> Tensor:
    """Half-precision logits as float32, others unchanged.

    The log of a summed softmax underflows in half precision, also under autocast.
    """
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def _check_matrix(whose: str, logits: Tensor) -> None:
    if logits.ndim != 2 or 0 in logits.shape or not logits.is_floating_point():
        raise ValueError(
            f"{whose} logits have shape {tuple(logits.shape)} and type {logits.dtype}; "
            "give floating-point numbers of shape (N, C), one row per image and one column per class."
        )
