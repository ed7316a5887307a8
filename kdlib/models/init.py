"""The weights that the networks written here start from."""

from torch import nn


def init_weights(network: nn.Module) -> None:
    """Kaiming's normal distribution for convolutions, Xavier's uniform one for linear layers, no biases."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
