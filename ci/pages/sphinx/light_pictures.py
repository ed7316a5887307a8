"""A Sphinx extension: the pictures on the pages in 256 colours, at about a third of their size.

A plot has few colours besides the blends at the edges of its letters, so the difference cannot be seen; where
it could, as in a photograph, the picture stays as it is. The notebooks keep the originals.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageChops
from sphinx.application import Sphinx

# Of 255: how far any colour of any pixel may be from the original.
LARGEST_DIFFERENCE = 16


def area(picture: Image.Image) -> int:
    """How many pixels it has."""
    return picture.width * picture.height


def lighten(path: Path) -> None:
    """Replace a PNG by one with a palette, if that is smaller and looks the same."""
    with Image.open(path) as opened:
        if opened.mode == "P" or opened.convert("RGBA").getchannel("A").histogram()[255] < area(opened):
            return
        original = opened.convert("RGB")
    palette = original.quantize(256, method=Image.Quantize.MAXCOVERAGE, kmeans=1, dither=Image.Dither.NONE)
    difference = ImageChops.difference(original, palette.convert("RGB"))
    if any(sum(band.histogram()[LARGEST_DIFFERENCE + 1 :]) for band in difference.split()):
        return
    smaller = path.with_suffix(".smaller.png")
    palette.save(smaller, optimize=True)
    if smaller.stat().st_size < path.stat().st_size:
        smaller.replace(path)
    smaller.unlink(missing_ok=True)


def lighten_all(app: Sphinx, exception: Exception | None) -> None:
    """Do so for every picture that a cell has drawn."""
    if exception is None:
        for path in sorted((Path(app.outdir) / "_images").glob("*.png")):
            lighten(path)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("build-finished", lighten_all)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
