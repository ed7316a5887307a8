"""Metrics against float64 references written from their definitions with NumPy and SciPy."""

import numpy as np
import pytest
import torch
from scipy import special

from kdlib import metrics

LABELS = torch.tensor([0, 1, 2, 3, 1, 2])


@pytest.fixture
def logits():
    return 3 * torch.randn(400, 10, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def labels():
    return torch.randint(0, 10, (400,), generator=torch.Generator().manual_seed(1))


def test_accuracy_counts_likeliest_classes(logits, labels):
    expected = np.mean(np.argmax(logits.numpy(), axis=1) == labels.numpy())
    assert metrics.accuracy(logits, labels) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("k", [1, 3, 10])
def test_top_k_accuracy_counts_the_first_k(logits, labels, k):
    best = np.argsort(-logits.numpy(), axis=1)[:, :k]
    expected = np.mean([label in row for label, row in zip(labels.numpy(), best, strict=True)])
    assert metrics.top_k_accuracy(logits, labels, k) == pytest.approx(expected, abs=1e-15)


def test_negative_log_likelihood_is_the_mean_over_images(logits, labels):
    log_p = special.log_softmax(logits.double().numpy(), axis=1)
    expected = -log_p[np.arange(400), labels.numpy()].mean()
    assert metrics.negative_log_likelihood(logits, labels) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("bins", [1, 5, 15])
def test_expected_calibration_error_is_the_formula(logits, labels, bins):
    p = special.softmax(logits.double().numpy(), axis=1)
    confidence, right = p.max(axis=1), p.argmax(axis=1) == labels.numpy()
    number = np.minimum((confidence * bins).astype(int), bins - 1)
    expected = sum(
        (number == b).mean() * abs(right[number == b].mean() - confidence[number == b].mean())
        for b in range(bins)
        if (number == b).any()
    )
    assert metrics.expected_calibration_error(logits, labels, bins) == pytest.approx(expected, abs=1e-12)


def test_agreement_is_about_the_teacher_not_the_label():
    student = torch.eye(4)[[0, 1, 2, 3]]
    teacher = torch.eye(4)[[0, 1, 3, 2]]
    assert metrics.agreement(student, teacher) == 0.5
    assert metrics.agreement(student, student) == 1.0


def test_all_metrics_have_a_name(logits, labels):
    found = metrics.classification_metrics(logits, labels, teacher_logits=logits)
    assert list(found) == ["accuracy", "top_5_accuracy", "nll", "ece", "agreement"]
    assert found["agreement"] == 1.0
    assert "agreement" not in metrics.classification_metrics(logits, labels)


def test_two_classes_have_no_top_5():
    found = metrics.classification_metrics(torch.randn(5, 2), torch.tensor([0, 1, 0, 1, 1]))
    assert found["top_5_accuracy"] == 1.0


@pytest.mark.parametrize(
    "metric",
    [
        metrics.accuracy,
        metrics.top_k_accuracy,
        metrics.negative_log_likelihood,
        metrics.expected_calibration_error,
    ],
)
class TestBadInput:
    def test_shapes(self, metric):
        with pytest.raises(ValueError, match=r"\(6, 4\).*\(5,\)"):
            metric(torch.zeros(6, 4), LABELS[:5])
        with pytest.raises(ValueError, match="at least 1"):
            metric(torch.zeros(0, 4), LABELS[:0])

    def test_nan(self, metric):
        logits = torch.zeros(6, 4)
        logits[4, 2] = float("nan")
        with pytest.raises(ValueError, match="nan in row 4"):
            metric(logits, LABELS)

    def test_labels_out_of_range(self, metric):
        with pytest.raises(ValueError, match=r"label 3 is out of range.*0 to 2"):
            metric(torch.zeros(6, 3), LABELS)


@pytest.mark.parametrize("bins", [0, -1])
def test_no_bin(bins):
    with pytest.raises(ValueError, match=f"bins is {bins}; it must be at least 1"):
        metrics.expected_calibration_error(torch.zeros(6, 4), LABELS, bins)


@pytest.mark.parametrize("k", [0, 5])
def test_k_out_of_range(k):
    with pytest.raises(ValueError, match=rf"k is {k}; with 4 classes"):
        metrics.top_k_accuracy(torch.zeros(6, 4), LABELS, k)


def test_agreement_of_different_shapes():
    with pytest.raises(ValueError, match="same images and classes"):
        metrics.agreement(torch.zeros(6, 4), torch.zeros(6, 5))


class TestLinearCka:
    @pytest.fixture
    def features(self):
        generator = torch.Generator().manual_seed(2)
        first = torch.randn(50, 6, generator=generator, dtype=torch.float64) + 3
        second = first[:, :4] @ torch.randn(4, 9, generator=generator, dtype=torch.float64)
        return first, second + torch.randn(50, 9, generator=generator, dtype=torch.float64)

    def test_it_is_the_alignment_of_centred_gram_matrices(self, features):
        # The definition of Kornblith et al. over images: tr(K H L H) with H = 1 - 11^T / N.
        x, y = (each.numpy() for each in features)
        centring = np.eye(50) - np.ones((50, 50)) / 50
        k, l = (centring @ each @ each.T @ centring for each in (x, y))  # noqa: E741
        expected = np.trace(k @ l) / np.sqrt(np.trace(k @ k) * np.trace(l @ l))
        assert 0.1 < expected < 0.9
        assert metrics.linear_cka(*features) == pytest.approx(expected, rel=1e-12)
        assert metrics.linear_cka(*features[::-1]) == pytest.approx(expected, rel=1e-12)

    def test_features_are_alike_to_themselves(self, features):
        assert metrics.linear_cka(features[0], features[0]) == pytest.approx(1, rel=1e-12)

    def test_rotation_shift_and_scale_change_nothing(self, features):
        first, second = features
        rotation = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(3)).double()).Q
        before = metrics.linear_cka(first, second)
        assert metrics.linear_cka(first @ rotation, second) == pytest.approx(before, rel=1e-12)
        assert metrics.linear_cka(1e-3 * first + 7, second) == pytest.approx(before, rel=1e-9)
        assert metrics.linear_cka(first, 1e100 * second) == pytest.approx(before, rel=1e-12)

    def test_another_linear_map_and_another_order_of_images_do(self, features):
        first, second = features
        before = metrics.linear_cka(first, second)
        stretched = first * torch.tensor([30, 1, 1, 1, 1, 1])
        assert abs(metrics.linear_cka(stretched, second) - before) > 0.05
        assert metrics.linear_cka(first.flip(0), second) < before / 2

    def test_features_that_do_not_go_together(self):
        first = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]])
        second = torch.tensor([[1.0], [1.0], [-1.0], [-1.0]])
        assert metrics.linear_cka(first, second) == 0

    def test_float32_is_computed_in_float64(self, features):
        first, second = (each.float() for each in features)
        assert metrics.linear_cka(first, second) == metrics.linear_cka(first.double(), second.double())

    def test_one_image(self):
        with pytest.raises(ValueError, match="features of 1 images"):
            metrics.linear_cka(torch.randn(1, 3), torch.randn(1, 3))

    @pytest.mark.parametrize("constant", [0.0, 0.1])
    def test_constant_features(self, constant):
        with pytest.raises(ValueError, match="second features are the same for all 7 images"):
            metrics.linear_cka(torch.randn(7, 3), torch.full((7, 2), constant))

    def test_shapes(self):
        with pytest.raises(ValueError, match=r"\(7, 3\) and \(6, 3\)"):
            metrics.linear_cka(torch.randn(7, 3), torch.randn(6, 3))
        with pytest.raises(ValueError, match=r"\(7, 3, 2, 2\)"):
            metrics.linear_cka(torch.randn(7, 3, 2, 2), torch.randn(7, 3))

    def test_nan(self):
        broken = torch.randn(7, 3)
        broken[4, 1] = float("nan")
        with pytest.raises(ValueError, match="first features hold nan or an infinity in row 4"):
            metrics.linear_cka(broken, torch.randn(7, 3))
