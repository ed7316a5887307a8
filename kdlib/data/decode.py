"""From a file to a square picture."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

Picture = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]

# Files a thread takes at a time: with one each, handing them out costs more than a small picture's decoding.
_FILES_AT_A_TIME = 128


def decode(path: Path, size: int) -> Picture:
    """The largest square in the middle of a picture, RGB, resized to (size, size, 3).

    Raises:
        ValueError: the file cannot be read as an image.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            # Lets the JPEG decoder skip detail that the resize would throw away.
            image.draft("RGB", (2 * size, 2 * size))
            square = image.convert("RGB")
            if square.size != (size, size):
                square = ImageOps.fit(square, (size, size), Image.Resampling.BICUBIC)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read as an image ({error}); repair or remove it.") from error
    return np.asarray(square)


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
