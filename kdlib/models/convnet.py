"""A convolutional network small enough to train in a second, in any width."""

from torch import Tensor, nn


class ConvNet(nn.Module):
    """Three 3×3 convolutions with batch norm, halving the picture twice, then the mean and a linear layer.

    (N, in_channels, H, W) to logits (N, num_classes). ``layer1``, ``layer2`` and ``layer3`` give maps of
    (N, w, H, W), (N, 2w, H/2, W/2) and (N, 4w, H/4, W/4). Width 4 has 2 thousand
    weights on ten classes of grey pictures, width 32 has 95 thousand.

    Raises:
        ValueError: the width is below 1.
    """

    def __init__(self, num_classes: int, in_channels: int = 3, width: int = 16) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"width is {width}; it must be at least 1.")
        self.layer1 = _conv_norm_relu(in_channels, width, stride=1)
        self.layer2 = _conv_norm_relu(width, 2 * width, stride=2)
        self.layer3 = _conv_norm_relu(2 * width, 4 * width, stride=2)
        self.classifier = nn.Linear(4 * width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.layer3(self.layer2(self.layer1(images)))
        logits: Tensor = self.classifier(maps.mean(dim=(2, 3)))
        return logits


def _conv_norm_relu(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))
