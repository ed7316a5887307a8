"""Feature maps of one size, and tokens in the place of maps."""

import math
from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

POOLINGS: dict[str, Callable[[Tensor, tuple[int, int]], Tensor]] = {
    "max": F.adaptive_max_pool2d,
    "average": F.adaptive_avg_pool2d,
}


def check_pooling(pooling: str) -> None:
    """Raise ValueError unless the pooling is one of POOLINGS."""
    if pooling not in POOLINGS:
        raise ValueError(f"pooling is {pooling!r}; choose one of {', '.join(POOLINGS)}.")


def to_smaller_size(first: Tensor, second: Tensor, pooling: str) -> tuple[Tensor, Tensor]:
    """Both maps (N, C, H, W) at the smaller height and the smaller width of the two, by adaptive pooling."""
    size = (min(first.shape[2], second.shape[2]), min(first.shape[3], second.shape[3]))
    pooled = [maps if maps.shape[2:] == size else POOLINGS[pooling](maps, size) for maps in (first, second)]
    return pooled[0], pooled[1]


def aligned(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Features that can be compared place by place: tokens beside the other network's maps become maps.

    A vision transformer has its patches as tokens (N, L, D), row by row. Beside maps (N, C, H, W) they are
    laid out in the same proportions, (N, D, h, w) with h : w = H : W. Up to two tokens in front that are no
    patches, of the class and of distillation, are left out there. All others stay as they are.

    Raises:
        ValueError: the tokens make no such grid, the two have not equally many tokens, or one has vectors and
            the other has not.
    """
    if (student.ndim, teacher.ndim) == (3, 4):
        return _grid("student", student, teacher), teacher
    if (student.ndim, teacher.ndim) == (4, 3):
        return student, _grid("teacher", teacher, student)
    if student.ndim != teacher.ndim:
        raise ValueError(
            f"the student gives {tuple(student.shape)} and the teacher {tuple(teacher.shape)}; tap layers "
            "that both give maps (N, C, H, W) or tokens (N, L, D), or both vectors (N, D)."
        )
    if student.ndim == 3 and student.shape[1] != teacher.shape[1]:
        raise ValueError(
            f"the student gives {student.shape[1]} tokens an image and the teacher {teacher.shape[1]}, which "
            "cannot be compared one by one; take networks that cut an image into as many patches and have as "
            "many tokens in front."
        )
    return student, teacher


def as_maps(features: Tensor) -> Tensor:
    """Tokens (N, L, D) as maps (N, D, L, 1), vectors (N, D) as maps (N, D, 1, 1), and maps as they are."""
    if features.ndim == 3:
        return features.mT[..., None]
    return features[..., None, None] if features.ndim == 2 else features


def _grid(whose: str, tokens: Tensor, maps: Tensor) -> Tensor:
    height, width = maps.shape[2:]
    divisor = math.gcd(height, width)
    rows, columns = height // divisor, width // divisor
    # At most one of the three fits, because no two such areas lie that near to one another.
    for others in (0, 1, 2):
        patches = tokens.shape[1] - others
        times = math.isqrt(max(0, patches) // (rows * columns))
        if patches == rows * columns * times**2 > 0:
            return tokens[:, others:].mT.reshape(*tokens.shape[::2], rows * times, columns * times)
    raise ValueError(
        f"the {whose} gives {tokens.shape[1]} tokens an image, which are no grid of the proportions of the "
        f"other network's maps, {height}×{width}, with at most two tokens before it; tap a layer that "
        "gives one for each patch."
    )
