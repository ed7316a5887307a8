"""Directions and products of vectors, computed so that no size of feature breaks them."""

import torch
from torch import Tensor


def unit_length(values: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    """Vectors along `dim` divided by their L2 norm; a vector of zeros stays zero.

    Each vector is first divided by its largest entry, so that no square overflows or underflows. That entry
    is taken as a constant: the result does not depend on it, so the gradient is exact.
    """
    largest = values.detach().abs().amax(dim, keepdim=True)
    scaled = values / torch.where(largest > 0, largest, 1.0)
    length: Tensor = torch.linalg.vector_norm(scaled, dim=dim, keepdim=True)
    return scaled / length.clamp(min=0.5)  # at least 1, but for a vector of zeros


def centred(values: Tensor, dim: int) -> Tensor:
    """Values minus their mean along `dim`; exactly 0 where they differ by rounding only.

    Without that, dividing by the spread would turn rounding errors of equal values into a direction.
    """
    differences = values - values.mean(dim, keepdim=True)
    rounding = 16 * torch.finfo(values.dtype).eps * values.detach().abs().amax(dim, keepdim=True)
    constant = differences.detach().abs().amax(dim, keepdim=True) <= rounding
    return differences.masked_fill(constant, 0.0)


def inner_products(first: Tensor, second: Tensor) -> Tensor:
    """Inner products of all rows of `first`, (..., A, D), with all of `second`, (..., B, D): (..., A, B).

    Autocast would compute them in half precision, where differences of distances and angles are lost.
    """
    with torch.autocast(first.device.type, enabled=False):
        return first @ second.mT
