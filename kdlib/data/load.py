"""`load_data`: a data set from its name."""

import inspect
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from kdlib.data.catalogue import sources
from kdlib.data.cifar import load_cifar
from kdlib.data.digits import load_digits
from kdlib.data.folder import Reader, load_divided, load_folder, load_undivided
from kdlib.data.notes import note
from kdlib.data.split import ImageData
from kdlib.names import near
from kdlib.own import enter, registered
from kdlib.paths import given_path

Loader = TypeVar("Loader", bound=Callable[..., ImageData])

DIVISIONS = ("honest", "published")


def load_data(name: str, **options: Any) -> ImageData:
    """A data set with its training, validation and test splits.

    - "digits": scikit-learn's handwritten digits, part of its installation.
    - "cifar10", "cifar100", "caltech101", "caltech256", "hymenoptera": below the data root, where
      ``kd data get NAME`` puts them; nothing is downloaded here.
    - "cifar10-jpeg": CIFAR-10 encoded again as JPEG files. Its numbers are not CIFAR-10's.
    - "folder:PATH": any folder with one sub-folder of images per class.
    - what you registered, see `register`.

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
    _check_text(name)
    kind, _, path = name.partition(":")
    if kind == "folder" and path:
        data = load_folder(path, **_checked(name, options, ("size", "memory", "division")))
        return _named(data)
    if name not in known_loaders():
        if name and given_path(name, "folder").is_dir():
            raise ValueError(f"{name!r} is a folder; for the images in it write 'folder:{name}'.")
        raise ValueError(f"no data set is called {name!r}; {near(name, list_data())}")
    load, known = known_loaders()[name]
    data = load(**_checked(name, options, known))
    if not isinstance(data, ImageData):
        raise ValueError(f"the data set {name!r} gives {data!r}; return a kdlib.data.ImageData.")
    return _named(data)


def register(name: str) -> Callable[[Loader], Loader]:
    """A decorator: a data set of your own, under a name that `load_data` and recipes know it by.

    .. code-block:: python

        @register("pets")
        def pets(size: int = 32) -> ImageData:
            return load_data("folder:photos/pets", size=size)

        load_data("pets", size=48)

    A recipe file that has ``modules = ["my_data"]`` imports ``my_data.py``, which lies beside it, and may
    then say ``data = {name = "pets"}``. Of a recipe's data, ``size`` and ``division`` are arguments; where
    there is only one division, leave that one out.

    Args:
        name: of a function that gives the images; letters, digits, "_", "-" and ".". No other data set may
            have it.

    Raises:
        ValueError: the name is none, or taken, or what it is for cannot be called.
    """

    def add(load: Loader) -> Loader:
        if not callable(load):
            raise ValueError(
                f"{name!r} is for {load!r}, which cannot be called; give a function that loads the images."
            )
        enter("data set", name, load, is_ours=name in _LOADERS or name == "folder")
        return load

    return add


def list_data() -> list[str]:
    """The names that `load_data` knows."""
    return [*known_loaders(), "folder:PATH"]


def is_own_data(name: str) -> bool:
    """Whether the images are the user's: of a folder, or of a function that was registered."""
    return name.startswith("folder:") or name in registered("data set")


def known_loaders() -> dict[str, tuple[Callable[..., ImageData], tuple[str, ...]]]:
    """For every name the function that loads it, and its options."""
    own = {
        name: (load, tuple(inspect.signature(load).parameters))
        for name, load in registered("data set").items()
    }
    return _LOADERS | own


def _check_text(name: object) -> None:
    if not isinstance(name, str):
        path = f"; for the images in a folder write 'folder:{name}'" if isinstance(name, os.PathLike) else ""
        raise ValueError(f"the name of a data set is text, and this is {name!r}{path}.")


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
