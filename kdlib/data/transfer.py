"""Tensors on their way from the CPU to where the training is."""

import torch
from torch import Tensor


def send(tensor: Tensor, device: torch.device | str) -> Tensor:
    """The tensor on a device, without waiting for what that device is still doing."""
    device = torch.device(device)
    # From ordinary memory a GPU's copy begins only when all work before it is done.
    pinned = tensor.pin_memory() if device.type == "cuda" and tensor.device.type == "cpu" else tensor
    return pinned.to(device, non_blocking=True)
