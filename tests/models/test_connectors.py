"""What joins the student's maps to the teacher's: shapes, formulas, and maps that do not fit."""

import numpy as np
import pytest
import torch
from torch import nn

from kdlib import losses
from kdlib.models import Regressor, ReviewFusion, VIDRegressor
from kdlib.models.connectors import AttentionFusion, resize

SIZES = [(8, 8), (4, 4), (16, 16), (5, 3), (4, 16)]


@pytest.mark.parametrize("size", SIZES)
def test_resized_maps_have_the_size_and_keep_a_constant(size):
    assert torch.equal(resize(torch.ones(2, 3, 8, 8), size), torch.ones(2, 3, *size))


def test_larger_maps_are_averaged_and_smaller_ones_interpolated():
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert resize(x, (2, 2)).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert resize(torch.tensor([[[[0.0, 1.0]]]]), (1, 4)).flatten().tolist() == [0, 0.25, 0.75, 1]
    assert resize(x, (4, 4)) is x


@pytest.mark.parametrize("size", [None, *SIZES])
def test_regressors_give_maps_like_the_teachers(size):
    maps = torch.randn(2, 6, 8, 8)
    for connector in (Regressor(6, 10), VIDRegressor(6, 10)):
        assert connector(maps, size).shape == (2, 10, *(size or (8, 8)))


def test_a_regressor_is_a_linear_map_of_channels_with_batch_norm():
    regressor = Regressor(3, 5).double()
    x = torch.randn(4, 3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weight = regressor.convolution.weight.detach().numpy()[:, :, 0, 0]
    y = np.einsum("dc,nchw->ndhw", weight, x.numpy())
    expected = (y - y.mean((0, 2, 3), keepdims=True)) / np.sqrt(y.var((0, 2, 3), keepdims=True) + 1e-5)
    np.testing.assert_allclose(regressor(x).detach().numpy(), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("variance", [0.01, 1.0, 5.0, 1e4])
def test_vid_starts_from_the_given_variance_and_learns_it(variance):
    regressor = VIDRegressor(3, 5, initial_variance=variance)
    assert regressor.log_scale.shape == (5,)
    started = nn.functional.softplus(regressor.log_scale) + 1e-5
    torch.testing.assert_close(started, torch.full((5,), variance), rtol=1e-5, atol=0)
    losses.vid_loss(
        regressor(torch.randn(2, 3, 4, 4)), torch.randn(2, 5, 4, 4), regressor.log_scale
    ).backward()
    assert all(weight.grad is not None for weight in regressor.parameters())


def test_review_fusion_gives_every_level_the_teachers_shape():
    student = [torch.randn(2, c, s, s) for c, s in ((16, 32), (32, 16), (64, 8))]
    sizes = [(16, 16), (8, 8), (8, 8)]
    fusion = ReviewFusion([16, 32, 64], [64, 128, 256])
    fused = fusion(student, sizes)
    shapes = [(2, c, *size) for c, size in zip((64, 128, 256), sizes, strict=True)]
    assert [tuple(maps.shape) for maps in fused] == shapes
    assert fusion.levels[0].enter[0].out_channels == 64
    assert ReviewFusion([2048], [10]).levels[0].enter[0].out_channels == 512
    assert ReviewFusion([16], [10], channels=4).levels[0].enter[0].out_channels == 4


def test_review_fusion_only_looks_deeper():
    """The loss of a level reaches its own map and deeper ones, never a shallower one."""
    student = [torch.randn(2, 4, s, s, requires_grad=True) for s in (8, 4, 2)]
    fused = ReviewFusion([4, 4, 4], [6, 6, 6])(student, [(8, 8), (4, 4), (2, 2)])
    for level, maps in enumerate(fused):
        gradients = torch.autograd.grad(maps.square().sum(), student, retain_graph=True, allow_unused=True)
        assert [gradient is not None for gradient in gradients] == [deeper >= level for deeper in range(3)]


def test_a_level_of_review_is_its_definition():
    """Sum weighted place by place with two sigmoids, from the student's map and the enlarged one below."""
    level = AttentionFusion(3, 4, 6).double().eval()
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 3, 4, 4, generator=generator, dtype=torch.float64)
    below = torch.randn(2, 4, 2, 2, generator=generator, dtype=torch.float64)
    _, fused = level(maps, below, (4, 4))
    own = level.enter(maps).detach().numpy()
    enlarged = below.numpy().repeat(2, axis=2).repeat(2, axis=3)
    weight = level.attention.weight.detach().numpy()[:, :, 0, 0]
    scores = np.einsum("dc,nchw->ndhw", weight, np.concatenate([own, enlarged], axis=1))
    gates = 1 / (1 + np.exp(-scores - level.attention.bias.detach().numpy()[None, :, None, None]))
    expected = gates[:, :1] * own + gates[:, 1:] * enlarged
    np.testing.assert_allclose(fused.detach().numpy(), expected, rtol=1e-10)


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (lambda: Regressor(6, 10)(torch.randn(2, 5, 8, 8)), r"\(2, 5, 8, 8\); give \(N, 6, H, W\)"),
        (lambda: Regressor(6, 10)(torch.randn(2, 6)), r"have shape \(2, 6\)"),
        (lambda: VIDRegressor(6, 10)(torch.randn(2, 5, 8, 8)), r"give \(N, 6, H, W\)"),
        (lambda: VIDRegressor(6, 10, initial_variance=0), r"initial_variance is 0"),
        (lambda: ReviewFusion([16, 32], [64]), r"student has 2 levels and the teacher 1"),
        (lambda: ReviewFusion([], []), r"at least one"),
        (lambda: ReviewFusion([4], [6])([], []), r"0 maps and 0 sizes for 1 levels"),
        (lambda: ReviewFusion([4], [6])([torch.randn(2, 5, 8, 8)], [(8, 8)]), r"give \(N, 4, H, W\)"),
    ],
)
def test_maps_that_do_not_fit(attempt, message):
    with pytest.raises(ValueError, match=message):
        attempt()
