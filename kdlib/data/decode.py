"""From a file to a square picture."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

if TYPE_CHECKING:
    from PIL import Image

Picture = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]

# Files a thread takes at a time: with one each, handing them out costs more than a small picture's decoding.
_FILES_AT_A_TIME = 128

# What Pillow raises at a damaged file.
_DAMAGED = (OSError, ValueError, SyntaxError)

# Pillow's types whose numbers may be of any size.
_WITHOUT_RANGE = {"I": "signed or 32-bit integers", "F": "floating-point numbers"}


def decode(path: Path, size: int) -> Picture:
    """The largest square in the middle of a picture, RGB, resized to (size, size, 3).

    The picture stands as the camera noted (EXIF), 16 bits a level are scaled by their whole range, what is
    transparent is white, and of several frames or pages it is the first.

    Raises:
        ValueError: the file cannot be read as an image, is too large, or has numbers without a range (32-bit
            integers, floating point).
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            # Lets the JPEG decoder skip detail that the resize would throw away.
            image.draft("RGB", (2 * size, 2 * size))
            image.load()
            _turn_upright(image)
            picture = _as_rgb(image)
            if picture is not None and picture.size != (size, size):
                picture = ImageOps.fit(picture, (size, size), Image.Resampling.BICUBIC)
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path} is too large ({error}); make it smaller, or remove it.") from error
    except _DAMAGED as error:
        raise ValueError(f"{path} cannot be read as an image ({error}); repair or remove it.") from error
    if picture is None:
        raise ValueError(
            f"{path} has {_WITHOUT_RANGE[image.mode]} for pixels, which do not say how dark black is and how "
            "light white; save it with 8 or 16 bits a level."
        )
    return np.asarray(picture)


def _turn_upright(image: "Image.Image") -> None:
    from PIL import ImageOps

    try:
        ImageOps.exif_transpose(image, in_place=True)
    except Exception:  # a damaged note can raise anything, and says nothing of a picture that is whole
        return


def _as_rgb(image: "Image.Image") -> "Image.Image | None":
    """Three levels of 8 bits a pixel, on white; None where the levels have no range."""
    from PIL import Image

    # Pillow has the 16 bits of a PGM file in its type of 32, scaled to their range.
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PPM", "PNG")):
        return _from_sixteen_bits(image).convert("RGB")
    if image.mode in _WITHOUT_RANGE:
        return None
    if image.mode == "La":  # the one type that Pillow takes to no other than this
        image = image.convert("LA")
    if not image.has_transparency_data:
        return image.convert("RGB")
    drawn = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", drawn.size, "white"), drawn).convert("RGB")


def _from_sixteen_bits(image: "Image.Image") -> "Image.Image":
    """8-bit grey. In TIFF it may be 12 bits of the 16, and 0 may be white; Pillow minds neither."""
    from PIL import Image
    from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION

    tags = getattr(image, "tag_v2", {})
    white = 2 ** tags.get(BITSPERSAMPLE, (16,))[0] - 1
    values = np.asarray(image).astype(np.uint32)
    grey = ((values * 255 + white // 2) // white).astype(np.uint8)
    if tags.get(PHOTOMETRIC_INTERPRETATION) == 0:
        grey = 255 - grey
    grey[values == image.info.get("transparency", -1)] = 255
    return Image.fromarray(grey)


def decode_all(paths: Sequence[Path], size: int, title: str) -> Tensor:
    """All pictures as one uint8 tensor (N, 3, size, size), with a progress bar of that title."""
    pictures = np.empty((len(paths), size, size, 3), dtype=np.uint8)
    starts = range(0, len(paths), _FILES_AT_A_TIME)

    def fill(start: int) -> int:
        some = paths[start : start + _FILES_AT_A_TIME]
        for place, path in enumerate(some, start):
            pictures[place] = decode(path, size)
        return len(some)

    with (
        ThreadPoolExecutor() as pool,
        tqdm(total=len(paths), desc=f"reading {title}", unit="image", leave=False) as bar,
    ):
        for count in pool.map(fill, starts):
            bar.update(count)
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous()
