"""Any folder with one sub-folder of images per class."""

import os
from collections.abc import Collection, Sequence
from pathlib import Path

import torch
from torch import Tensor

from kdlib.data.augment import Augmentation, CentreCrop, RandomCrop, RandomFlip, RandomResizedCrop
from kdlib.data.decode import decode_all
from kdlib.data.split import ImageData, Images, Split, Statistics, channel_statistics, stratify
from kdlib.data.stream import StreamedImages, memory_budget

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff")

# Pictures up to this side are decoded at once and shifted by the batch; larger ones are streamed and cropped.
LARGEST_SMALL = 96

# Of pictures too large to be looked at all beforehand: those of ImageNet, which pretrained networks expect.
IMAGENET: Statistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

_SHARES = (0.7, 0.15, 0.15)
_SHARE_FOR_CHOOSING = 0.15
_SEED = 0


def load_folder(
    path: str | os.PathLike[str], size: int = 32, memory: int | None = None, division: str = "honest"
) -> ImageData:
    """Images in ``PATH/CLASS/*.jpg``, or already divided into ``PATH/train/CLASS`` and ``PATH/test/CLASS``.

    Every image is made RGB, cut to the largest square in its middle and resized, then kept as uint8.

    - One level of folders: 70 % of each class is for training, 15 % for validation, 15 % for testing; the
      division is random, stratified and always the same.
    - ``train`` with ``test`` or ``val`` or both: ``test`` is reported, or ``val`` where there is no ``test``;
      a missing validation split is 15 % of ``train``.

    Args:
        path: the folder.
        size: side of the pictures in pixels. Above 96 they are decoded when they are needed, an eighth larger
            than `size`, for random crops in training and the middle in testing.
        memory: bytes for decoded pictures above 96 pixels; see `StreamedImages`.
        division: "honest", or "published": no validation split is cut from ``train``, see `load_data`.

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
    reader = Reader(size, memory)
    if (root / "train").is_dir():
        return load_divided(f"folder:{path}", root, reader, division)
    if division == "published":
        raise ValueError(f"{root} has no folders 'train' and 'test', so there is no published division.")
    return load_undivided(f"folder:{path}", root, reader)


class Reader:
    """How the pictures of a data set are read.

    Args:
        size: side in pixels of what the networks get.
        memory: bytes for decoded pictures of all parts together, in the order in which they are read; see
            `StreamedImages`.
        statistics: for normalisation; None takes the training images' own where they are small, and
            ImageNet's where they are large.
    """

    def __init__(self, size: int, memory: int | None = None, statistics: Statistics | None = None) -> None:
        self.size, self.memory, self.statistics = size, memory_budget(memory), statistics
        self.is_large = size > LARGEST_SMALL

    def read(self, files: Sequence[Path], title: str) -> Images:
        """The pictures in these files."""
        if self.is_large:
            images = StreamedImages(files, self.size + self.size // 7, self.memory)
            self.memory -= images.reserved
            return images
        return decode_all(files, self.size, title)

    def statistics_of(self, images: Images) -> Statistics:
        """What training images are normalised with."""
        if self.statistics is not None:
            return self.statistics
        return channel_statistics(images) if isinstance(images, Tensor) else IMAGENET

    def augmentation(self) -> Augmentation:
        """A random crop, and the mirror image."""
        if self.is_large:
            return Augmentation((RandomResizedCrop(self.size), RandomFlip()), (CentreCrop(self.size),))
        return Augmentation((RandomCrop(padding=max(1, self.size // 8)), RandomFlip()))

    def split(self, images: Images, labels: Tensor, classes: Sequence[str], statistics: Statistics) -> Split:
        return Split(images, labels, tuple(classes), *statistics, self.augmentation())


def load_undivided(
    name: str,
    root: Path,
    reader: Reader,
    shares: Sequence[float] = _SHARES,
    without: Collection[str] = (),
) -> ImageData:
    """A folder of classes, divided at random into training, validation and test images by these shares.

    With two shares there are no validation images, and the test images stand in their place.
    """
    classes = class_folders(root, without)
    files, labels = list_images(root, classes, fewest=len(shares))
    images = reader.read(files, root.name)
    parts = stratify(labels, shares, _SEED)
    training = images[parts[0]] if isinstance(images, Tensor) else images
    everything = reader.split(images, labels, classes, reader.statistics_of(training))
    splits = [everything.subset(part) for part in parts]
    said = f"stratified {'/'.join(f'{share:g}' for share in shares)}, seed {_SEED}"
    return ImageData(name, splits[0], splits[1], splits[-1], said)


def load_divided(name: str, root: Path, reader: Reader, division: str) -> ImageData:
    """A folder that is already divided into ``train`` and ``test`` or ``val``."""
    held_out = [part for part in ("val", "test") if (root / part).is_dir()]
    if not held_out:
        raise ValueError(f"{root} has a folder 'train' but neither 'test' nor 'val'; add one of them.")
    classes = class_folders(root / "train")
    for part in held_out:
        if class_folders(root / part) != classes:
            differing = sorted(set(classes) ^ set(class_folders(root / part)))
            raise ValueError(f"{root / part} and {root / 'train'} differ in the class {differing[0]!r}.")
    cuts = len(held_out) == 1 and division == "honest"
    files, labels = list_images(root / "train", classes, fewest=2 if cuts else 1)
    images = reader.read(files, f"{root.name}/train")
    statistics = reader.statistics_of(images)
    train = reader.split(images, labels, classes, statistics)
    splits = {}
    for part in held_out:
        files, held_labels = list_images(root / part, classes, fewest=1)
        splits[part] = reader.split(
            reader.read(files, f"{root.name}/{part}"), held_labels, classes, statistics
        )
    if cuts:
        return cut_for_choosing(name, train, splits[held_out[0]])
    if division == "published":
        return ImageData(name, train, splits[held_out[0]], splits[held_out[-1]], "published")
    return ImageData(name, train, splits["val"], splits["test"], "as the folders are divided")


def cut_for_choosing(name: str, train: Split, test: Split) -> ImageData:
    """Take 15 % of the training images for choosing settings, so that the test images choose nothing."""
    kept, chosen = stratify(train.labels, (1 - _SHARE_FOR_CHOOSING, _SHARE_FOR_CHOOSING), _SEED)
    said = f"validation is {_SHARE_FOR_CHOOSING:g} of train, stratified, seed {_SEED}"
    return ImageData(name, train.subset(kept), train.subset(chosen), test, said)


def class_folders(root: Path, without: Collection[str] = ()) -> list[str]:
    """The names of the classes, sorted.

    Raises:
        ValueError: there are fewer than two.
    """
    classes = sorted(
        child.name
        for child in root.iterdir()
        if child.is_dir() and not child.name.startswith(".") and child.name not in without
    )
    if len(classes) < 2:
        raise ValueError(
            f"{root} has {len(classes)} sub-folder{'s' * (len(classes) != 1)}; "
            "a data set needs two or more, one per class, with the images inside."
        )
    return classes


def list_images(root: Path, classes: Sequence[str], fewest: int) -> tuple[list[Path], Tensor]:
    """The image files of all classes, sorted within each, with their labels."""
    files = [_image_files(root / name, fewest) for name in classes]
    counts = torch.tensor([len(found) for found in files])
    labels = torch.repeat_interleave(torch.arange(len(classes)), counts)
    return [path for class_files in files for path in class_files], labels


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
