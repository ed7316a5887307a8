"""What a data set is here: uint8 images, labels and the names of the classes."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from kdlib.data.augment import Augmentation


class FileImages(Protocol):
    """Images that are read when they are asked for, as `kdlib.data.stream.StreamedImages` are."""

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def ndim(self) -> int: ...

    @property
    def shape(self) -> torch.Size: ...

    def __len__(self) -> int: ...

    def __getitem__(self, indices: Tensor) -> Tensor: ...

    def subset(self, indices: Tensor) -> Self: ...

    def fingerprint(self) -> "hashlib._Hash": ...


Images = Tensor | FileImages

# Mean and standard deviation of each channel.
Statistics = tuple[tuple[float, ...], tuple[float, ...]]


class Batch(NamedTuple):
    """What a step of training gets.

    Attributes:
        images: normalised float32, shape (N, in_channels, H, W).
        labels: class indices, shape (N,).
        indices: positions in the split, shape (N,).
    """

    images: Tensor
    labels: Tensor
    indices: Tensor


@dataclass(frozen=True)
class Split:
    """Images and labels that are used together, for training or for testing.

    Attributes:
        images: uint8, shape (N, in_channels, H, W); a tensor, or files that are read when they are needed.
        labels: int64 class indices, shape (N,).
        classes: the name of each class, in the order of the indices.
        mean, std: per channel, of the training images in units of 0 to 1; what `batches` normalises with.
        augmentation: what `batches` does to images.
        source: data set, part and division, in words, for a run record.

    Raises:
        ValueError: shapes or types do not fit, there is no image, or a label is out of range.
    """

    images: Images
    labels: Tensor
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augmentation: Augmentation = field(default_factory=Augmentation)
    source: str = ""

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.ndim != 4:
            raise ValueError(
                f"images have shape {tuple(self.images.shape)} and type {self.images.dtype}; "
                "give torch.uint8 of shape (N, channels, height, width)."
            )
        if self.labels.dtype != torch.int64 or self.labels.shape != self.images.shape[:1]:
            raise ValueError(
                f"labels have shape {tuple(self.labels.shape)} and type {self.labels.dtype}; "
                f"give {len(self.images)} class indices of type torch.int64."
            )
        if not len(self.labels):
            raise ValueError("this split holds no image; choose one with at least one.")
        low, high = int(self.labels.min()), int(self.labels.max())
        if low < 0 or high >= self.num_classes:
            raise ValueError(
                f"label {low if low < 0 else high} is out of range; with {self.num_classes} classes "
                f"labels run from 0 to {self.num_classes - 1}."
            )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    def subset(self, indices: Tensor | Sequence[int]) -> "Split":
        """The images at these positions, in this order."""
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        images = self.images[chosen] if isinstance(self.images, Tensor) else self.images.subset(chosen)
        return replace(self, images=images, labels=self.labels[chosen])

    def balanced(self, size: int, seed: int = 0) -> "Split":
        """`size` images drawn at random, as many of each class as of any other (up to one)."""
        if not self.num_classes <= size <= len(self):
            raise ValueError(
                f"size is {size}; choose from {self.num_classes} (one image a class) to {len(self)} (all)."
            )
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(self), generator=generator)
        rank = _rank_within_class(self.labels[order], self.num_classes)
        return self.subset(order[rank.argsort(stable=True)[:size]])

    def without(self, class_index: int) -> "Split":
        """All images but those of one class; the class stays among `classes`."""
        return self.subset((self.labels != self._checked(class_index)).nonzero().flatten())

    def only(self, class_index: int) -> "Split":
        """The images of one class."""
        return self.subset((self.labels == self._checked(class_index)).nonzero().flatten())

    def batches(
        self,
        batch_size: int,
        *,
        seed: int | None = None,
        epoch: int = 0,
        augment: bool = False,
        device: torch.device | str = "cpu",
        start: int = 0,
        part: tuple[int, int] = (0, 1),
    ) -> Iterator[Batch]:
        """Every image once, as normalised float32 batches with their labels and positions.

        What happens to an image depends on the seed, the epoch and its position alone: another batch size
        shows the same pictures, and the batches from `start` on are those of a pass that began at 0.

        Args:
            batch_size: the last batch may be smaller.
            seed: of the order and of the augmentation; None keeps the order, and augments nothing.
            epoch: gives every pass through the images an order and an augmentation of its own.
            augment: whether to treat the images as `augmentation` treats training images.
            device: where the batches are made.
            start: how many batches to leave out at the beginning.
            part: (k, n) gives of every batch the k-th, from 0, of n parts in the batch's order. Their sizes
                differ by one at most; of a batch of fewer than n images some are empty.
        """
        order, numbers = torch.arange(len(self)), None
        if seed is not None:
            order = torch.randperm(len(self), generator=_generator(seed, epoch, 0))
            numbers = self.augmentation.draw(len(self), _generator(seed, epoch, 1)) if augment else None
        images = self.images.to(device) if isinstance(self.images, Tensor) else self.images
        labels = self.labels.to(device)

        def make(chosen: Tensor) -> Batch:
            indices = chosen.to(device)
            drawn = None if numbers is None else numbers[chosen].to(device)
            pixels = images[indices].to(device)
            return Batch(self.augmentation(pixels, self.mean, self.std, drawn), labels[indices], indices)

        batches = [whole.tensor_split(part[1])[part[0]] for whole in order.split(batch_size)[start:]]
        yield from map(make, batches) if isinstance(images, Tensor) else _one_ahead(make, batches)

    def fingerprint(self) -> str:
        """A short hash of images and labels: equal if and only if the data are the same.

        Of images in files it is the files' bytes that count, and the size they are read at.
        """
        if isinstance(self.images, Tensor):
            digest = hashlib.sha256(str(tuple(self.images.shape)).encode())
            digest.update(self.images.contiguous().numpy().tobytes())
        else:
            digest = self.images.fingerprint()
        digest.update(self.labels.contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def _checked(self, class_index: int) -> int:
        if not 0 <= class_index < self.num_classes:
            raise ValueError(
                f"there is no class {class_index}; classes run from 0 to {self.num_classes - 1}."
            )
        return class_index


@dataclass(frozen=True)
class ImageData:
    """A data set: a split to train on, one to choose settings on, and one to report.

    Attributes:
        name: as `load_data` was given it.
        train, val, test: the splits.
        division: how they came about, in words, for a run record.
    """

    name: str
    train: Split
    val: Split
    test: Split
    division: str = "as given"

    @property
    def classes(self) -> tuple[str, ...]:
        return self.train.classes

    @property
    def num_classes(self) -> int:
        return self.train.num_classes

    @property
    def in_channels(self) -> int:
        channels: int = self.train.images.shape[1]
        return channels


def _one_ahead(make: Callable[[Tensor], Batch], batches: Sequence[Tensor]) -> Iterator[Batch]:
    """Each batch while the next one is being made, so that reading files and training overlap."""
    with ThreadPoolExecutor(max_workers=1) as worker:
        coming = [worker.submit(make, chosen) for chosen in batches[:1]]
        for chosen in batches[1:]:
            ready, coming = coming[0], [worker.submit(make, chosen)]
            yield ready.result()
        yield from (ready.result() for ready in coming)


def _generator(seed: int, epoch: int, stream: int) -> torch.Generator:
    """A stream of random numbers for each use in each epoch, independent of all others."""
    state = np.random.SeedSequence((seed, epoch, stream)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))


def stratify(labels: Tensor, shares: Sequence[float], seed: int) -> list[Tensor]:
    """Positions divided at random into parts that hold the same share of every class.

    Args:
        labels: shape (N,).
        shares: of each part; they sum to 1.
        seed: of the division.

    Returns:
        One sorted tensor of positions for each share. A class with at least as many images as there are
        parts is in every part.
    """
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    parts: list[list[Tensor]] = [[] for _ in shares]
    for label in labels.unique():
        members = order[labels[order] == label]
        for part, piece in zip(parts, members.split(_sizes(len(members), shares)), strict=True):
            part.append(piece)
    return [torch.cat(part).sort().values for part in parts]


def channel_statistics(images: Tensor) -> Statistics:
    """Mean and standard deviation of each channel, for uint8 images (N, C, H, W), in units of 0 to 1."""
    total, squares = (torch.zeros(images.shape[1], dtype=torch.float64) for _ in range(2))
    # In pieces: as float64, fifty thousand small pictures would take more than a gigabyte.
    for piece in images.split(1024):
        values = piece.double().div(255)
        total += values.sum(dim=(0, 2, 3))
        squares += values.square().sum(dim=(0, 2, 3))
    pixels = images[:, 0].numel()
    mean = total / pixels
    std = (squares / pixels - mean.square()).clamp_min(0).sqrt()
    return tuple(mean.tolist()), tuple(std.clamp_min(1e-3).tolist())


def _sizes(total: int, shares: Sequence[float]) -> list[int]:
    """Whole numbers that sum to `total`, near `shares` of it, the later ones at least 1 where possible."""
    later = [max(1, round(total * share)) for share in shares[1:]]
    while later and sum(later) >= total and max(later) > 0:
        later[later.index(max(later))] -= 1
    return [total - sum(later), *later]


def _rank_within_class(labels: Tensor, num_classes: int) -> Tensor:
    """How many earlier images have the same label, shape (N,)."""
    one_hot = torch.nn.functional.one_hot(labels, num_classes)
    return (one_hot.cumsum(dim=0) * one_hot).sum(dim=1) - 1
