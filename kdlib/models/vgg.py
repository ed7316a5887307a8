"""VGG for 32×32 pictures, as the literature on distillation uses it."""

from collections.abc import Callable

from torch import Tensor, nn

from kdlib.models.init import init_weights

# Convolutions in each of the five stages.
VGG_STAGES = {8: (1, 1, 1, 1, 1), 13: (2, 2, 2, 2, 2)}

_WIDTHS = (64, 128, 256, 512, 512)


class VGG(nn.Module):
    """VGG with batch norm and one linear layer: (N, in_channels, H, W) to logits (N, num_classes).

    The five stages ``layer1`` to ``layer5`` have 64, 128, 256, 512 and 512 channels. A 2×2 maximum follows
    each of the first three, so that a picture of 32×32 ends as 4×4; then come the mean and the classifier.
    It is the network of RepDistiller at 32×32, where one linear layer stands for the paper's three, which the
    depth still counts, and the convolutions keep their biases beside batch norm.

    The map before the last ReLU of a stage is what enters that ReLU: ``layer1.2:input`` in VGG-8,
    ``layer1.5:input`` in VGG-13.

    Args:
        depth: 8 or 13.

    Raises:
        ValueError: the depth is another.

    Reference:
        Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2015.
    """

    def __init__(self, depth: int, num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        if depth not in VGG_STAGES:
            raise ValueError(f"depth is {depth}; choose one of {', '.join(map(str, VGG_STAGES))}.")
        channels = (in_channels, *_WIDTHS)
        stages = [_stage(channels[i], channels[i + 1], n) for i, n in enumerate(VGG_STAGES[depth])]
        self.layer1, self.layer2, self.layer3, self.layer4, self.layer5 = stages
        self.pool = nn.MaxPool2d(2)
        self.classifier = nn.Linear(_WIDTHS[-1], num_classes)
        init_weights(self)

    def forward(self, images: Tensor) -> Tensor:
        x = self.pool(self.layer1(images))
        x = self.pool(self.layer2(x))
        x = self.pool(self.layer3(x))
        x = self.layer5(self.layer4(x))
        logits: Tensor = self.classifier(x.mean(dim=(2, 3)))
        return logits


def vgg(depth: int) -> Callable[..., VGG]:
    """A builder of the given depth, for the registry."""

    def build(num_classes: int, in_channels: int = 3) -> VGG:
        return VGG(depth, num_classes, in_channels)

    return build


def _stage(in_channels: int, out_channels: int, convolutions: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(convolutions):
        layers += [
            nn.Conv2d(in_channels, out_channels, 3, padding=1),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
        ]
        in_channels = out_channels
    return nn.Sequential(*layers)
