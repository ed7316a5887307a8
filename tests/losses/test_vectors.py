"""Directions and products of vectors at the ends of float32."""

import numpy as np
import pytest
import torch

from kdlib.losses.vectors import centred, inner_products, unit_length


def vectors(shape=(5, 7), seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("scale", [1e-37, 1.0, 1e37])
def test_unit_length_at_all_sizes(scale):
    values = scale * vectors()
    expected = values.double().numpy() / np.linalg.norm(values.double().numpy(), axis=1, keepdims=True)
    np.testing.assert_allclose(unit_length(values, 1), expected, rtol=1e-5)


def test_gradient_of_unit_length():
    values = vectors().double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: unit_length(x, 1), (values,))
    assert torch.autograd.gradcheck(lambda x: unit_length(x, (0, 1)), (values,))


def test_zeros_stay_zeros_with_a_finite_gradient():
    values = torch.zeros(2, 3, requires_grad=True)
    result = unit_length(values, 1)
    result.sum().backward()
    assert (result == 0).all()
    assert values.grad.isfinite().all()


def test_centred_takes_the_mean_away():
    values = vectors().double()
    expected = values.numpy() - values.numpy().mean(1, keepdims=True)
    np.testing.assert_allclose(centred(values, 1), expected, rtol=1e-12)


def test_centred_equal_values_are_exactly_zero():
    values = torch.full((3, 7), 0.1)
    values[1] = 1 / 3
    values[2, 0] += 1e-4
    result = centred(values, 1)
    assert (result[:2] == 0).all()
    assert (result[2] != 0).all()


def test_inner_products_are_not_rounded_under_autocast():
    first, second = vectors((5, 64), 1), vectors((3, 64), 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = inner_products(first, second)
        rounded = first @ second.mT
    expected = first.double().numpy() @ second.double().numpy().T
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
    assert np.abs(rounded.double().numpy() - expected).max() > 1e-3, "autocast would have"
