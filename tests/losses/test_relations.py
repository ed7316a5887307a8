"""The relational losses against float64 references written from the papers' formulas with loops."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import special
from scipy.spatial import distance

from kdlib import losses

FORMS = ["paper", "code"]


def features(shape=(6, 5), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def huber(difference):
    return special.huber(1.0, difference)


def reference_distance(student, teacher, form):
    terms = []
    relative = []
    for x in (student, teacher):
        pairs = distance.pdist(x)
        relative.append(distance.squareform(pairs / pairs.mean()))
    for i, j in itertools.permutations(range(len(student)), 2):
        terms.append(huber(relative[0][i, j] - relative[1][i, j]))
    return np.sum(terms) / (len(terms) if form == "paper" else len(student) ** 2)


def reference_angle(student, teacher, form):
    def cosine(x, i, j, k):
        return 1 - distance.cosine(x[i] - x[j], x[k] - x[j])

    terms = [
        huber(cosine(student, *triple) - cosine(teacher, *triple))
        for triple in itertools.permutations(range(len(student)), 3)
    ]
    return np.sum(terms) / (len(terms) if form == "paper" else len(student) ** 3)


def reference_similarity(student, teacher):
    total = 0.0
    for i in range(len(student)):
        rows = []
        for x in (student, teacher):
            row = np.array([x[i] @ other for other in x])
            rows.append(row / np.linalg.norm(row))
        total += ((rows[0] - rows[1]) ** 2).sum()
    return total / len(student) ** 2


def reference_kernel(x, gamma, order):
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    kernel = np.zeros((len(x), len(x)))
    for i, j in np.ndindex(kernel.shape):
        for p in range(order + 1):
            kernel[i, j] += np.exp(-2 * gamma) * (2 * gamma) ** p / math.factorial(p) * (x[i] @ x[j]) ** p
    return kernel


def reference_pkt(student, teacher, form):
    probabilities = []
    for x in (student, teacher):
        kernel = 1 - distance.cdist(x, x, "cosine") / 2
        if form == "paper":
            np.fill_diagonal(kernel, 0)
        probabilities.append(kernel / kernel.sum(1, keepdims=True))
    p_student, p_teacher = probabilities
    divergence = special.rel_entr(p_teacher, p_student)
    return divergence.mean() if form == "code" else divergence.sum() / len(student)


def reference_nst(student, teacher):
    """Squared MMD from its definition: distance of mean features, φ(x) = x ⊗ x for the kernel ⟨x, y⟩²."""
    total = 0.0
    for s, t in zip(student, teacher, strict=True):
        means = []
        for maps in (s, t):
            embedded = []
            for channel in maps.reshape(len(maps), -1):
                direction = channel / np.linalg.norm(channel)
                embedded.append(np.outer(direction, direction))
            means.append(np.mean(embedded, axis=0))
        total += ((means[0] - means[1]) ** 2).sum()
    return total / len(student)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("count", [2, 3, 7])
def test_rkd_distance_is_the_formula(form, count):
    student, teacher = features((count, 5), 1), features((count, 8), 2)
    expected = reference_distance(student.numpy(), teacher.numpy(), form)
    actual = losses.rkd_distance_loss(student, teacher, form)
    np.testing.assert_allclose(actual.item(), expected, rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("count", [3, 7])
def test_rkd_angle_is_the_formula(form, count):
    student, teacher = features((count, 5), 1), features((count, 8), 2)
    expected = reference_angle(student.numpy(), teacher.numpy(), form)
    np.testing.assert_allclose(losses.rkd_angle_loss(student, teacher, form).item(), expected, rtol=1e-10)


def test_similarity_is_the_formula():
    student, teacher = features((7, 5), 1), features((7, 8), 2)
    expected = reference_similarity(student.numpy(), teacher.numpy())
    actual = losses.similarity_preserving_loss(student, teacher)
    np.testing.assert_allclose(actual.item(), expected, rtol=1e-10)


@pytest.mark.parametrize("gamma", [0.4, 2.0])
@pytest.mark.parametrize("order", [1, 2, 5])
def test_correlation_is_the_formula(gamma, order):
    student, teacher = features((7, 5), 1), features((7, 8), 2)
    difference = reference_kernel(student.numpy(), gamma, order) - reference_kernel(
        teacher.numpy(), gamma, order
    )
    actual = losses.correlation_congruence_loss(student, teacher, gamma, order)
    np.testing.assert_allclose(actual.item(), (difference**2).mean(), rtol=1e-10)


def test_correlation_of_high_order_is_the_gaussian_kernel():
    student, teacher = features((7, 5), 1), features((7, 8), 2)
    kernels = []
    for x in (student.numpy(), teacher.numpy()):
        directions = x / np.linalg.norm(x, axis=1, keepdims=True)
        kernels.append(np.exp(-0.4 * distance.cdist(directions, directions, "sqeuclidean")))
    actual = losses.correlation_congruence_loss(student, teacher, order=30)
    np.testing.assert_allclose(actual.item(), ((kernels[0] - kernels[1]) ** 2).mean(), rtol=1e-10)


def test_correlation_code_multiplies_the_differences_of_neighbours():
    student, teacher = features((4, 3), 1), features((4, 3), 2)
    expected = 0.0
    for i in range(3):
        for d in range(3):
            expected += abs(student[i, d] - teacher[i, d]) * abs(student[i + 1, d] - teacher[i + 1, d]) / 3
    actual = losses.correlation_congruence_loss(student, teacher, form="code")
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("form", FORMS)
def test_pkt_is_the_formula(form):
    student, teacher = features((7, 5), 1), features((7, 8), 2)
    expected = reference_pkt(student.numpy(), teacher.numpy(), form)
    # The 1e-7 inside the logarithm is not in the reference.
    np.testing.assert_allclose(losses.pkt_loss(student, teacher, form).item(), expected, rtol=1e-4)


def test_pkt_of_opposite_images_is_finite():
    """k = 0 between opposite images: the teacher sees a neighbour where the student has none at all."""
    student = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    teacher = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    assert 0 < losses.pkt_loss(student, teacher) < 20


@pytest.mark.parametrize(
    ("student_shape", "teacher_shape"),
    [((2, 3, 4, 4), (2, 5, 4, 4)), ((2, 8, 2, 2), (2, 3, 2, 2)), ((2, 3, 2, 2), (2, 6, 2, 2))],
    ids=["few channels", "many channels of the student", "many channels of the teacher"],
)
def test_nst_is_the_distance_of_mean_embeddings(student_shape, teacher_shape):
    student, teacher = features(student_shape, 1), features(teacher_shape, 2)
    expected = reference_nst(student.numpy(), teacher.numpy())
    np.testing.assert_allclose(losses.nst_loss(student, teacher).item(), expected, rtol=1e-10)


def test_nst_averages_the_larger_maps_down():
    student, teacher = features((2, 3, 4, 4), 1), features((2, 5, 8, 8), 2)
    halved = sum(teacher[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)) / 4
    expected = reference_nst(student.numpy(), halved.numpy())
    np.testing.assert_allclose(losses.nst_loss(student, teacher).item(), expected, rtol=1e-10)


def test_nst_sees_a_set_of_patterns():
    student, teacher = features((2, 4, 3, 3), 1), features((2, 4, 3, 3), 2)
    strengths = torch.tensor([0.1, -2.0, 30.0, 1.0])[:, None, None]
    shuffled = (student * strengths)[:, [2, 0, 3, 1]]
    torch.testing.assert_close(losses.nst_loss(shuffled, teacher), losses.nst_loss(student, teacher))


@pytest.mark.parametrize("loss", [losses.rkd_distance_loss, losses.rkd_angle_loss])
def test_rkd_does_not_see_moves_turns_and_scales(loss):
    student, teacher = features((7, 5), 1), features((7, 5), 2)
    turn, _ = torch.linalg.qr(features((5, 5), 3))
    expected = loss(student, teacher)
    torch.testing.assert_close(loss(1000 * student @ turn + 5, teacher), expected)
    torch.testing.assert_close(loss(student, 0.01 * teacher @ turn - 3), expected)
    assert loss(0.1 * teacher @ turn + 1, teacher) < 1e-12


@pytest.mark.parametrize(
    "loss",
    [losses.similarity_preserving_loss, losses.correlation_congruence_loss, losses.pkt_loss],
)
def test_similarities_do_not_see_turns_and_scales(loss):
    student, teacher = features((7, 5), 1), features((7, 5), 2)
    turn, _ = torch.linalg.qr(features((5, 5), 3))
    torch.testing.assert_close(loss(1000 * student @ turn, teacher), loss(student, teacher))


def test_maps_are_flattened():
    student, teacher = features((5, 2, 3, 2), 1), features((5, 4), 2)
    for loss in (
        losses.rkd_distance_loss,
        losses.rkd_angle_loss,
        losses.similarity_preserving_loss,
        losses.correlation_congruence_loss,
        losses.pkt_loss,
    ):
        torch.testing.assert_close(loss(student, teacher), loss(student.reshape(5, 12), teacher))


@pytest.mark.parametrize("form", FORMS)
def test_too_few_images_have_no_relation(form):
    one, two = (features((1, 5), 1), features((1, 5), 2)), (features((2, 5), 1), features((2, 5), 2))
    for loss in (
        losses.rkd_distance_loss,
        losses.rkd_angle_loss,
        losses.pkt_loss,
        losses.correlation_congruence_loss,
    ):
        assert loss(*one, form=form).abs() < 1e-12
    assert losses.similarity_preserving_loss(*one) < 1e-12
    assert losses.rkd_angle_loss(*two, form) == 0
    assert losses.pkt_loss(*two).abs() < 1e-12


def test_images_that_coincide_have_no_angle_and_no_explosion():
    student = torch.randn(6, 32, generator=torch.Generator().manual_seed(0)) + 100
    student[3] = student[2]
    student[4] = student[2] * (1 + 1e-7)
    student.requires_grad_()
    teacher = torch.randn(6, 32, generator=torch.Generator().manual_seed(1))
    for loss in (losses.rkd_angle_loss, losses.rkd_distance_loss):
        (gradient,) = torch.autograd.grad(loss(student, teacher), student)
        assert gradient.isfinite().all()
        assert gradient.abs().max() < 1


def test_angles_keep_float32s_precision_far_from_the_origin():
    """Inner products of features around 1000 are 10⁷; without centring, their differences would be noise."""
    student, teacher = features((8, 16), 1) + 1000, features((8, 16), 2)
    exact = losses.rkd_angle_loss(student, teacher)
    single = losses.rkd_angle_loss(student.float(), teacher.float())
    torch.testing.assert_close(single.double(), exact, rtol=1e-3, atol=0)


def test_angles_need_no_tensor_beyond_the_cube_of_the_batch():
    count, width = 12, 500
    student, teacher = features((count, width), 1).requires_grad_(), features((count, width), 2)
    saved = []

    def noted(tensor):
        saved.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(noted, lambda tensor: tensor):
        losses.rkd_angle_loss(student, teacher)
    assert max(saved) <= max(count**3, count * width)


def test_correlation_code_needs_one_width():
    with pytest.raises(ValueError, match=r"\(6, 5\) and teacher features \(6, 4\); .*regressor"):
        losses.correlation_congruence_loss(features(), features((6, 4)), form="code")


def test_correlation_parameters_out_of_range():
    for gamma in (0, -1.0, float("nan")):
        with pytest.raises(ValueError, match=rf"gamma is {gamma}; give a finite number above 0"):
            losses.correlation_congruence_loss(features(), features(), gamma=gamma)
    with pytest.raises(ValueError, match="order is 0; give 1 or more"):
        losses.correlation_congruence_loss(features(), features(), order=0)
