"""What the live figures accept: arrays and tensors checked once, each fault told in one sentence."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np

MOST_CLASSES = 20


def array(name: str, values: Any, axes: str) -> np.ndarray:
    """A float64 array with as many dimensions as `axes` names ("N C"); takes tensors on any device.

    Raises:
        ValueError: where it is empty, has other dimensions, or holds NaN or an infinity.
    """
    if hasattr(values, "detach"):
        values = values.detach().cpu()
    found = np.asarray(values, dtype=np.float64)
    shape = f"({axes.replace(' ', ', ')})"
    if found.ndim != len(axes.split()):
        raise ValueError(f"{name} must have the shape {shape}, but has {found.shape}")
    if found.size == 0:
        raise ValueError(f"{name} must hold something of the shape {shape}, but is empty: {found.shape}")
    if not np.isfinite(found).all():
        place = tuple(int(i) for i in np.argwhere(~np.isfinite(found))[0])
        raise ValueError(f"{name} must be finite, but holds {found[place]} at {place}: leave that row out")
    return found


def probabilities(name: str, values: Any) -> np.ndarray:
    """An (K, C) array whose rows are probabilities."""
    found = array(name, values, "K C")
    if found.min() < 0 or abs(found.sum(axis=1) - 1).max() > 1e-3:
        row = int(np.argmax((found < 0).any(axis=1) | (abs(found.sum(axis=1) - 1) > 1e-3)))
        raise ValueError(
            f"{name} must be probabilities, but row {row} sums to {found[row].sum():.4g} "
            f"and its smallest value is {found[row].min():.4g}: apply softmax to logits first"
        )
    return found


def images(values: Any, count: int) -> dict[str, Any]:
    """`count` images as their shape and base64 bytes, from uint8 (K, H, W), (K, 1, H, W) or (K, 3, H, W)."""
    found = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
    if found.dtype != np.uint8:
        raise ValueError(f"images must be uint8 from 0 to 255, but are {found.dtype}")
    if found.ndim == 3:
        found = found[:, None]
    if found.ndim != 4 or found.shape[1] not in (1, 3) or found.size == 0:
        raise ValueError(
            f"images must have the shape (K, H, W), (K, 1, H, W) or (K, 3, H, W), but have {found.shape}"
        )
    if len(found) != count:
        raise ValueError(f"images must hold one image for each of the {count} rows, but hold {len(found)}")
    found = np.ascontiguousarray(found.transpose(0, 2, 3, 1))
    return {"shape": list(found.shape), "bytes": base64.b64encode(found.tobytes()).decode("ascii")}


def class_names(classes: Sequence[Any] | None, count: int, shown: int | None = None) -> list[str]:
    """The names of `count` classes, as strings; their numbers where no names are given.

    A figure shows all of them, or so many as `shown` says.
    """
    if shown is None and not 2 <= count <= MOST_CLASSES:
        raise ValueError(f"a live figure shows 2 to {MOST_CLASSES} classes, but the logits have {count}")
    if shown is not None and not 1 <= shown <= min(MOST_CLASSES, count - 1):
        raise ValueError(
            f"likeliest must be from 1 to {MOST_CLASSES}, and below the {count} classes of the logits, "
            f"but is {shown}"
        )
    names = [str(name) for name in (range(count) if classes is None else classes)]
    if len(names) != count:
        raise ValueError(f"classes must name the {count} classes of the logits, but has {len(names)} names")
    return names


def class_numbers(name: str, values: Any, count: int, classes: int) -> list[int]:
    """`count` class numbers, each from 0 to `classes` - 1."""
    found = array(name, values, "N")
    if len(found) != count:
        raise ValueError(f"{name} must hold one label for each of the {count} rows, but holds {len(found)}")
    for label in found:
        class_number(name, label, classes)
    return [int(label) for label in found]


def class_number(name: str, value: Any, classes: int) -> int:
    """One class number, from 0 to `classes` - 1."""
    if not float(value).is_integer() or not 0 <= int(value) < classes:
        raise ValueError(f"{name} must be whole numbers from 0 to {classes - 1}, but there is {value:g}")
    return int(value)


def between(name: str, value: float, low: float, high: float) -> float:
    """A control's value within what the figure can show."""
    if not low <= value <= high:
        raise ValueError(f"{name} must be from {low:g} to {high:g}, but is {value:g}")
    return float(value)
