"""Feature maps of one size."""

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
