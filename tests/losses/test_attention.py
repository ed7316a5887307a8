"""Attention maps and their transfer against float64 references written from the paper's formulas."""

import numpy as np
import pytest
import torch

from kdlib import losses


def maps(shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def reference_map(features, p):
    """Sum of |A|^p over channels, divided by the 2-norm of the map, image by image."""
    result = np.zeros((features.shape[0], *features.shape[2:]))
    for n, image in enumerate(features):
        for channel in image:
            result[n] += np.abs(channel) ** p
        result[n] /= np.sqrt((result[n] ** 2).sum())
    return result


def reference_half_size(features):
    """Mean of each 2×2 block."""
    return sum(features[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)) / 4


def reference_loss(student, teacher, p, form):
    difference = reference_map(student, p) - reference_map(teacher, p)
    if form == "code":
        return np.mean(difference**2)
    return np.mean([np.sqrt((image**2).sum()) for image in difference])


@pytest.mark.parametrize("p", [1, 2, 3, 4.5])
def test_attention_map_is_the_formula(p):
    features = maps((3, 5, 4, 6))
    np.testing.assert_allclose(
        losses.attention_map(features, p), reference_map(features.numpy(), p), rtol=1e-12
    )


@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize("form", ["paper", "code"])
def test_attention_transfer_loss_is_the_formula(p, form):
    student, teacher = maps((3, 5, 4, 6), 1), maps((3, 8, 4, 6), 2)
    expected = reference_loss(student.numpy(), teacher.numpy(), p, form)
    actual = losses.attention_transfer_loss(student, teacher, p, form)
    np.testing.assert_allclose(actual.item(), expected, rtol=1e-12)


def test_the_forms_differ_by_square_and_by_size():
    """For one image: code = paper² / (H·W). That is why the weight 1000 belongs to the code's form."""
    student, teacher = maps((1, 5, 8, 8), 1), maps((1, 5, 8, 8), 2)
    paper = losses.attention_transfer_loss(student, teacher, form="paper")
    code = losses.attention_transfer_loss(student, teacher, form="code")
    torch.testing.assert_close(code, paper**2 / 64)
    torch.testing.assert_close(losses.attention_transfer_loss(student, teacher), code)


@pytest.mark.parametrize("form", ["paper", "code"])
def test_layers_are_summed(form):
    student = [maps((2, 3, 8, 8), 1), maps((2, 5, 4, 4), 2)]
    teacher = [maps((2, 6, 8, 8), 3), maps((2, 7, 4, 4), 4)]
    expected = sum(
        reference_loss(s.numpy(), t.numpy(), 2, form) for s, t in zip(student, teacher, strict=True)
    )
    actual = losses.attention_transfer_loss(student, teacher, form=form)
    np.testing.assert_allclose(actual.item(), expected, rtol=1e-12)


def test_the_larger_activations_are_averaged_down_before_the_power():
    small, large = maps((2, 3, 4, 4), 1), maps((2, 3, 8, 8), 2)
    expected = reference_loss(small.numpy(), reference_half_size(large.numpy()), 2, "code")
    for student, teacher in ((small, large), (large, small)):
        actual = losses.attention_transfer_loss(student, teacher)
        np.testing.assert_allclose(actual.item(), expected, rtol=1e-12)


@pytest.mark.parametrize("scale", [1e-6, 1e4, -3.0])
def test_the_map_says_where_and_not_how_strongly(scale):
    features, teacher = maps((2, 3, 4, 4), 1).float(), maps((2, 3, 4, 4), 2).float()
    torch.testing.assert_close(losses.attention_map(scale * features), losses.attention_map(features))
    torch.testing.assert_close(
        losses.attention_transfer_loss(scale * features, teacher),
        losses.attention_transfer_loss(features, teacher),
    )


def test_maps_are_of_norm_one_and_never_negative():
    attention = losses.attention_map(maps((3, 5, 4, 6)), p=3)
    assert (attention >= 0).all()
    torch.testing.assert_close(attention.square().sum((1, 2)), torch.ones(3, dtype=torch.float64))


def test_dead_features_have_a_map_of_zeros():
    assert (losses.attention_map(torch.zeros(2, 3, 4, 4)) == 0).all()


def test_order_and_copies_of_channels_do_not_matter():
    student, teacher = maps((2, 4, 4, 4), 1), maps((2, 4, 4, 4), 2)
    expected = losses.attention_transfer_loss(student, teacher)
    shuffled = torch.cat([student, student], dim=1)[:, [7, 0, 2, 5, 1, 6, 3, 4]]
    torch.testing.assert_close(losses.attention_transfer_loss(shuffled, teacher), expected)


@pytest.mark.parametrize("p", [0, 0.5, -1, float("nan"), float("inf")])
def test_exponent_out_of_range(p):
    features = maps((2, 3, 4, 4))
    for call in (
        lambda: losses.attention_map(features, p),
        lambda: losses.attention_transfer_loss(features, features, p),
    ):
        with pytest.raises(ValueError, match=rf"p is {p}; give a finite exponent of 1 or more"):
            call()


def test_lists_that_do_not_match():
    features = maps((2, 3, 4, 4))
    with pytest.raises(ValueError, match="student gives 2 feature maps and the teacher 1"):
        losses.attention_transfer_loss([features, features], features)
    with pytest.raises(ValueError, match="student gives 0 feature maps and the teacher 0; give one or more"):
        losses.attention_transfer_loss([], [])


def test_a_map_that_is_no_map():
    with pytest.raises(ValueError, match=r"given feature maps have shape \(3, 4\).*\(N, C, H, W\)"):
        losses.attention_map(torch.zeros(3, 4))
    with pytest.raises(ValueError, match=r"given feature maps hold nan in row 1"):
        losses.attention_map(torch.tensor([0.0, float("nan")]).reshape(2, 1, 1, 1))
