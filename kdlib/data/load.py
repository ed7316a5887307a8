"""`load_data`: a data set from its name."""

import difflib
from typing import Any

from kdlib.data.digits import load_digits
from kdlib.data.folder import load_folder
from kdlib.data.split import ImageData

_LOADERS = {"digits": load_digits}


def load_data(name: str, **options: Any) -> ImageData:
    """A data set with its training, validation and test splits.

    Args:
        name: "digits" (scikit-learn's handwritten digits, part of its installation), or "folder:PATH" for
            any folder with one sub-folder of images per class.
        options: ``size``, the side of the square pictures in pixels.

    Raises:
        ValueError: the name is unknown, an option does not exist, or the folder's contents do not fit (see
            `kdlib.data.folder`).
        FileNotFoundError: the folder does not exist.
    """
    kind, _, path = name.partition(":")
    if kind == "folder" and path:
        return load_folder(path, **_known(name, options))
    if name not in _LOADERS:
        near = difflib.get_close_matches(name, [*_LOADERS, "folder:PATH"], n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"no data set is called {name!r}; {hint}There are: {', '.join(list_data())}.")
    return _LOADERS[name](**_known(name, options))


def list_data() -> list[str]:
    """The names that `load_data` knows."""
    return [*_LOADERS, "folder:PATH"]


def _known(name: str, options: dict[str, Any]) -> dict[str, Any]:
    unknown = sorted(set(options) - {"size"})
    if unknown:
        raise ValueError(f"load_data({name!r}) has no option {unknown[0]!r}; its option is size.")
    size = options.get("size")
    if size is not None and (not isinstance(size, int) or size < 8):
        raise ValueError(f"size is {size!r}; give a whole number of pixels, 8 or more.")
    return options
