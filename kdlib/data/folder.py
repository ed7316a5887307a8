"""Any folder with one sub-folder of images per class."""

import os
import warnings
from collections.abc import Collection, Sequence
from pathlib import Path

import torch
from torch import Tensor

from kdlib.data.augment import Augmentation, CentreCrop, RandomCrop, RandomFlip, RandomResizedCrop
from kdlib.data.decode import decode_all
from kdlib.data.listing import EXTENSIONS, Listing
from kdlib.data.split import ImageData, Images, Split, Statistics, channel_statistics, stratify
from kdlib.data.stream import StreamedImages, memory_budget
from kdlib.paths import given_path

# Pictures up to this side are decoded at once and shifted by the batch; larger ones are streamed and cropped.
LARGEST_SMALL = 96

# The side of the pictures where none is given.
SIZE = 32

# Of pictures too large to be looked at all beforehand: those of ImageNet, which pretrained networks expect.
IMAGENET: Statistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

_SHARES = (0.7, 0.15, 0.15)
_SHARE_FOR_CHOOSING = 0.15
_SEED = 0


def load_folder(
    path: str | os.PathLike[str], size: int = SIZE, memory: int | None = None, division: str = "honest"
) -> ImageData:
    """Images in ``PATH/CLASS/*.jpg``, or already divided into ``PATH/train/CLASS`` and ``PATH/test/CLASS``.

    Every image is made RGB, cut to the largest square in its middle and resized, then kept as uint8.

    - Undivided: 70 % of each class is for training, 15 % for validation, 15 % for testing; the division is
      random, stratified and always the same.
    - ``train`` with ``test`` or ``val`` or both: ``test`` is reported, or ``val`` where there is no ``test``;
      a missing validation split is 15 % of ``train``. "Training", "valid", "dev", "test_set" and the like
      mean the same.
    - The classes are the topmost folders; pictures further down belong to the class above them.
    - Hidden entries, and what systems leave behind (``__MACOSX``), are skipped. A warning says what was.

    Args:
        path: the folder.
        size: side of the pictures in pixels. Above 96 they are decoded when they are needed, an eighth larger
            than `size`, for random crops in training and the middle in testing.
        memory: bytes for decoded pictures above 96 pixels; see `StreamedImages`.
        division: "honest", or "published": no validation split is cut from ``train``, see `load_data`.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: it has fewer than two classes, a class has no image or too few to divide, the divided
            folders name different classes or two of them the same part, or an image cannot be read.
    """
    root = given_path(path, "folder")
    if not root.is_dir():
        raise FileNotFoundError(
            f"there is no folder {str(path)!r}; give one with a sub-folder of images per class."
        )
    reader = Reader(size, memory)
    if division == "published" or reader.listing.parts(root):
        data = load_divided(f"folder:{path}", root, reader, division)
    else:
        data = load_undivided(f"folder:{path}", root, reader)
    if skipped := reader.listing.skipped():
        read = f"{', '.join(EXTENSIONS)}, in the folders of the classes"
        warnings.warn(f"skipped in {root}: {skipped}. Read are {read}.", stacklevel=3)
    return data


class Reader:
    """How the pictures of a data set are read.

    Args:
        size: side in pixels of what the networks get.
        memory: bytes for decoded pictures of all parts together, in the order in which they are read; see
            `StreamedImages`.
        statistics: for normalisation; None takes the training images' own where they are small, and
            ImageNet's where they are large.

    Attributes:
        listing: what finds the files.
    """

    def __init__(self, size: int, memory: int | None = None, statistics: Statistics | None = None) -> None:
        self.size, self.memory, self.statistics = size, memory_budget(memory), statistics
        self.is_large = size > LARGEST_SMALL
        self.listing = Listing()

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
    classes = reader.listing.classes(root, without)
    files, labels = list_images(root, classes, len(shares), reader.listing)
    images = reader.read(files, root.name)
    parts = stratify(labels, shares, _SEED)
    training = images[parts[0]] if isinstance(images, Tensor) else images
    everything = reader.split(images, labels, classes, reader.statistics_of(training))
    splits = [everything.subset(part) for part in parts]
    said = f"stratified {'/'.join(f'{share:g}' for share in shares)}, seed {_SEED}"
    return ImageData(name, splits[0], splits[1], splits[-1], said)


def load_divided(name: str, root: Path, reader: Reader, division: str) -> ImageData:
    """A folder that is already divided into training images and others."""
    parts = reader.listing.parts(root)
    if not parts:
        raise ValueError(
            f"{root} has no folders 'train' and 'test', so there is no published division; take \"honest\"."
        )
    folder, held_out = parts["train"], [part for part in ("val", "test") if part in parts]
    classes = reader.listing.classes(folder)
    for part in held_out:
        others = reader.listing.classes(parts[part])
        if others != classes:
            differing = sorted(set(classes) ^ set(others))
            raise ValueError(f"{parts[part]} and {folder} differ in the class {differing[0]!r}.")
    cuts = len(held_out) == 1 and division == "honest"
    files, labels = list_images(folder, classes, 2 if cuts else 1, reader.listing)
    images = reader.read(files, f"{root.name}/{folder.name}")
    statistics = reader.statistics_of(images)
    train = reader.split(images, labels, classes, statistics)
    splits = {}
    for part in held_out:
        files, held_labels = list_images(parts[part], classes, 1, reader.listing)
        images = reader.read(files, f"{root.name}/{parts[part].name}")
        splits[part] = reader.split(images, held_labels, classes, statistics)
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


def list_images(
    root: Path, classes: Sequence[str], fewest: int, listing: Listing
) -> tuple[list[Path], Tensor]:
    """The image files of all classes, sorted within each, with their labels."""
    files = [listing.images(root / name, fewest) for name in classes]
    counts = torch.tensor([len(found) for found in files])
    labels = torch.repeat_interleave(torch.arange(len(classes)), counts)
    return [path for class_files in files for path in class_files], labels
