"""The CIFAR ResNets: 6n + 2 layers in three stages, of widths 16, 32 and 64 or four times as wide."""

from collections.abc import Callable
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from kdlib.models.init import init_weights

CIFAR_DEPTHS = (8, 14, 20, 32, 44, 56, 110)
CIFAR_DEPTHS_X4 = (8, 32)

Shortcut = Literal["pad", "projection"]


class PaddingShortcut(nn.Module):
    """Every second pixel, and zeros for the new channels: a shortcut without weights."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.new_channels = out_channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        before = self.new_channels // 2
        padding = (0, 0, 0, 0, before, self.new_channels - before)
        return F.pad(x[:, :, :: self.stride, :: self.stride], padding)


class BasicBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut.

    (N, in_channels, H, W) to (N, out_channels, H/stride, W/stride).
    Where the shape changes, the shortcut pads the new channels with zeros ("option A" of the paper) or is a
    1×1 convolution with batch norm ("option B"). The sum before the last ReLU is what enters ``relu``.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, shortcut: Shortcut = "pad") -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut = _shortcut(in_channels, out_channels, stride, shortcut)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        activated: Tensor = self.relu(out + self.shortcut(x))
        return activated


class CifarResNet(nn.Module):
    """ResNet for 32×32 pictures: (N, in_channels, H, W) to logits (N, num_classes).

    The stages ``layer1``, ``layer2`` and ``layer3`` give maps of (N, w, H, W), (N, 2w, H/2, W/2) and
    (N, 4w, H/4, W/4). Convolutions start from Kaiming's normal distribution, the classifier from Xavier's
    uniform one.

    The literature on distillation (RepDistiller and what followed it) writes "resnet8x4" and "resnet32x4" for
    a stem of 32 and stages of 64, 128 and 256. It uses projection shortcuts in all its ResNets, these two
    and the narrow ones. Here the narrow ones have the paper's padding shortcuts unless asked otherwise.

    Args:
        depth: 6n + 2 layers with weights, projections not counted.
        widths: channels of the stem and of the three stages.
        shortcut: "pad" (option A of the paper, without weights) or "projection" (option B).

    Raises:
        ValueError: the depth is not 6n + 2, or the shortcut is neither of the two.

    Reference:
        He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", 2016, section 4.2.
    """

    def __init__(
        self,
        depth: int,
        num_classes: int,
        in_channels: int = 3,
        widths: tuple[int, int, int, int] = (16, 16, 32, 64),
        shortcut: Shortcut = "pad",
    ) -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f"depth is {depth}; a CIFAR ResNet has 6n + 2 layers: 8, 14, 20, …")
        if shortcut not in ("pad", "projection"):
            raise ValueError(f"shortcut is {shortcut!r}; choose 'pad' or 'projection'.")
        blocks = (depth - 2) // 6
        stem, first, second, third = widths
        self.conv1 = nn.Conv2d(in_channels, stem, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.layer1 = _stage(stem, first, blocks, 1, shortcut)
        self.layer2 = _stage(first, second, blocks, 2, shortcut)
        self.layer3 = _stage(second, third, blocks, 2, shortcut)
        self.classifier = nn.Linear(third, num_classes)
        init_weights(self)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(images)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.classifier(x.mean(dim=(2, 3)))
        return logits


def cifar_resnet(depth: int) -> Callable[..., CifarResNet]:
    """A builder of the given depth, for the registry."""

    def build(num_classes: int, in_channels: int = 3, shortcut: Shortcut = "pad") -> CifarResNet:
        return CifarResNet(depth, num_classes, in_channels, shortcut=shortcut)

    return build


def cifar_resnet_x4(depth: int) -> Callable[..., CifarResNet]:
    """A builder of the given depth, four times as wide, for the registry."""

    def build(num_classes: int, in_channels: int = 3) -> CifarResNet:
        return CifarResNet(depth, num_classes, in_channels, (32, 64, 128, 256), "projection")

    return build


def _stage(
    in_channels: int, out_channels: int, blocks: int, stride: int, shortcut: Shortcut
) -> nn.Sequential:
    first = BasicBlock(in_channels, out_channels, stride, shortcut)
    return nn.Sequential(first, *(BasicBlock(out_channels, out_channels, 1) for _ in range(blocks - 1)))


def _shortcut(in_channels: int, out_channels: int, stride: int, kind: Shortcut) -> nn.Module:
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    if kind == "pad":
        return PaddingShortcut(in_channels, out_channels, stride)
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
    )
