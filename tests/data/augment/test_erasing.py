"""Random erasing: what it leaves alone, and torchvision's rectangles in distribution."""

import pytest
import torch
from scipy import stats
from torchvision.transforms import v2

from kdlib.data.augment import RandomErasing


def numbers(count, transform, seed=0):
    return torch.rand(count, transform.numbers, generator=torch.Generator().manual_seed(seed))


def test_one_rectangle_is_filled_in_all_channels_and_nothing_else():
    erase = RandomErasing(p=1.0, value=-7.0)
    images = torch.rand(50, 3, 12, 16, generator=torch.Generator().manual_seed(1))
    drawn = numbers(50, erase)
    erased = erase(images, drawn)
    for before, after, box in zip(images, erased, erase.boxes(drawn, 12, 16), strict=True):
        top, left, rows, columns = box.tolist()
        expected = before.clone()
        expected[:, top : top + rows, left : left + columns] = -7.0
        assert torch.equal(after, expected)
        assert rows * columns > 0


@pytest.mark.parametrize("p", [0.0, 0.25, 1.0])
def test_share_of_images_that_lose_a_rectangle(p):
    erase = RandomErasing(p=p)
    boxes = erase.boxes(numbers(4000, erase), 32, 32)
    share = (boxes[:, 2] > 0).double().mean()
    assert abs(share - p) <= 4 * (p * (1 - p) / 4000) ** 0.5


def test_rectangles_are_distributed_as_torchvisions():
    """Area, shape and place of 2,000 rectangles each; Kolmogorov and Smirnov's test with fixed seeds."""
    erase = RandomErasing(p=1.0)
    ours = erase.boxes(numbers(2000, erase), 32, 40).double()
    theirs_by = v2.RandomErasing(p=1.0, scale=(0.02, 0.33), ratio=(0.3, 3.3))
    with torch.random.fork_rng():
        torch.manual_seed(6)
        made = [theirs_by.make_params([torch.empty(3, 32, 40)]) for _ in range(2000)]
    theirs = torch.tensor([[box["i"], box["j"], box["h"], box["w"]] for box in made]).double()

    def figures(boxes):
        top, left, rows, columns = boxes.unbind(dim=1)
        return {"area": rows * columns, "shape": columns / rows, "top": top, "left": left}

    for name, value in figures(ours).items():
        assert stats.ks_2samp(value, figures(theirs)[name]).pvalue > 0.01, name


@pytest.mark.parametrize(
    ("options", "message"),
    [({"p": 1.5}, "p is 1.5"), ({"scale": (0.3, 0.1)}, "scale is"), ({"ratio": (-1, 1)}, "ratio is")],
)
def test_settings_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        RandomErasing(**options)
