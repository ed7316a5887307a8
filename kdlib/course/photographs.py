"""Three photographs that come with scikit-learn and matplotlib, for chapters whose own data are digits."""

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

PHOTOGRAPHS = ("a flower", "a palace by a lake", "an officer")


def photographs(size: int = 224) -> Tensor:
    """The photographs, each cut to the square in its middle: uint8, (3, 3, size, size).

    The first two come with scikit-learn (by vultilion and by danielbuechele, CC BY 2.0), the third with
    matplotlib (Grace Hopper, by the United States Navy).
    """
    from matplotlib import cbook
    from sklearn.datasets import load_sample_image

    with Image.open(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)) as image:
        officer = np.array(image.convert("RGB"))
    arrays = load_sample_image("flower.jpg"), load_sample_image("china.jpg"), officer
    return torch.cat([_square(torch.tensor(array), size) for array in arrays])


def _square(pixels: Tensor, size: int) -> Tensor:
    """(H, W, 3) to (1, 3, size, size), bilinearly with antialiasing."""
    height, width, _ = pixels.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = pixels[top : top + side, left : left + side].permute(2, 0, 1)[None].float()
    resized = F.interpolate(square, size=(size, size), mode="bilinear", antialias=True)
    return resized.round().clamp(0, 255).to(torch.uint8)
