"""What the ladder trains, on which pictures, and its rungs."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ci.bench import plain
from kdlib import Attention, HardLabels, SoftTargets, create_model, load_data
from kdlib.data import Split
from kdlib.data.augment import (
    Augmentation,
    CentreCrop,
    RandAugment,
    RandomCrop,
    RandomErasing,
    RandomFlip,
    RandomResizedCrop,
)
from kdlib.terms import Term

CLASSES = 100
MEAN, STD = (0.5,) * 3, (0.25,) * 3
_LAYERS = ["layer1", "layer2", "layer3"]


@dataclass(frozen=True)
class Work:
    """What is trained.

    Attributes:
        steps: timed steps in a round, after one that is not timed.
        variants: which are measured besides the plain loop.
        bars: what the issue asks for, by variant.
    """

    name: str
    teacher: str
    student: str
    size: int
    batch_size: int
    steps: int
    terms: tuple[Term, ...]
    plain_loss: plain.Loss
    variants: tuple[str, ...]
    bars: dict[str, str]


# What each rung of the ladder switches on; each row but the first compiled one has all that
# the eager rows above it have.
RUNGS: dict[str, tuple[str, ...]] = {
    "one uint8 tensor, augmented by the batch": (),
    "+ freed memory kept": ("memory",),
    "+ channels-last": ("memory", "channels"),
    "+ teacher's batch norm folded": ("memory", "channels", "folded"),
    "    the same, compiled": ("memory", "channels", "folded", "compiled"),
    "+ bfloat16 autocast": ("memory", "channels", "folded", "autocast"),
    "+ compiled": ("memory", "channels", "folded", "autocast", "compiled"),
    "+ answers kept, from the second run on": (
        "memory", "channels", "folded", "autocast", "compiled", "answers"
    ),
}  # fmt: skip
FIT = "kdlib.fit, as a short run has it"
WORKERS = (0, 2)

# The whole ladder takes minutes with networks that are slow or large; these have its ends.
_ENDS = ("one uint8 tensor, augmented by the batch", "+ compiled", FIT)

WORKS = (
    Work(
        "KD, ResNet-110 to ResNet-20, CIFAR shapes, batch 128",
        "resnet110", "resnet20", 32, 128, 2,
        (HardLabels(0.1), SoftTargets(0.9, temperature=4)), plain.distillation_loss,
        ("    the same, compiled", *_ENDS[:2], "+ answers kept, from the second run on", FIT),
        {
            "+ compiled": "4.5× with AMX",
            "    the same, compiled": "1.5× in float32",
            "+ answers kept, from the second run on": "6× with AMX",
        },
    ),
    Work(
        "AT, ResNet-20 to ResNet-20, CIFAR shapes, batch 128",
        "resnet20", "resnet20", 32, 128, 6,
        (HardLabels(1.0), Attention(1000.0, layers=_LAYERS, form="code")), plain.attention_loss,
        (*list(RUNGS)[:-1], FIT),
        {"+ compiled": "4× with AMX"},
    ),
    Work(
        "KD, MobileNetV2 to MobileNetV2, 224 pixels, batch 16, JPEG files, RandAugment and erasing",
        "mobilenet_v2", "mobilenet_v2", 224, 16, 2,
        (HardLabels(0.1), SoftTargets(0.9, temperature=4)), plain.distillation_loss,
        _ENDS,
        {"+ compiled": "4×"},
    ),
)  # fmt: skip


def networks(work: Work) -> tuple[nn.Module, nn.Module]:
    """Student and teacher, the same for every variant."""
    return create_model(work.student, CLASSES, seed=1), create_model(work.teacher, CLASSES, seed=0)


def random_pictures(count: int) -> tuple[Tensor, Tensor]:
    """uint8 (N, 3, 32, 32) and labels."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return images, torch.randint(0, CLASSES, (count,), generator=generator)


def our_data(work: Work, folder: Path) -> Split:
    """As many batches as a round has, with the plain loop's augmentation."""
    needed = (work.steps + 1) * work.batch_size
    classes = tuple(f"class {number}" for number in range(CLASSES))
    if work.size == 32:
        small = Augmentation(train=(RandomCrop(4), RandomFlip()))
        return Split(*random_pictures(needed), classes, MEAN, STD, small)
    steps = (RandomResizedCrop(work.size), RandomFlip(), RandAugment(), RandomErasing())
    large = Augmentation(train=steps, test=(CentreCrop(work.size),))
    chosen = load_data(f"folder:{folder}", size=256).train.subset(range(needed))
    return replace(chosen, classes=classes, mean=MEAN, std=STD, augmentation=large)


def write_pictures(folder: Path, classes: int = 8, each: int = 36) -> str:
    """JPEG files in a folder per class: Caltech's where they are, or made-up ones; returns which."""
    caltech = Path(os.environ.get("KDLIB_DATA", "")) / "caltech101" / "101_ObjectCategories"
    if "KDLIB_DATA" in os.environ and caltech.is_dir():
        found = [sorted(kind.glob("*.jpg"))[:each] for kind in sorted(caltech.iterdir())]
        for files in [files for files in found if len(files) == each][:classes]:
            (folder / files[0].parent.name).mkdir()
            for file in files:
                (folder / file.parent.name / file.name).write_bytes(file.read_bytes())
        return "photographs from Caltech-101"
    from PIL import Image

    random = np.random.default_rng(0)
    for number in range(classes * each):
        kind = folder / f"class {number % classes}"
        kind.mkdir(exist_ok=True)
        coarse = Image.fromarray(random.integers(0, 256, (20, 30, 3), dtype=np.uint8))
        coarse.resize((300, 200), Image.Resampling.BICUBIC).save(kind / f"{number}.jpg", quality=90)
    return "made-up JPEG files of Caltech-101's size"
