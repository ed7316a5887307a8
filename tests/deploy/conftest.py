"""A folder of images as a reader might have one: two classes, several sizes, kinds and colours."""

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("images") / "pets"
    draw = np.random.default_rng(0)
    for name, ground in (("dark", 60), ("light, with a comma", 190)):
        (root / name).mkdir(parents=True)
        for number in range(20):
            sides = (20 + number, 34 - number)
            noise = draw.integers(-40, 40, size=(*sides, 3))
            pixels = np.clip(ground + noise, 0, 255).astype(np.uint8)
            picture = Image.fromarray(pixels)
            picture = picture.convert("L") if number % 3 == 0 else picture
            picture.save(root / name / f"{number}.{('png', 'jpg')[number % 2]}")
    return root
