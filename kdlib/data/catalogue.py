"""The data sets that the course knows by name, and where on this machine they are."""

import os
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from platformdirs import user_cache_path

from kdlib.data.split import Statistics
from kdlib.paths import folder_from, given_path


@dataclass(frozen=True)
class Source:
    """One entry of ``datasets.toml``.

    Attributes:
        name: what `load_data` is given.
        title: what people call it.
        images, classes: how many there are, training, validation and test together.
        size: side of the pictures in pixels, as `load_data` gives them unless asked otherwise.
        folder: below the data root.
        mean, std: per channel, for normalisation.
        licence, citation: on whose terms, and whom to thank.
        url: of the archive; None where it is not to be downloaded.
        md5: of the archive; None where none is published.
        inner: the archive in the archive that has the folder; None where it is in the archive itself. In
            either it stands by its own name.
    """

    name: str
    title: str
    images: int
    classes: int
    size: int
    folder: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    licence: str
    citation: str
    url: str | None = None
    md5: str | None = None
    inner: str | None = None

    @property
    def statistics(self) -> Statistics:
        return self.mean, self.std

    def path(self, root: str | os.PathLike[str] | None = None) -> Path:
        """The folder of this data set.

        Raises:
            FileNotFoundError: it is not there; the message says how to get it.
        """
        found = data_root(root) / self.folder
        if not found.is_dir():
            how = (
                f"kd data get {self.name}"
                if self.url
                else "shared/datasets/unpack, on the course's own machines; elsewhere take cifar10 instead"
            )
            raise FileNotFoundError(
                f"the data set {self.name!r} is not in {found}; get it with: {how}. "
                "KDLIB_DATA names another folder to look in."
            )
        return found


def data_root(root: str | os.PathLike[str] | None = None) -> Path:
    """`root`, or the folder that KDLIB_DATA names, or ``kdlib`` in the user's cache folder."""
    if root is not None:
        return given_path(root, "folder")
    return folder_from("KDLIB_DATA") or user_cache()


def user_cache() -> Path:
    """``kdlib`` in the user's cache folder, as each system has it."""
    return user_cache_path("kdlib", appauthor=False, opinion=False)


@cache
def sources() -> dict[str, Source]:
    """All entries of ``datasets.toml``, by name."""
    entries = tomllib.loads(files("kdlib.data").joinpath("datasets.toml").read_text(encoding="utf-8"))
    return {
        name: Source(name, **(entry | {"mean": tuple(entry["mean"]), "std": tuple(entry["std"])}))
        for name, entry in entries.items()
    }
