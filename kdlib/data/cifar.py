"""CIFAR-10 and CIFAR-100, in their own files."""

import os

import torch

from kdlib.data.augment import Augmentation, RandomCrop, RandomFlip
from kdlib.data.catalogue import data_root, sources
from kdlib.data.folder import cut_for_choosing
from kdlib.data.split import ImageData, Split


def load_cifar(name: str, root: str | os.PathLike[str] | None = None, division: str = "honest") -> ImageData:
    """50,000 pictures of 32×32 to train on and 10,000 to test on, in 10 or 100 classes.

    The files are read by torchvision, which compares each with its checksum before it unpickles any. Training
    images are shifted by up to four pixels and mirrored.

    Args:
        name: "cifar10" or "cifar100".
        root: the data root; KDLIB_DATA if not given.
        division: see `load_data`.

    Raises:
        FileNotFoundError: the data set is not there.
        ValueError: a file is damaged.
    """
    from torchvision import datasets

    kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    source = sources()[name]
    folder = source.path(root)
    try:
        parts = [kind(data_root(root), train=is_train) for is_train in (True, False)]
    except RuntimeError as error:
        raise ValueError(
            f"a file of {source.title} in {folder} is missing or damaged; remove the folder and get it "
            f"again: kd data get {name}"
        ) from error
    augmentation = Augmentation((RandomCrop(padding=4), RandomFlip()))
    train, test = (
        Split(
            torch.as_tensor(part.data).permute(0, 3, 1, 2).contiguous(),
            torch.tensor(part.targets),
            tuple(part.classes),
            *source.statistics,
            augmentation,
        )
        for part in parts
    )
    if division == "published":
        return ImageData(name, train, test, test, "published")
    return cut_for_choosing(name, train, test)
