"""What people run today: a DataLoader, torchvision's transforms, float32, and the tutorial's loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import datasets, transforms

Loss = Callable[[nn.Module, nn.Module, Tensor, Tensor], Tensor]


class Pictures(Dataset[Any]):
    """Small pictures in memory, as torchvision's CIFAR-10 keeps and returns them.

    Args:
        images: uint8, shape (N, H, W, 3).
        labels: shape (N,).
        transform: from a PIL image to a tensor.
    """

    def __init__(self, images: Any, labels: list[int], transform: Callable[[Any], Tensor]) -> None:
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def small_pictures(images: Any, labels: list[int]) -> Dataset[Any]:
    """The transforms that everyone trains CIFAR with."""
    steps = [
        transforms.RandomCrop(32, padding=4),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize((0.5,) * 3, (0.25,) * 3),
    ]
    return Pictures(images, labels, transforms.Compose(steps))


def photographs(folder: Path) -> Dataset[Any]:
    """JPEG files, read and augmented one at a time."""
    steps = [
        transforms.RandomResizedCrop(224),
        transforms.RandomHorizontalFlip(),
        transforms.RandAugment(),
        transforms.ToTensor(),
        transforms.Normalize((0.5,) * 3, (0.25,) * 3),
        transforms.RandomErasing(),
    ]
    dataset: Dataset[Any] = datasets.ImageFolder(folder, transforms.Compose(steps))
    return dataset


def loader(dataset: Dataset[Any], batch_size: int, workers: int) -> Iterable[tuple[Tensor, Tensor]]:
    """Batches in a random order, the last smaller one left out."""
    return DataLoader(
        dataset,
        batch_size,
        shuffle=True,
        num_workers=workers,
        drop_last=True,
        persistent_workers=workers > 0,
    )


def distillation_loss(student: nn.Module, teacher: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Hinton's loss: 0.1 of the labels' and 0.9 of the soft targets' at temperature 4."""
    with torch.no_grad():
        teacher_logits = teacher(images)
    student_logits = student(images)
    soft_targets = F.softmax(teacher_logits / 4, dim=1)
    soft_loss = (
        F.kl_div(
            F.log_softmax(student_logits / 4, dim=1),
            soft_targets,
            reduction="batchmean",
        )
        * 16
    )
    return 0.1 * F.cross_entropy(student_logits, labels) + 0.9 * soft_loss


def attention_loss(student: nn.Module, teacher: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """The labels' loss and 1000 times attention transfer, as its authors compute it, in three layers."""
    with torch.no_grad():
        _, theirs = with_maps(teacher, images)
    logits, ours = with_maps(student, images)
    loss = F.cross_entropy(logits, labels)
    for our_map, their_map in zip(ours, theirs, strict=True):
        loss = loss + 1000 * (attention(our_map) - attention(their_map)).pow(2).mean()
    return loss


def attention(maps: Tensor) -> Tensor:
    """Mean square over the channels, and norm 1 over the pixels."""
    return F.normalize(maps.pow(2).mean(1).flatten(1))


def with_maps(model: nn.Module, images: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Logits, and what the three layers gave out."""
    maps: list[Tensor] = []
    layers: list[nn.Module] = [model.get_submodule(f"layer{number}") for number in (1, 2, 3)]
    hooks = [layer.register_forward_hook(lambda _, _inputs, output: maps.append(output)) for layer in layers]
    logits = model(images)
    for hook in hooks:
        hook.remove()
    return logits, maps


def train_epoch(
    student: nn.Module,
    teacher: nn.Module,
    loss_of: Loss,
    batches: Iterable[tuple[Tensor, Tensor]],
    optimizer: torch.optim.Optimizer,
    device: torch.device,
) -> None:
    """The tutorial's loop."""
    teacher.eval()
    student.train()
    for images, labels in batches:
        images, labels = images.to(device), labels.to(device)
        optimizer.zero_grad()
        loss = loss_of(student, teacher, images, labels)
        loss.backward()
        optimizer.step()
