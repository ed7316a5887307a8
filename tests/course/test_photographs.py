"""The photographs are the packages' own, upright, cut in the middle, and in colour."""

import pytest
import torch
from sklearn.datasets import load_sample_image

from kdlib.course.photographs import PHOTOGRAPHS, photographs


@pytest.mark.parametrize("size", [48, 224])
def test_they_are_squares_of_the_wanted_size(size):
    pictures = photographs(size)
    assert pictures.shape == (len(PHOTOGRAPHS), 3, size, size)
    assert pictures.dtype == torch.uint8


def test_at_its_own_height_a_photograph_keeps_its_pixels():
    whole = torch.tensor(load_sample_image("flower.jpg")).permute(2, 0, 1)
    height, width = whole.shape[1:]
    left = (width - height) // 2
    assert torch.equal(photographs(height)[0], whole[:, :, left : left + height])
