"""Which data sets are on this machine, and whether they are whole."""

import os

from kdlib.data.catalogue import data_root, sources
from kdlib.data.load import load_data


def inventory(root: str | os.PathLike[str] | None = None) -> list[str]:
    """A line for the data root, and one for each data set that the course knows by name."""
    lines = [f"data root: {data_root(root)}"]
    for source in sources().values():
        here = "here" if (data_root(root) / source.folder).is_dir() else "not here"
        size = f"{source.images:>6} images  {source.classes:>3} classes"
        lines.append(f"{source.name:<14} {here:<9} {size}  {source.title}")
    return lines


def check_data(name: str, root: str | os.PathLike[str] | None = None) -> str:
    """Count a data set's images and classes, and return the count in words.

    Raises:
        ValueError: there are others than there should be, or no data set has this name.
        FileNotFoundError: it is not there.
    """
    if name == "digits":
        raise ValueError("digits come with scikit-learn; there is nothing to check.")
    data = load_data(name, root=root, division="published")
    source, images = sources()[name], len(data.train) + len(data.test)
    if (images, data.num_classes) != (source.images, source.classes):
        raise ValueError(
            f"{source.title} in {source.path(root)} has {images} images in {data.num_classes} classes, and "
            f"should have {source.images} in {source.classes}; remove it and get it again."
        )
    return f"{name}: {images} images in {data.num_classes} classes, as it should be"
