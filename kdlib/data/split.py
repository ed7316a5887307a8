"""What a data set is here: uint8 images, labels and the names of the classes."""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from kdlib.data.augment import Augmentation, CentreCrop
from kdlib.data.transfer import send


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
        labels: class indices, shape (N,); or a probability for every class, (N, C).
        indices: positions in the split, shape (N,); None where nobody said.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor | None

    def share(self, number: int, of: int) -> "Batch":
        """One of so many parts, in order, which differ by one image at most; numbers run from 0."""
        parts = (None if value is None else value.tensor_split(of)[number] for value in self)
        return Batch(*parts)  # type: ignore[arg-type]  # only the indices may be None


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
        ValueError: shapes or types do not fit, there is no image, a label is out of range, or `mean` and
            `std` are not one number per channel in units of 0 to 1, with `std` above 0.
    """

    images: Images
    labels: Tensor
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augmentation: Augmentation = field(default_factory=Augmentation)
    source: str = ""

    def __post_init__(self) -> None:
        for name in ("images", "labels"):
            if not hasattr(getattr(self, name), "dtype"):
                raise ValueError(f"{name} are a {type(getattr(self, name)).__name__}; give a tensor.")
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
        _check_statistics(self.images.shape, self.mean, self.std)

    def __repr__(self) -> str:
        """What it is, in three lines and without a pixel."""
        return (
            f"Split: {self.source or 'no source given'}\n"
            f"  {len(self):,} images of {self._picture}\n"
            f"  {self._classes}"
        )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    def subset(self, indices: Tensor | Sequence[int]) -> "Split":
        """The images at these positions, in this order."""
        given = torch.as_tensor(indices)
        if given.numel() and (given.dtype == torch.bool or given.is_floating_point()):
            raise ValueError(
                f"indices have type {given.dtype}; give whole numbers, of a mask mask.nonzero().flatten()."
            )
        chosen = given.long()
        images = self.images[chosen] if isinstance(self.images, Tensor) else self.images.subset(chosen)
        return replace(self, images=images, labels=self.labels[chosen])

    def balanced(self, size: int, seed: int = 0) -> "Split":
        """`size` images drawn at random, as many of each class as of any other (up to one)."""
        if size not in range(self.num_classes, len(self) + 1):
            raise ValueError(
                f"size is {size}; choose from {self.num_classes} (one image a class) to {len(self)} (all)."
            )
        check_seed(seed)
        generator = torch.Generator().manual_seed(int(seed))
        order = torch.randperm(len(self), generator=generator)
        rank = _rank_within_class(self.labels[order], self.num_classes)
        return self.subset(order[rank.argsort(stable=True)[: int(size)]])

    def without(self, class_index: int) -> "Split":
        """All images but those of one class; the class stays among `classes`."""
        return self.subset((self.labels != self._checked(class_index)).nonzero().flatten())

    def only(self, class_index: int) -> "Split":
        """The images of one class."""
        return self.subset((self.labels == self._checked(class_index)).nonzero().flatten())

    def batch_sizes(self, batch_size: int) -> list[int]:
        """How many images each batch of a pass has: as few batches as can be, which differ by one at most.

        129 images in batches of 64 are 3 × 43. In 64, 64 and 1, the one image would have a step of its own,
        as large as the others', and spoil what they learnt.

        Raises:
            ValueError: the batch size is below 1, or no whole number.
        """
        if batch_size < 1 or batch_size != int(batch_size):
            raise ValueError(f"batch_size is {batch_size}; give 1 or more, a whole number.")
        batches = math.ceil(len(self) / batch_size)
        fewest, larger = divmod(len(self), batches)
        return [fewest + 1] * larger + [fewest] * (batches - larger)

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
            batch_size: the most images of a batch; see `batch_sizes`.
            seed: of the order and of the augmentation; None keeps the order, and augments nothing.
            epoch: gives every pass through the images an order and an augmentation of its own.
            augment: whether to treat the images as `augmentation` treats training images.
            device: where the batches are made.
            start: how many batches to leave out at the beginning.
            part: (k, n) gives of every batch the k-th, from 0, of n parts in the batch's order. Their sizes
                differ by one at most; of a batch of fewer than n images some are empty.

        Raises:
            ValueError: the batch size is below 1, or the seed below 0, or one of them no whole number.
        """
        order, numbers = torch.arange(len(self)), None
        if seed is not None:
            check_seed(seed)
            order = torch.randperm(len(self), generator=generator(seed, epoch, 0))
            numbers = self.augmentation.draw(len(self), generator(seed, epoch, 1)) if augment else None
        images = self.images.to(device) if isinstance(self.images, Tensor) else self.images
        labels = self.labels.to(device)

        def make(chosen: Tensor) -> Batch:
            indices = send(chosen, device)
            drawn = None if numbers is None else numbers[chosen]
            pixels = images[indices] if isinstance(images, Tensor) else send(images[chosen], device)
            return Batch(self.augmentation(pixels, self.mean, self.std, drawn), labels[indices], indices)

        wholes = order.split(self.batch_sizes(batch_size))[start:]
        batches = [whole.tensor_split(part[1])[part[0]] for whole in wholes]
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
        if class_index not in range(self.num_classes):
            raise ValueError(
                f"there is no class {class_index!r}; classes run from 0 to {self.num_classes - 1}."
            )
        return class_index

    @property
    def _picture(self) -> str:
        """Channels, height and width of what networks get in a test."""
        channels, *sides = self.images.shape[1:]
        for step in self.augmentation.test:
            if isinstance(step, CentreCrop):
                sides = [step.size, step.size]
        return "×".join(map(str, (channels, *sides)))

    @property
    def _classes(self) -> str:
        """How many, and the names of the first few."""
        few = ", ".join(map(str, self.classes[:5]))
        return f"{self.num_classes} classes: {few}{', …' if self.num_classes > 5 else ''}"


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

    def __repr__(self) -> str:
        """What it is, in a line for each part and without a pixel."""
        train = self.train
        parts = (f"  {part:<5} {len(getattr(self, part)):>7,} images" for part in ("train", "val", "test"))
        head = f"ImageData: {self.name}, pictures of {train._picture}, {train._classes}"
        return "\n".join((head, *parts, f"  division: {self.division}"))

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


def check_split(given: object, name: str) -> None:
    """Raise ValueError unless this is a `Split`.

    Args:
        given: what a user gave as images.
        name: of the argument.
    """
    if isinstance(given, ImageData):
        raise ValueError(
            f"{name} is a whole data set, {given.name!r}; give one of its splits: .train, .val or .test."
        )
    if not isinstance(given, Split):
        raise ValueError(
            f"{name} is a {type(given).__name__}; give a split of load_data(…), such as .train, or a Split "
            "of tensors (kdlib.data.Split)."
        )


def check_seed(seed: object) -> None:
    """Raise ValueError unless this is a whole number that every generator takes."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**63:
        raise ValueError(f"seed is {seed!r}; give a whole number, 0 or more.")


def _check_statistics(shape: Sequence[int], mean: Sequence[float], std: Sequence[float]) -> None:
    """Three numbers on grey pictures would make colour pictures of them, and nobody would be told."""
    for name, values in (("mean", mean), ("std", std)):
        if np.shape(values) != (shape[1],):
            raise ValueError(
                f"{name} is {values}, and images of shape {tuple(shape)} (N, channels, height, width) have "
                f"{shape[1]} channel{'s' * (shape[1] != 1)}; give one number for each."
            )
    if not all(0 <= value <= 1 for value in mean):
        raise ValueError(f"mean is {mean}; give numbers from 0 to 1, of pixels divided by 255.")
    if not all(0 < value <= 1 for value in std):
        raise ValueError(f"std is {std}; give numbers above 0 and up to 1, of pixels divided by 255.")


def _one_ahead(make: Callable[[Tensor], Batch], batches: Sequence[Tensor]) -> Iterator[Batch]:
    """Each batch while the next one is being made, so that reading files and training overlap."""
    with ThreadPoolExecutor(max_workers=1) as worker:
        coming = [worker.submit(make, chosen) for chosen in batches[:1]]
        for chosen in batches[1:]:
            ready, coming = coming[0], [worker.submit(make, chosen)]
            yield ready.result()
        yield from (ready.result() for ready in coming)


def generator(seed: int, epoch: int, stream: int) -> torch.Generator:
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
