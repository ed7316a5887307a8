"""`load_data`: a data set from its name."""

import difflib
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from kdlib.data.catalogue import sources
from kdlib.data.cifar import load_cifar
from kdlib.data.digits import load_digits
from kdlib.data.folder import Reader, load_divided, load_folder, load_undivided
from kdlib.data.notes import note
from kdlib.data.split import ImageData

DIVISIONS = ("honest", "published")


def load_data(name: str, **options: Any) -> ImageData:
    """A data set with its training, validation and test splits.

    - "digits": scikit-learn's handwritten digits, part of its installation.
    - "cifar10", "cifar100", "caltech101", "caltech256", "hymenoptera": below the data root, where
      ``kd data get NAME`` puts them; nothing is downloaded here.
    - "cifar10-jpeg": CIFAR-10 encoded again as JPEG files. Its numbers are not CIFAR-10's.
    - "folder:PATH": any folder with one sub-folder of images per class.

    Args:
        name: one of these.
        options: ``size``, the side of the square pictures in pixels (CIFAR's own files have 32);
            ``root``, the data root, KDLIB_DATA if not given; ``memory``, bytes for decoded pictures above 96
            pixels, a quarter of the machine's if not given; and ``division``:

            - "honest" (default): settings are chosen on validation images, which are cut from the training
              images where the data set has none; the test images are for the report.
            - "published": as the literature and this course's sources do it. All training images are trained
              on, and the test images stand for the validation images too, so that whatever is chosen on them
              flatters. Caltech-101 and 256 have no division of their own: a tenth of each class is for
              testing, about as in the source of chapter 11.

    Raises:
        ValueError: the name is unknown, an option does not exist or is out of range, or the contents do not
            fit (see `kdlib.data.folder`).
        FileNotFoundError: the data set is not there; the message says how to get it.
    """
    kind, _, path = name.partition(":")
    if kind == "folder" and path:
        data = load_folder(path, **_checked(name, options, ("size", "memory", "division")))
        return _named(data)
    if name not in _LOADERS:
        near = difflib.get_close_matches(name, list_data(), n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"no data set is called {name!r}; {hint}There are: {', '.join(list_data())}.")
    load, known = _LOADERS[name]
    return _named(load(**_checked(name, options, known)))


def list_data() -> list[str]:
    """The names that `load_data` knows."""
    return [*_LOADERS, "folder:PATH"]


def _named(data: ImageData) -> ImageData:
    """Every split with where it comes from."""
    parts = {
        part: replace(getattr(data, part), source=f"{data.name}, {part} ({data.division})")
        for part in ("train", "val", "test")
    }
    named = replace(data, **parts)
    note(named)
    return named


def _cifar(name: str) -> Callable[..., ImageData]:
    return lambda **options: load_cifar(name, **options)


def _caltech(name: str, without: tuple[str, ...] = ()) -> Callable[..., ImageData]:
    """Torchvision's classes: 101 without the background folder, 257 with the clutter folder."""

    def load(
        size: int = sources()[name].size,
        root: str | os.PathLike[str] | None = None,
        memory: int | None = None,
        division: str = "honest",
    ) -> ImageData:
        source = sources()[name]
        shares = (0.7, 0.15, 0.15) if division == "honest" else (0.9, 0.1)
        reader = Reader(size, memory, source.statistics)
        return load_undivided(name, source.path(root), reader, shares, without)

    return load


def _divided(name: str) -> Callable[..., ImageData]:
    def load(
        size: int = sources()[name].size,
        root: str | os.PathLike[str] | None = None,
        memory: int | None = None,
        division: str = "honest",
    ) -> ImageData:
        source = sources()[name]
        return load_divided(name, source.path(root), Reader(size, memory, source.statistics), division)

    return load


_FILES = ("size", "root", "memory", "division")
_LOADERS: dict[str, tuple[Callable[..., ImageData], tuple[str, ...]]] = {
    "digits": (load_digits, ("size",)),
    "cifar10": (_cifar("cifar10"), ("root", "division")),
    "cifar100": (_cifar("cifar100"), ("root", "division")),
    "cifar10-jpeg": (_divided("cifar10-jpeg"), _FILES),
    "caltech101": (_caltech("caltech101", without=("BACKGROUND_Google",)), _FILES),
    "caltech256": (_caltech("caltech256"), _FILES),
    "hymenoptera": (_divided("hymenoptera"), _FILES),
}


def _checked(name: str, options: dict[str, Any], known: tuple[str, ...]) -> dict[str, Any]:
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ValueError(
            f"load_data({name!r}) has no option {unknown[0]!r}; its options are {', '.join(known)}."
        )
    size = options.get("size", 32)
    if not isinstance(size, int) or size < 8:
        raise ValueError(f"size is {size!r}; give a whole number of pixels, 8 or more.")
    if options.get("division", "honest") not in DIVISIONS:
        raise ValueError(f"division is {options['division']!r}; choose one of {', '.join(DIVISIONS)}.")
    return options
