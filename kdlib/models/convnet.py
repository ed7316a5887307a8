"""A convolutional network small enough to train in a second, in any width."""

from torch import Tensor, nn


class ConvNet(nn.Module):
    """Three 3×3 convolutions with batch norm, halving the picture twice, then the mean and a linear layer.

    (N, in_channels, H, W) to logits (N, num_classes). The widths are w, 2w and 4w. Width 4 has 2 thousand
    weights on ten classes of grey pictures, width 32 has 95 thousand.

    Raises:
        ValueError: the width is below 1.
    """

    def __init__(self, num_classes: int, in_channels: int = 3, width: int = 16) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"width is {width}; it must be at least 1.")
        self.features = nn.Sequential(
            *_conv_norm_relu(in_channels, width, stride=1),
            *_conv_norm_relu(width, 2 * width, stride=2),
            *_conv_norm_relu(2 * width, 4 * width, stride=2),
        )
        self.classifier = nn.Linear(4 * width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(images).mean(dim=(2, 3)))
        return logits


def _conv_norm_relu(in_channels: int, out_channels: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    return [convolution, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)]
