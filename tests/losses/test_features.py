"""The feature losses against float64 references written from the papers' formulas with NumPy and SciPy."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from kdlib import losses

SHAPE = (3, 4, 8, 6)


def maps(shape=SHAPE, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def reference_reduction(values, reduction):
    per_image = values.reshape(len(values), -1).sum(1)
    return {
        "batchmean": per_image.mean(),
        "mean": values.mean(),
        "sum": values.sum(),
        "none": per_image,
    }[reduction]


reductions = pytest.mark.parametrize("reduction", ["batchmean", "mean", "sum", "none"])


@reductions
@pytest.mark.parametrize("shape", [SHAPE, (3, 7)])
def test_hint_loss_is_the_formula(reduction, shape):
    student, teacher = maps(shape, 1), maps(shape, 2)
    expected = reference_reduction((student.numpy() - teacher.numpy()) ** 2, reduction)
    np.testing.assert_allclose(losses.hint_loss(student, teacher, reduction), expected, rtol=1e-12)


@reductions
@pytest.mark.parametrize("shape", [SHAPE, (3, 4)])
def test_vid_loss_is_the_log_density_of_a_gaussian(reduction, shape):
    mean, teacher = maps(shape, 1), maps(shape, 2)
    log_scale = torch.tensor([-2.0, 0.0, 1.0, 6.0], dtype=torch.float64)
    variance = np.log1p(np.exp(log_scale.numpy())) + 0.01
    log_density = np.zeros(shape)
    for c in range(4):
        log_density[:, c] = stats.norm.logpdf(teacher[:, c], mean[:, c], math.sqrt(variance[c]))
    expected = reference_reduction(-log_density - 0.5 * math.log(2 * math.pi), reduction)
    actual = losses.vid_loss(mean, teacher, log_scale, 0.01, reduction)
    np.testing.assert_allclose(actual, expected, rtol=1e-10)


def test_vid_gradient_reaches_the_scale():
    mean, teacher = maps(seed=1), maps(seed=2)
    log_scale = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda m, a: losses.vid_loss(m, teacher, a), (mean.requires_grad_(), log_scale)
    )


def test_vid_is_least_where_the_variance_is_the_mean_square_error():
    mean, teacher = torch.zeros(SHAPE, dtype=torch.float64), 3 * maps()
    error = teacher.square().mean()
    best = math.log(math.expm1(error.item() - 1e-5))

    def at(value):
        return losses.vid_loss(mean, teacher, torch.full((4,), value, dtype=torch.float64))

    assert at(best) < min(at(best - 0.1), at(best + 0.1))


def test_vid_variance_never_vanishes_nor_overflows():
    mean, teacher = maps(seed=1).float(), maps(seed=2).float()
    for value in (-1e4, 1e4):
        log_scale = torch.full((4,), value, requires_grad=True)
        loss = losses.vid_loss(mean, teacher, log_scale)
        loss.backward()
        assert loss.isfinite()
        assert log_scale.grad.isfinite().all()


def test_vid_bad_input():
    features = maps()
    with pytest.raises(
        ValueError, match=r"log_scale has shape \(3,\); give one number per channel, shape \(4,\)"
    ):
        losses.vid_loss(features, features, torch.zeros(3))
    for variance in (0, -1.0, float("nan")):
        with pytest.raises(
            ValueError, match=rf"minimum_variance is {variance}; give a finite number above 0"
        ):
            losses.vid_loss(features, features, torch.zeros(4), variance)


def reference_margin(scale, shift):
    """Mean of the part of a Gaussian below zero, by numerical integration."""
    sigma = abs(scale)
    density = stats.norm(shift, sigma).pdf
    low = min(shift, 0) - 12 * sigma
    mass, _ = integrate.quad(density, low, 0, epsabs=0, limit=400)
    first, _ = integrate.quad(lambda x: x * density(x), low, 0, epsabs=0, limit=400)
    return first / mass


@pytest.mark.parametrize(
    ("scale", "shift"), [(1, 0), (0.5, 0.3), (-0.7, -0.4), (2, -5), (1, 3.2), (1, 5), (0.1, 0.05)]
)
def test_ofd_margin_is_the_mean_of_the_negative_responses(scale, shift):
    margin = losses.ofd_margin(
        torch.tensor([scale], dtype=torch.float64), torch.tensor([shift], dtype=torch.float64)
    )
    np.testing.assert_allclose(margin.item(), reference_margin(scale, shift), rtol=1e-6)


def test_ofd_margin_of_the_code_differs_where_a_channel_is_hardly_ever_negative():
    scale, shift = torch.tensor([1.0, -2.0, 2.0]), torch.tensor([0.5, 1.0, 10.0])
    paper, code = losses.ofd_margin(scale, shift), losses.ofd_margin(scale, shift, form="code")
    assert stats.norm.cdf(-5) <= 0.001 < stats.norm.cdf(-0.5)
    torch.testing.assert_close(code[:2], paper[:2])
    assert code[2] == -6.0
    assert -1.0 < paper[2] < 0.0


@pytest.mark.parametrize("ratio", [50.0, 9e3, 2e4, 1e6])
def test_ofd_margin_far_out_is_that_of_an_exponential_tail(ratio):
    margin = losses.ofd_margin(torch.ones(1), torch.tensor([ratio]))
    np.testing.assert_allclose(margin.item(), -1 / ratio, rtol=1e-3)


def test_ofd_margin_of_a_channel_without_spread():
    margin = losses.ofd_margin(torch.zeros(3), torch.tensor([-2.0, 0.0, 2.0]))
    torch.testing.assert_close(margin, torch.tensor([-2.0, 0.0, 0.0]))


def test_ofd_margin_bad_input():
    with pytest.raises(ValueError, match=r"scale has shape \(3,\) and shift \(2,\)"):
        losses.ofd_margin(torch.ones(3), torch.ones(2))
    with pytest.raises(ValueError, match="NaN or infinite; look for a broken checkpoint"):
        losses.ofd_margin(torch.tensor([float("nan")]), torch.ones(1))


@reductions
def test_ofd_loss_is_the_formula(reduction):
    student, teacher = maps(seed=1), maps(seed=2)
    margin = torch.tensor([-0.1, -0.5, -1.0, 0.0], dtype=torch.float64)
    values = np.zeros(SHAPE)
    for n, c, h, w in np.ndindex(SHAPE):
        s, t = student[n, c, h, w].item(), max(teacher[n, c, h, w].item(), margin[c].item())
        values[n, c, h, w] = 0.0 if s <= t <= 0 else (s - t) ** 2
    actual = losses.ofd_loss(student, teacher, margin, reduction)
    np.testing.assert_allclose(actual, reference_reduction(values, reduction), rtol=1e-12)


def test_ofd_asks_nothing_of_a_student_more_silent_than_a_silent_teacher():
    teacher = -maps().abs() - 0.1
    margin = torch.full((4,), -10.0, dtype=torch.float64)
    assert losses.ofd_loss(teacher - 1, teacher, margin) == 0
    assert losses.ofd_loss(teacher + 0.05, teacher, margin) > 0


def test_ofd_margin_of_the_wrong_length():
    with pytest.raises(
        ValueError, match=r"margin has shape \(3,\); give one number per channel, shape \(4,\)"
    ):
        losses.ofd_loss(maps(), maps(), torch.zeros(3))


def reference_review(student, teacher):
    """Weighted mean of squared differences of block means; sizes here are multiples of the pyramid's."""
    height, width = student.shape[2:]
    terms, weights = [((student - teacher) ** 2).mean()], [1.0]
    for size in (4, 2, 1):
        if size < min(height, width):
            pooled = [
                x.reshape(*x.shape[:2], size, height // size, size, width // size).mean((3, 5))
                for x in (student, teacher)
            ]
            terms.append(((pooled[0] - pooled[1]) ** 2).mean())
            weights.append(weights[-1] / 2)
    return np.average(terms, weights=weights)


@pytest.mark.parametrize("size", [(8, 8), (8, 16), (4, 4), (2, 2), (1, 1)])
def test_review_loss_is_the_formula(size):
    student, teacher = maps((3, 4, *size), 1), maps((3, 4, *size), 2)
    expected = reference_review(student.numpy(), teacher.numpy())
    np.testing.assert_allclose(losses.review_loss(student, teacher).item(), expected, rtol=1e-12)


def test_review_sums_over_stages():
    student, teacher = (
        [maps((3, 4, 8, 8), 1), maps((3, 6, 4, 4), 2)],
        [maps((3, 4, 8, 8), 3), maps((3, 6, 4, 4), 4)],
    )
    expected = sum(reference_review(s.numpy(), t.numpy()) for s, t in zip(student, teacher, strict=True))
    np.testing.assert_allclose(losses.review_loss(student, teacher).item(), expected, rtol=1e-12)


def test_a_constant_difference_counts_the_same_at_all_sizes():
    teacher = maps((2, 3, 8, 8))
    torch.testing.assert_close(
        losses.review_loss(teacher + 2, teacher), torch.tensor(4.0, dtype=torch.float64)
    )


@pytest.mark.parametrize(
    "call",
    [
        losses.hint_loss,
        losses.review_loss,
        lambda s, t: losses.vid_loss(s, t, torch.zeros(4)),
        lambda s, t: losses.ofd_loss(s, t, torch.zeros(4)),
    ],
    ids=["hint", "review", "vid", "ofd"],
)
def test_shapes_that_differ(call):
    with pytest.raises(ValueError, match=r"\(3, 4, 8, 6\) and teacher features \(3, 5, 8, 6\); .*regressor"):
        call(maps(), maps((3, 5, 8, 6)))


@pytest.mark.parametrize(
    "call",
    [
        lambda x: losses.hint_loss(x, x, "average"),
        lambda x: losses.vid_loss(x, x, torch.zeros(4), reduction="average"),
        lambda x: losses.ofd_loss(x, x, torch.zeros(4), "average"),
    ],
    ids=["hint", "vid", "ofd"],
)
def test_unknown_reduction(call):
    with pytest.raises(ValueError, match=r"'average'.*batchmean, mean, sum, none"):
        call(maps())
