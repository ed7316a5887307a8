"""FSP matrices against float64 references written from the paper's formula with loops."""

import numpy as np
import pytest
import torch

from kdlib import losses


def maps(shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def reference_pool(features, size, pooling):
    """Blocks of equal size, each by its largest or its mean value."""
    step_h, step_w = features.shape[2] // size[0], features.shape[3] // size[1]
    result = np.zeros((*features.shape[:2], *size))
    for h in range(size[0]):
        for w in range(size[1]):
            block = features[:, :, h * step_h : (h + 1) * step_h, w * step_w : (w + 1) * step_w]
            result[:, :, h, w] = block.max((2, 3)) if pooling == "max" else block.mean((2, 3))
    return result


def reference_matrix(first, second, pooling):
    size = (min(first.shape[2], second.shape[2]), min(first.shape[3], second.shape[3]))
    first, second = reference_pool(first, size, pooling), reference_pool(second, size, pooling)
    result = np.zeros((len(first), first.shape[1], second.shape[1]))
    for n, i, j in np.ndindex(result.shape):
        for h, w in np.ndindex(size):
            result[n, i, j] += first[n, i, h, w] * second[n, j, h, w] / (size[0] * size[1])
    return result


@pytest.mark.parametrize("pooling", ["max", "average"])
@pytest.mark.parametrize(
    ("first", "second"),
    [((2, 3, 4, 4), (2, 5, 4, 4)), ((2, 3, 8, 4), (2, 5, 4, 4)), ((1, 2, 2, 4), (1, 3, 4, 2))],
)
def test_fsp_matrix_is_the_formula(first, second, pooling):
    first, second = maps(first, 1), maps(second, 2)
    expected = reference_matrix(first.numpy(), second.numpy(), pooling)
    np.testing.assert_allclose(losses.fsp_matrix(first, second, pooling), expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("pooling", ["max", "average"])
@pytest.mark.parametrize("reduction", ["batchmean", "mean", "sum", "none"])
def test_fsp_loss_is_the_formula(pooling, reduction):
    shapes = [(3, 2, 8, 8), (3, 4, 4, 4), (3, 5, 4, 4)]
    student = [maps(shape, seed) for seed, shape in enumerate(shapes)]
    teacher = [maps(shape, 10 + seed) for seed, shape in enumerate(shapes)]
    per_image, mean = np.zeros(3), 0.0
    for i in (0, 1):
        difference = reference_matrix(student[i].numpy(), student[i + 1].numpy(), pooling)
        difference -= reference_matrix(teacher[i].numpy(), teacher[i + 1].numpy(), pooling)
        per_image += (difference**2).sum((1, 2))
        mean += (difference**2).mean()
    expected = {
        "batchmean": per_image.mean(),
        "mean": mean,
        "sum": per_image.sum(),
        "none": per_image,
    }[reduction]
    actual = losses.fsp_loss(student, teacher, pooling, reduction)
    np.testing.assert_allclose(actual, expected, rtol=1e-10)


def test_max_and_average_pooling_differ():
    first, second = maps((1, 2, 8, 8), 1), maps((1, 3, 4, 4), 2)
    assert not torch.allclose(losses.fsp_matrix(first, second), losses.fsp_matrix(first, second, "average"))
    torch.testing.assert_close(losses.fsp_matrix(first, second), losses.fsp_matrix(first, second, "max"))


def test_teacher_may_be_larger_in_the_image():
    """Nothing is left of the positions but their number, so that only channels have to agree."""
    constant = [torch.ones(2, 3, 8, 8), 2 * torch.ones(2, 4, 8, 8)]
    smaller = [torch.ones(2, 3, 4, 4), 2 * torch.ones(2, 4, 2, 2)]
    assert losses.fsp_loss(smaller, constant) == 0


def test_flow_grows_with_the_product_of_both_layers():
    first, second = maps((1, 2, 4, 4), 1), maps((1, 3, 4, 4), 2)
    torch.testing.assert_close(losses.fsp_matrix(2 * first, 3 * second), 6 * losses.fsp_matrix(first, second))


def test_one_layer_is_not_enough():
    with pytest.raises(ValueError, match="FSP got 1 layer; give two or more"):
        losses.fsp_loss([maps((2, 3, 4, 4))], [maps((2, 3, 4, 4))])


def test_channels_that_differ():
    student, teacher = [maps((2, 3, 4, 4)), maps((2, 4, 4, 4))], [maps((2, 3, 4, 4)), maps((2, 8, 4, 4))]
    with pytest.raises(ValueError, match="student has 4 channels where the teacher has 8; FSP needs equal"):
        losses.fsp_loss(student, teacher)


def test_unknown_pooling_or_reduction():
    layers = [maps((2, 3, 4, 4)), maps((2, 3, 4, 4))]
    with pytest.raises(ValueError, match="pooling is 'median'; choose one of max, average"):
        losses.fsp_loss(layers, layers, pooling="median")
    with pytest.raises(ValueError, match="pooling is 'median'; choose one of max, average"):
        losses.fsp_matrix(*layers, pooling="median")
    with pytest.raises(ValueError, match=r"'average'.*batchmean, mean, sum, none"):
        losses.fsp_loss(layers, layers, reduction="average")
