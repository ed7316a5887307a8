"""Batches that somebody else makes: those of a DataLoader, or of anything that can be gone through anew."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from kdlib.data.split import Batch, ImageData, Split, check_split, generator

_IMAGES = ("images", "image", "pixel_values", "img")
_LABELS = ("labels", "label")
_STREAM = 2  # of random numbers; a `Split` has 0 and 1
_END = object()


class BatchSource:
    """An iterable of batches in the place of a `Split`.

    A batch is ``(images, labels)`` or ``(images, labels, indices)``, or a mapping that has the images under
    "images", "image", "pixel_values" or "img" and the labels under "labels" or "label". Images are as the
    networks take them, floating; labels are class indices (N,), or a probability for every class (N, C).

    What the iterable draws from torch's global generator in this process, such as a DataLoader's order, its
    workers' seeds and torchvision's transforms, it draws from a stream that depends on the seed and the epoch
    alone. NumPy's and Python's generators are left as they are.

    Args:
        given: a DataLoader, a list of batches, or whatever else begins anew with each ``iter()``.
        name: of the argument that it was, for messages.

    Raises:
        ValueError: it can be gone through once only, has no length, or is empty.
    """

    def __init__(self, given: Iterable[Any], name: str) -> None:
        if isinstance(given, Iterator):
            raise ValueError(
                f"{name} is a {type(given).__name__}, which gives its batches once; give what begins anew in "
                "every epoch, such as a DataLoader or a list."
            )
        self._given, self._name = given, name
        try:
            self.steps = len(given)  # type: ignore[arg-type]  # that is what is tried
        except TypeError as error:
            raise ValueError(
                f"{name} is a {type(given).__name__} without a length, which the learning rate needs; give "
                "it a __len__, the number of its batches."
            ) from error
        if self.steps < 1:
            raise ValueError(f"{name} is empty; give at least one batch.")

    @property
    def source(self) -> str:
        """What it is, in words, for a run record."""
        images = getattr(self._given, "dataset", None)
        return type(self._given).__name__ + ("" if images is None else f" of {type(images).__name__}")

    def batches(
        self, *, seed: int = 0, epoch: int = 0, device: torch.device | str = "cpu", start: int = 0
    ) -> Iterator[Batch]:
        """Every batch once, but for those before `start`.

        Raises:
            ValueError: there are fewer batches than its length, or one is none.
        """
        numbers = _Numbers(generator(seed, epoch, _STREAM))
        with numbers.drawn():
            iterator = iter(self._given)
        for place in range(self.steps):
            with numbers.drawn():
                item = next(iterator, _END)
            if item is _END:
                raise ValueError(
                    f"{self._name} gave {place} batches, and its length is {self.steps}; give a __len__ that "
                    "is right."
                )
            if place >= start:
                yield self._batch(item, device)

    def _batch(self, item: Any, device: torch.device | str) -> Batch:
        images, labels, indices = self._parts(item)
        if not (isinstance(images, Tensor) and images.is_floating_point()):
            raise ValueError(
                f"the images of a batch of {self._name} are {_kind(images)}; give normalised float tensors."
            )
        if not isinstance(labels, Tensor) or labels.ndim not in (1, 2) or len(labels) != len(images):
            raise ValueError(
                f"the labels of a batch of {self._name} are {_kind(labels)}, for {len(images)} images; give "
                "class indices (N,), or a probability for every class (N, C)."
            )
        if not len(images):
            raise ValueError(f"a batch of {self._name} has no image; leave it out.")
        labels = labels if labels.is_floating_point() else labels.long()
        return Batch(images.to(device), labels.to(device), None if indices is None else indices.to(device))

    def _parts(self, item: Any) -> list[Any]:
        if isinstance(item, Mapping):
            images, labels = (next((k for k in keys if k in item), None) for keys in (_IMAGES, _LABELS))
            if images is None or labels is None:
                raise ValueError(
                    f"a batch of {self._name} has the keys {', '.join(map(repr, item))}; give the images as "
                    f"one of {', '.join(map(repr, _IMAGES))} and the labels as 'labels' or 'label'."
                )
            return [item[images], item[labels], item.get("indices")]
        if isinstance(item, tuple | list) and len(item) in (2, 3):
            return [*item, None][:3]
        raise ValueError(
            f"a batch of {self._name} is a {type(item).__name__}; give (images, labels), or a dict of both."
        )


class _Numbers:
    """A stream of random numbers that takes the place of torch's global ones for a while at a time."""

    def __init__(self, begins: torch.Generator) -> None:
        self._state = begins.get_state()

    @contextmanager
    def drawn(self) -> Iterator[None]:
        """Draw from this stream meanwhile, and go on there the next time."""
        before = torch.get_rng_state()
        torch.set_rng_state(self._state)
        try:
            yield
        finally:
            self._state = torch.get_rng_state()
            torch.set_rng_state(before)


def _kind(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"of shape {tuple(value.shape)} and type {value.dtype}"
    return f"a {type(value).__name__}"


def as_data(given: Any, name: str) -> Split | BatchSource:
    """The split that was given, or an iterable of batches as a `BatchSource`.

    Args:
        given: what a user gave as images.
        name: of the argument.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(given, ImageData):
        check_split(given, name)
    if isinstance(given, Split | BatchSource):
        return given
    if isinstance(given, Tensor | str | Mapping) or not hasattr(given, "__iter__"):
        raise ValueError(
            f"{name} is a {type(given).__name__}; give a split of load_data(…), such as .train, a Split of "
            "tensors (kdlib.data.Split), or batches, such as a DataLoader."
        )
    return BatchSource(given, name)
