"""Any folder with one sub-folder of images per class."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from kdlib.data.augment import Augmentation, RandomCrop, RandomFlip
from kdlib.data.split import ImageData, Split, Statistics, channel_statistics, stratify

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff")
_SHARES = (0.7, 0.15, 0.15)
_SPLIT_SEED = 0


def load_folder(path: str | os.PathLike[str], size: int = 32) -> ImageData:
    """Images in ``PATH/CLASS/*.jpg``, or already divided into ``PATH/train/CLASS`` and ``PATH/test/CLASS``.

    Every image is made RGB, cut to the largest square in its middle and resized, then kept as uint8.

    - One level of folders: 70 % of each class is for training, 15 % for validation, 15 % for testing; the
      division is random, stratified and always the same.
    - ``train`` with ``test`` or ``val`` or both: ``test`` is reported, or ``val`` where there is no ``test``;
      a missing validation split is 15 % of ``train``.

    Args:
        path: the folder.
        size: side of the pictures in pixels.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: it has fewer than two classes, a class has no image or too few to divide, the divided
            folders name different classes, or an image cannot be read.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(
            f"there is no folder {str(path)!r}; give one with a sub-folder of images per class."
        )
    name = f"folder:{path}"
    if (root / "train").is_dir():
        return _divided(name, root, size)
    classes = _classes(root)
    images, labels = _read(root, classes, size, fewest=len(_SHARES))
    train, val, test = stratify(labels, _SHARES, _SPLIT_SEED)
    everything = _split(images, labels, classes, channel_statistics(images[train]))
    return ImageData(name, everything.subset(train), everything.subset(val), everything.subset(test))


def _divided(name: str, root: Path, size: int) -> ImageData:
    held_out = [part for part in ("val", "test") if (root / part).is_dir()]
    if not held_out:
        raise ValueError(f"{root} has a folder 'train' but neither 'test' nor 'val'; add one of them.")
    classes = _classes(root / "train")
    for part in held_out:
        if _classes(root / part) != classes:
            differing = sorted(set(classes) ^ set(_classes(root / part)))
            raise ValueError(f"{root / part} and {root / 'train'} differ in the class {differing[0]!r}.")
    images, labels = _read(root / "train", classes, size, fewest=1 if len(held_out) == 2 else 2)
    statistics = channel_statistics(images)
    train = _split(images, labels, classes, statistics)
    splits = {part: _split(*_read(root / part, classes, size, 1), classes, statistics) for part in held_out}
    if len(held_out) == 2:
        return ImageData(name, train, splits["val"], splits["test"])
    kept, chosen = stratify(labels, (0.85, 0.15), _SPLIT_SEED)
    return ImageData(name, train.subset(kept), train.subset(chosen), splits[held_out[0]])


def _split(images: Tensor, labels: Tensor, classes: Sequence[str], statistics: Statistics) -> Split:
    augmentation = Augmentation(train=(RandomCrop(padding=max(1, images.shape[-1] // 8)), RandomFlip()))
    return Split(images, labels, tuple(classes), *statistics, augmentation)


def _classes(root: Path) -> list[str]:
    classes = sorted(
        child.name for child in root.iterdir() if child.is_dir() and not child.name.startswith(".")
    )
    if len(classes) < 2:
        raise ValueError(
            f"{root} has {len(classes)} sub-folder{'s' * (len(classes) != 1)}; "
            "a data set needs two or more, one per class, with the images inside."
        )
    return classes


def _read(root: Path, classes: Sequence[str], size: int, fewest: int) -> tuple[Tensor, Tensor]:
    """All images as uint8 (N, 3, size, size), with their labels."""
    files = [_image_files(root / name, fewest) for name in classes]
    paths = [path for class_files in files for path in class_files]
    with ThreadPoolExecutor() as pool:
        decoded = pool.map(lambda path: _decode(path, size), paths)
        images = list(tqdm(decoded, total=len(paths), desc=f"reading {root.name}", unit="image", leave=False))
    labels = torch.repeat_interleave(
        torch.arange(len(classes)), torch.tensor([len(found) for found in files])
    )
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(), labels


def _image_files(folder: Path, fewest: int) -> list[Path]:
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in EXTENSIONS and path.is_file())
    if not files:
        raise ValueError(f"{folder} has no image ({', '.join(EXTENSIONS)}); add some, or remove the folder.")
    if len(files) < fewest:
        raise ValueError(
            f"{folder} has {len(files)} image{'s' * (len(files) != 1)}; "
            f"at least {fewest} are needed to divide a class into training and held-out images."
        )
    return files


def _decode(path: Path, size: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            # Lets the JPEG decoder skip detail that the resize would throw away.
            image.draft("RGB", (2 * size, 2 * size))
            square = ImageOps.fit(image.convert("RGB"), (size, size), Image.Resampling.BICUBIC)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read as an image ({error}); repair or remove it.") from error
    return np.asarray(square)
