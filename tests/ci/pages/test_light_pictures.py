"""Pictures become smaller where nobody can see it, and stay as they are where somebody could."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from ci.pages.sphinx.light_pictures import LARGEST_DIFFERENCE, lighten


def saved(picture: Image.Image, folder: Path) -> Path:
    path = folder / "picture.png"
    picture.save(path)
    return path


def test_a_drawing_is_smaller_and_looks_the_same(tmp_path: Path) -> None:
    drawing = Image.new("RGB", (400, 300), "white")
    pen = ImageDraw.Draw(drawing)
    for step in range(60):
        pen.line((10, 20, 390, 5 * step), fill=(20 + step, 99, 156), width=2)
    smooth = drawing.resize((200, 150), Image.Resampling.LANCZOS)
    path = saved(smooth, tmp_path)
    before = path.stat().st_size
    lighten(path)
    assert path.stat().st_size < 0.8 * before
    with Image.open(path) as after:
        difference = np.abs(np.asarray(after.convert("RGB"), int) - np.asarray(smooth, int))
    assert difference.max() <= LARGEST_DIFFERENCE
    assert [each.name for each in tmp_path.iterdir()] == ["picture.png"]


@pytest.mark.parametrize("kind", ["noise", "transparent"])
def test_what_would_change_stays_as_it_is(kind: str, tmp_path: Path) -> None:
    if kind == "noise":
        colours = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        path = saved(Image.fromarray(colours), tmp_path)
    else:
        path = saved(Image.new("RGBA", (64, 64), (0, 0, 0, 0)), tmp_path)
    before = path.read_bytes()
    lighten(path)
    assert path.read_bytes() == before
