"""Wide residual networks: fewer layers and more channels, batch norm and ReLU before each convolution."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from kdlib.models.init import init_weights

WIDE_RESNETS = ((40, 2), (16, 2), (40, 1), (16, 1))


class PreActivationBlock(nn.Module):
    """Batch norm, ReLU and a 3×3 convolution, twice, beside a shortcut.

    (N, in_channels, H, W) to (N, out_channels, H/stride, W/stride). Where the channels change, the
    shortcut is a 1×1 convolution of the activated input.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.shortcut: nn.Conv2d | None = None
        if in_channels != out_channels:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        activated = F.relu(self.bn1(x))
        out: Tensor = self.conv2(F.relu(self.bn2(self.conv1(activated))))
        return out + (x if self.shortcut is None else self.shortcut(activated))


class WideResNet(nn.Module):
    """WRN-d-k for 32×32 pictures: (N, in_channels, H, W) to logits (N, num_classes).

    The stages ``layer1``, ``layer2`` and ``layer3`` give maps of (N, 16k, H, W), (N, 32k, H/2, W/2) and
    (N, 64k, H/4, W/4), before the batch norm and ReLU that follow: those are ``layer2.0.bn1``,
    ``layer3.0.bn1`` and ``bn1``. There is no dropout.

    Args:
        depth: 6n + 4, d in the name.
        widen_factor: k in the name.

    Raises:
        ValueError: the depth is not 6n + 4, or the factor is below 1.

    Reference:
        Zagoruyko and Komodakis, "Wide Residual Networks", 2016.
    """

    def __init__(self, depth: int, widen_factor: int, num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        if depth < 10 or (depth - 4) % 6:
            raise ValueError(f"depth is {depth}; a wide ResNet has 6n + 4 layers: 10, 16, 22, …")
        if widen_factor < 1:
            raise ValueError(f"widen_factor is {widen_factor}; it must be at least 1.")
        blocks = (depth - 4) // 6
        first, second, third = (width * widen_factor for width in (16, 32, 64))
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.layer1 = _stage(16, first, blocks, stride=1)
        self.layer2 = _stage(first, second, blocks, stride=2)
        self.layer3 = _stage(second, third, blocks, stride=2)
        self.bn1 = nn.BatchNorm2d(third)
        self.classifier = nn.Linear(third, num_classes)
        init_weights(self)

    def forward(self, images: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(self.conv1(images))))
        logits: Tensor = self.classifier(F.relu(self.bn1(x)).mean(dim=(2, 3)))
        return logits


def wide_resnet(depth: int, widen_factor: int) -> Callable[..., WideResNet]:
    """A builder of the given depth and width, for the registry."""

    def build(num_classes: int, in_channels: int = 3) -> WideResNet:
        return WideResNet(depth, widen_factor, num_classes, in_channels)

    return build


def _stage(in_channels: int, out_channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = PreActivationBlock(in_channels, out_channels, stride)
    return nn.Sequential(
        first, *(PreActivationBlock(out_channels, out_channels, 1) for _ in range(blocks - 1))
    )
