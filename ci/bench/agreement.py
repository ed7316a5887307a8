"""Whether `kdlib.fit` learns as well as the plain loop: the same networks, pictures and steps in both."""

from __future__ import annotations

import os
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from ci.bench import plain
from ci.bench.report import Part
from ci.chapters import Repository
from kdlib import Distiller, HardLabels, SoftTargets, create_model, evaluate, fit, load_data
from kdlib.data.split import ImageData
from kdlib.training import choose_device
from kdlib.training.precision import choose_precision

SEEDS = (0, 1, 2)
EPOCHS = 5
BATCH, LEARNING_RATE, WEIGHT_DECAY = 64, 0.05, 5e-4


def bench(_repository: Repository) -> Part:
    """Test accuracy of both ways after five epochs, for three seeds."""
    device = choose_device()
    data = pictures()
    teacher = network(data, "resnet20", seed=100)
    fit(teacher, data.train, epochs=EPOCHS, batch_size=BATCH, learning_rate=LEARNING_RATE, progress=False)
    slow = [accuracy(plainly(data, teacher, seed, device), data) for seed in tqdm(SEEDS, desc="plain loop")]
    fast = [accuracy(quickly(data, teacher, seed), data) for seed in tqdm(SEEDS, desc="kdlib.fit")]
    precision = choose_precision("auto", device, teacher)
    title = f"KD, ResNet-20 to ResNet-8, {len(data.train)} images of {data.name}, {EPOCHS} epochs"
    return Part(*summary(title, precision, slow, fast))


def summary(
    title: str, precision: str, slow: list[float], fast: list[float]
) -> tuple[list[str], list[dict[str, Any]]]:
    """Both means, and their difference in standard deviations over the seeds."""
    deviation = stdev(slow)
    difference = mean(fast) - mean(slow)
    agrees = abs(difference) <= deviation
    lines = [title]
    for name, values in (("plain loop, 32-true", slow), (f"kdlib.fit, {precision}", fast)):
        each = ", ".join(f"{value:.4f}" for value in values)
        lines.append(f"{name:<25} {mean(values):.4f} (seeds: {each})")
    verdict = "agree" if agrees else "DIFFER"
    lines.append(
        f"difference {difference:+.4f}, standard deviation over seeds {deviation:.4f}: they {verdict}"
    )
    row = {
        "title": title, "precision": precision, "plain": slow, "fast": fast,
        "difference": difference, "deviation": deviation, "agrees": agrees,
    }  # fmt: skip
    return lines, [row]


def pictures() -> ImageData:
    """A tenth of CIFAR-10 where it lies in KDLIB_DATA as JPEG files, else the digits, at 32 pixels."""
    folder = Path(os.environ.get("KDLIB_DATA", "")) / "cifar10-jpeg"
    if "KDLIB_DATA" not in os.environ or not folder.is_dir():
        return load_data("digits", size=32)
    data = load_data(f"folder:{folder}", size=32)
    return ImageData("CIFAR-10", data.train.balanced(5000), data.val, data.test.balanced(2000))


def network(data: ImageData, name: str, seed: int) -> nn.Module:
    """A new network for these pictures."""
    return create_model(name, data.num_classes, in_channels=data.in_channels, seed=seed)


def plainly(data: ImageData, teacher: nn.Module, seed: int, device: torch.device) -> nn.Module:
    """A student of the plain loop in float32, which is given the batches that `fit` gives its own."""
    student = network(data, "resnet8", seed).to(device)
    optimizer = torch.optim.SGD(
        student.parameters(), LEARNING_RATE, momentum=0.9, nesterov=True, weight_decay=WEIGHT_DECAY
    )
    for epoch in range(EPOCHS):
        batches = data.train.batches(BATCH, seed=seed, epoch=epoch, augment=True, device=device)
        pairs = ((batch.images, batch.labels) for batch in batches)
        plain.train_epoch(student, teacher.to(device), plain.distillation_loss, pairs, optimizer, device)
    return student


def quickly(data: ImageData, teacher: nn.Module, seed: int) -> nn.Module:
    """A student of `fit`, whose precision is what the machine is best at."""
    student = network(data, "resnet8", seed)
    objective = Distiller(student, teacher, [HardLabels(0.1), SoftTargets(0.9, temperature=4)])
    fit(
        objective, data.train, epochs=EPOCHS, batch_size=BATCH, seed=seed,
        learning_rate=LEARNING_RATE, weight_decay=WEIGHT_DECAY, scheduler=None, progress=False,
    )  # fmt: skip
    return student


def accuracy(student: nn.Module, data: ImageData) -> float:
    """On the test images."""
    return evaluate(student, data.test)["accuracy"]
