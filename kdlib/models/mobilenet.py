"""MobileNets-S, -M and -L: MobileNetV2 with an overlapping group convolution in every block."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from kdlib.models.init import init_weights

EXPANSIONS = {"s": 2, "m": 4, "l": 6}

# Output channels, number of blocks and stride of the first, as in MobileNetV2; the first stage never expands.
_STAGES = ((16, 1, 1), (24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1))


class OverlappingGroupConv(nn.Module):
    r"""A 1×1 convolution in four groups of channels, where each group also sees its neighbour.

    With the input's channels cut into quarters :math:`x_0 … x_3` and the output's into :math:`y_0 … y_3`,

    .. math:: y_k = W_k \, [x_k, x_{(k+1) \bmod 4}]

    (N, in_channels, H, W) to (N, out_channels, H, W), with half the weights of a full 1×1 convolution. An
    ordinary grouped convolution has a quarter, but no channel of one group ever meets those of another.

    Raises:
        ValueError: a number of channels is not a multiple of four.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        if in_channels % 4 or out_channels % 4:
            raise ValueError(
                f"{in_channels} channels to {out_channels} cannot be cut into four groups; "
                "give multiples of four."
            )
        # Four convolutions and not one with groups=4, whose input would be a copy of twice the channels:
        # this is as fast or faster on a CPU, most of all with channels last.
        self.groups = nn.ModuleList(
            nn.Conv2d(in_channels // 2, out_channels // 4, 1, bias=False) for _ in range(4)
        )

    def forward(self, x: Tensor) -> Tensor:
        quarters = x.chunk(4, dim=1)
        pairs = (torch.cat([quarters[k], quarters[(k + 1) % 4]], dim=1) for k in range(4))
        return torch.cat([group(pair) for group, pair in zip(self.groups, pairs, strict=True)], dim=1)


class InvertedResidual(nn.Module):
    """Expand by overlapping groups, filter each channel, project.

    (N, in_channels, H, W) to (N, out_channels, H/stride, W/stride). A shortcut joins input
    and output where their shapes agree.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = expansion * in_channels
        self.expand = nn.Sequential(OverlappingGroupConv(in_channels, hidden), nn.BatchNorm2d(hidden))
        self.filter = _conv_norm_silu(hidden, hidden, 3, stride, groups=hidden)
        self.project = nn.Sequential(
            nn.Conv2d(hidden, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels)
        )
        self.has_shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.project(self.filter(self.expand(x)))
        return x + out if self.has_shortcut else out


class MobileNets(nn.Module):
    """The students of the Caltech experiments: (N, in_channels, H, W) to logits (N, num_classes).

    What is known. The seed's text says that its student is MobileNetV2 with an "overlapping group convolution
    block" as inverted residual block, and that MobileNets-M has an expansion rate of 4. Its author's program
    (``model_s.py`` of github.com/Fronik-Lihaotian/knowledgeDistillation) shows the rest, and this network
    follows it, written anew: quarters of the channels that overlap cyclically, in the expansion only; SiLU in
    place of ReLU6, and none after the expansion; an overlapping convolution in the first block too, which in
    MobileNetV2 expands nothing and has none; expansion 2 for the small network and 4 for the medium one.

    What is our reading. The program names no large network; 6, MobileNetV2's own expansion and the program's
    default, is taken for MobileNets-L. The weights start as everywhere in this package, and not from the
    program's narrow normal distribution in the classifier. Its width multiplier is left out.

    The seven stages are ``layer1`` to ``layer7``; the picture is halved by the stem and by stages 2, 3, 4
    and 6, to 7×7 for one of 224×224.

    Args:
        expansion: channels inside a block, in multiples of those that enter; the first block never expands.

    Raises:
        ValueError: the expansion is below 1.

    Reference:
        Sandler, Howard, Zhu, Zhmoginov and Chen, "MobileNetV2: Inverted Residuals and Linear
        Bottlenecks", 2018.
    """

    def __init__(self, expansion: int, num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        if expansion < 1:
            raise ValueError(f"expansion is {expansion}; it must be at least 1.")
        self.stem = _conv_norm_silu(in_channels, 32, 3, stride=2)
        channels = 32
        for number, (out_channels, blocks, stride) in enumerate(_STAGES, start=1):
            factor = expansion if number > 1 else 1
            self.add_module(f"layer{number}", _stage(channels, out_channels, blocks, stride, factor))
            channels = out_channels
        self.head = _conv_norm_silu(channels, 1280, 1, stride=1)
        self.dropout = nn.Dropout(0.2)
        self.classifier = nn.Linear(1280, num_classes)
        init_weights(self)

    def forward(self, images: Tensor) -> Tensor:
        x = self.stem(images)
        for number in range(1, len(_STAGES) + 1):
            x = self.get_submodule(f"layer{number}")(x)
        logits: Tensor = self.classifier(self.dropout(self.head(x).mean(dim=(2, 3))))
        return logits


def mobilenets(expansion: int) -> Callable[..., MobileNets]:
    """A builder of the given expansion, for the registry."""

    def build(num_classes: int, in_channels: int = 3) -> MobileNets:
        return MobileNets(expansion, num_classes, in_channels)

    return build


def _stage(in_channels: int, out_channels: int, blocks: int, stride: int, expansion: int) -> nn.Sequential:
    first = InvertedResidual(in_channels, out_channels, stride, expansion)
    rest = (InvertedResidual(out_channels, out_channels, 1, expansion) for _ in range(blocks - 1))
    return nn.Sequential(first, *rest)


def _conv_norm_silu(
    in_channels: int, out_channels: int, size: int, stride: int, groups: int = 1
) -> nn.Sequential:
    convolution = nn.Conv2d(
        in_channels, out_channels, size, stride, padding=size // 2, groups=groups, bias=False
    )
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels), nn.SiLU())
