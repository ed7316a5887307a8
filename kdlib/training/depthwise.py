"""Convolutions that are faster in float32 than in bfloat16, and stay so under autocast."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def strided_depthwise_in_float32(model: nn.Module) -> Iterator[None]:
    """Leave depthwise convolutions with a stride out of autocast on a CPU.

    For the gradient of their input oneDNN has no fast bfloat16 kernel: the four of MobileNetV2 take 187 of
    510 ms in a step of 32 images at 224 pixels, and 75 ms in float32. Without autocast nothing changes.
    """
    changed = [module for module in model.modules() if type(module) is nn.Conv2d and _is_slow(module)]
    for module in changed:
        # Another class for the same object keeps its weights, its path and its hooks.
        module.__class__ = _Float32Conv2d
    try:
        yield
    finally:
        for module in changed:
            module.__class__ = nn.Conv2d


class _Float32Conv2d(nn.Conv2d):
    def forward(self, maps: Tensor) -> Tensor:
        with torch.autocast(maps.device.type, enabled=False):
            return super().forward(maps.float()).to(maps.dtype)


def _is_slow(module: nn.Conv2d) -> bool:
    is_depthwise = module.groups == module.in_channels > 1
    return is_depthwise and max(module.stride) > 1 and module.weight.device.type == "cpu"
