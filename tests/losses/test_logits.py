"""The logit losses against float64 references written from their formulas with NumPy and SciPy."""

import numpy as np
import pytest
import torch
from scipy import special, stats

from kdlib import losses

SHAPES = [(1, 2), (3, 10), (64, 100)]
TEMPERATURES = [0.5, 1.0, 4.0, 20.0]


def logits(shape, seed=0, scale=3.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(shape, generator=generator, dtype=torch.float64)


def reference_divergence(student, teacher, temperature):
    """T² KL(p_teacher ‖ p_student) of each row, by scipy.special.rel_entr."""
    p_student = special.softmax(student / temperature, axis=1)
    p_teacher = special.softmax(teacher / temperature, axis=1)
    return temperature**2 * special.rel_entr(p_teacher, p_student).sum(axis=1)


def reference_reduction(per_image, classes, reduction):
    total = per_image.sum()
    return {
        "batchmean": total / len(per_image),
        "mean": total / (len(per_image) * classes),
        "sum": total,
        "none": per_image,
    }[reduction]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("reduction", ["batchmean", "mean", "sum", "none"])
def test_soft_target_loss_is_the_formula(shape, temperature, reduction):
    student, teacher = logits(shape, 1), logits(shape, 2)
    expected = reference_reduction(
        reference_divergence(student.numpy(), teacher.numpy(), temperature), shape[1], reduction
    )
    actual = losses.soft_target_loss(student, teacher, temperature, reduction)
    np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-10)


@pytest.mark.parametrize("reduction", ["batchmean", "mean", "sum", "none"])
def test_logit_mse_loss_is_the_formula(reduction):
    student, teacher = logits((5, 7), 1), logits((5, 7), 2)
    expected = reference_reduction(((student - teacher).numpy() ** 2).sum(axis=1), 7, reduction)
    np.testing.assert_allclose(
        losses.logit_mse_loss(student, teacher, reduction).numpy(), expected, rtol=1e-12
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_hard_label_loss_of_soft_labels_is_the_formula(smoothing):
    student = logits((5, 4))
    labels = torch.rand(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).softmax(1)
    smoothed = (1 - smoothing) * labels.numpy() + smoothing / 4
    values = student.detach().numpy()
    expected = -(smoothed * (values - np.log(np.exp(values).sum(1, keepdims=True)))).sum(1).mean()
    np.testing.assert_allclose(
        losses.hard_label_loss(student, labels, smoothing).item(), expected, rtol=1e-12
    )
    student.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: losses.hard_label_loss(s, labels, smoothing), (student,))


def test_one_hot_soft_labels_are_class_indices():
    student, labels = logits((5, 4)), torch.tensor([0, 3, 1, 1, 2])
    one_hot = torch.nn.functional.one_hot(labels, 4).bfloat16()
    torch.testing.assert_close(
        losses.hard_label_loss(student, one_hot), losses.hard_label_loss(student, labels)
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_hard_label_loss_is_the_formula(smoothing):
    student, labels = logits((6, 4)), torch.tensor([0, 1, 2, 3, 3, 0])
    log_p = special.log_softmax(student.numpy(), axis=1)
    target = (1 - smoothing) * np.eye(4)[labels] + smoothing / 4
    expected = -(target * log_p).sum(axis=1).mean()
    np.testing.assert_allclose(
        losses.hard_label_loss(student, labels, smoothing).item(), expected, rtol=1e-12
    )


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_softened_is_softmax_of_the_divided_logits(temperature):
    z = logits((4, 9))
    expected = special.softmax(z.numpy() / temperature, axis=1)
    np.testing.assert_allclose(losses.softened(z, temperature).numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("reduction", ["batchmean", "mean", "sum", "none"])
def test_gradients_by_finite_differences(reduction):
    student, teacher = logits((3, 5), 1).requires_grad_(), logits((3, 5), 2).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda s, t: losses.soft_target_loss(s, t, 3.0, reduction), (student, teacher)
    )
    assert torch.autograd.gradcheck(lambda s, t: losses.logit_mse_loss(s, t, reduction), (student, teacher))
    labels = torch.tensor([0, 4, 2])
    assert torch.autograd.gradcheck(lambda s: losses.hard_label_loss(s, labels), (student,))


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_gradient_is_temperature_times_the_difference_of_probabilities(temperature):
    student, teacher = logits((4, 6), 1).requires_grad_(), logits((4, 6), 2)
    losses.soft_target_loss(student, teacher, temperature).backward()
    difference = special.softmax(student.detach().numpy() / temperature, axis=1) - special.softmax(
        teacher.numpy() / temperature, axis=1
    )
    np.testing.assert_allclose(student.grad.numpy(), temperature * difference / 4, rtol=1e-9, atol=1e-15)


def test_gradient_keeps_its_size_at_high_temperature():
    """With T² inside, the gradient tends to (z_s − z_t) / C for centred logits; without, it would vanish."""
    student, teacher = logits((8, 10), 1), logits((8, 10), 2)
    student, teacher = student - student.mean(1, keepdim=True), teacher - teacher.mean(1, keepdim=True)
    student.requires_grad_()
    losses.soft_target_loss(student, teacher, 1e4, "sum").backward()
    torch.testing.assert_close(student.grad, (student - teacher).detach() / 10, rtol=1e-2, atol=1e-3)


def test_high_temperature_limit_is_half_the_logit_mse():
    student, teacher = logits((8, 10), 1), logits((8, 10), 2)
    student, teacher = student - student.mean(1, keepdim=True), teacher - teacher.mean(1, keepdim=True)
    soft = losses.soft_target_loss(student, teacher, 1e4)
    torch.testing.assert_close(soft, losses.logit_mse_loss(student, teacher) / 2, rtol=1e-3, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_extreme_logits_give_finite_values_and_gradients(dtype, temperature):
    student = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]], dtype=dtype, requires_grad=True)
    teacher = torch.tensor([[-1e4, 1e4, 0.0], [1e4, 1e4, -1e4]], dtype=dtype)
    loss = losses.soft_target_loss(student, teacher, temperature)
    loss.backward()
    expected = reference_log_space(student.detach().double().numpy(), teacher.double().numpy(), temperature)
    np.testing.assert_allclose(loss.item(), expected.mean(), rtol=1e-6)
    assert student.grad.isfinite().all()


def reference_log_space(student, teacher, temperature):
    """The same divergence with logarithms kept: `rel_entr` is infinite where p_student underflows."""
    log_student = special.log_softmax(student / temperature, axis=1)
    log_teacher = special.log_softmax(teacher / temperature, axis=1)
    return temperature**2 * (np.exp(log_teacher) * (log_teacher - log_student)).sum(axis=1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_computed_in_float32(dtype):
    student, teacher = logits((16, 10), 1).to(dtype), logits((16, 10), 2).to(dtype)
    expected = reference_divergence(student.double().numpy(), teacher.double().numpy(), 4.0).mean()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        soft = losses.soft_target_loss(student, teacher)
    assert soft.dtype == torch.float32
    np.testing.assert_allclose(soft.item(), expected, rtol=1e-5)
    mse = losses.logit_mse_loss(student, teacher)
    np.testing.assert_allclose(mse.item(), ((student.double() - teacher.double()) ** 2).mean(), rtol=1e-5)


def test_loss_is_zero_for_a_student_that_answers_as_its_teacher():
    z = logits((5, 10))
    assert losses.soft_target_loss(z, z + 7.0).abs() < 1e-12, "a constant added to all logits changes nothing"
    assert losses.logit_mse_loss(z, z) == 0


def test_order_of_the_batch_does_not_matter():
    student, teacher = logits((9, 4), 1), logits((9, 4), 2)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(
        losses.soft_target_loss(student, teacher), losses.soft_target_loss(student[order], teacher[order])
    )


def test_teacher_and_student_are_not_interchangeable():
    student, teacher = logits((9, 4), 1), logits((9, 4), 2)
    forward = losses.soft_target_loss(student, teacher)
    assert abs(forward - losses.soft_target_loss(teacher, student)) > 0.01 * forward


def test_loss_compiles_to_one_graph():
    student, teacher = logits((4, 10), 1), logits((4, 10), 2)
    compiled = torch.compile(losses.soft_target_loss, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(student, teacher), losses.soft_target_loss(student, teacher))


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan"), float("inf")])
def test_temperature_must_be_positive_and_finite(temperature):
    z = logits((2, 3))
    for call in (lambda: losses.soft_target_loss(z, z, temperature), lambda: losses.softened(z, temperature)):
        with pytest.raises(ValueError, match=rf"temperature is {temperature}.*above 0"):
            call()


@pytest.mark.parametrize("loss", [losses.soft_target_loss, losses.logit_mse_loss])
class TestBadInput:
    def test_shapes_that_differ(self, loss):
        with pytest.raises(ValueError, match=r"\(2, 3\).*\(2, 4\).*same classes"):
            loss(logits((2, 3)), logits((2, 4)))

    @pytest.mark.parametrize("shape", [(3,), (0, 3), (2, 3, 4)])
    def test_shapes_that_are_no_logits(self, loss, shape):
        with pytest.raises(ValueError, match=r"shape \(N, C\)"):
            loss(logits(shape), logits(shape))

    def test_whole_numbers(self, loss):
        with pytest.raises(ValueError, match=r"torch\.int64.*floating-point"):
            loss(torch.zeros(2, 3, dtype=torch.int64), logits((2, 3)))

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_logits_that_are_not_finite(self, loss, value):
        good, broken = logits((4, 3)), logits((4, 3))
        broken[2, 1] = value
        with pytest.raises(ValueError, match=rf"student logits hold {value} in row 2"):
            loss(broken, good)
        with pytest.raises(ValueError, match=rf"teacher logits hold {value} in row 2"):
            loss(good, broken)

    def test_unknown_reduction(self, loss):
        with pytest.raises(ValueError, match=r"'average'.*batchmean, mean, sum, none"):
            loss(logits((2, 3)), logits((2, 3)), reduction="average")


@pytest.mark.parametrize("label", [-1, 3, -100])
def test_labels_out_of_range(label):
    with pytest.raises(ValueError, match=rf"label {label} is out of range.*0 to 2"):
        losses.hard_label_loss(logits((2, 3)), torch.tensor([0, label]))


def test_labels_of_the_wrong_shape_or_type():
    with pytest.raises(ValueError, match=r"give 2 class indices"):
        losses.hard_label_loss(logits((2, 3)), torch.tensor([0]))
    with pytest.raises(ValueError, match=r"torch\.int32"):
        losses.hard_label_loss(logits((2, 3)), torch.zeros(2, dtype=torch.int32))
    with pytest.raises(ValueError, match=r"labels have shape \(2,\) and the student's logits \(2, 3\)"):
        losses.hard_label_loss(logits((2, 3)), torch.zeros(2))
    with pytest.raises(ValueError, match="labels are no probabilities"):
        losses.hard_label_loss(logits((2, 3)), torch.ones(2, 3))


@pytest.mark.parametrize("smoothing", [-0.1, 1.5, float("nan")])
def test_label_smoothing_out_of_range(smoothing):
    with pytest.raises(ValueError, match="between 0 and 1"):
        losses.hard_label_loss(logits((2, 3)), torch.tensor([0, 1]), smoothing)


def reference_dkd(student, teacher, labels, alpha, beta, temperature):
    """The paper's two divergences, image by image, from probabilities."""
    total = 0.0
    for s, t, y in zip(student, teacher, labels, strict=True):
        p_s, p_t = special.softmax(s / temperature), special.softmax(t / temperature)
        label_part = special.rel_entr([p_t[y], 1 - p_t[y]], [p_s[y], 1 - p_s[y]]).sum()
        others_s, others_t = np.delete(p_s, y) / (1 - p_s[y]), np.delete(p_t, y) / (1 - p_t[y])
        total += alpha * label_part + beta * special.rel_entr(others_t, others_s).sum()
    return temperature**2 * total / len(labels)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize(("alpha", "beta"), [(1, 8), (0, 1), (1, 0), (0.5, 2)])
def test_dkd_loss_is_the_formula(temperature, alpha, beta):
    student, teacher, labels = logits((5, 7), 1), logits((5, 7), 2), torch.tensor([0, 6, 3, 3, 1])
    expected = reference_dkd(student.numpy(), teacher.numpy(), labels.numpy(), alpha, beta, temperature)
    actual = losses.dkd_loss(student, teacher, labels, alpha, beta, temperature)
    np.testing.assert_allclose(actual.item(), expected, rtol=1e-9)


def test_dkd_parts_add_up_to_the_soft_target_loss():
    """KL = TCKD + (1 − p_y) NCKD, the paper's reformulation; for one image the weights are numbers."""
    student, teacher, labels = logits((1, 7), 1), logits((1, 7), 2), torch.tensor([3])
    beta = 1 - special.softmax(teacher.numpy() / 4)[0, 3]
    torch.testing.assert_close(
        losses.dkd_loss(student, teacher, labels, 1.0, beta), losses.soft_target_loss(student, teacher)
    )


def test_dkd_of_two_classes_has_no_second_part():
    student, teacher, labels = logits((4, 2), 1), logits((4, 2), 2), torch.tensor([0, 1, 1, 0])
    alone = losses.dkd_loss(student, teacher, labels, beta=0)
    torch.testing.assert_close(alone, losses.dkd_loss(student, teacher, labels))
    torch.testing.assert_close(
        losses.dkd_loss(student, teacher, labels), losses.soft_target_loss(student, teacher)
    )


def test_dkd_does_not_see_the_order_of_the_batch():
    student, teacher, labels = logits((5, 7), 1), logits((5, 7), 2), torch.tensor([0, 6, 3, 3, 1])
    order = torch.tensor([4, 2, 0, 1, 3])
    torch.testing.assert_close(
        losses.dkd_loss(student[order], teacher[order], labels[order]),
        losses.dkd_loss(student, teacher, labels),
    )


def test_dkd_keeps_what_a_sure_teacher_says_of_the_other_classes():
    """In float32 the probabilities of the others are 0 here; their logarithms are not."""
    teacher = torch.tensor([[200.0, 3.0, 0.0, 1.0]])
    student = torch.tensor([[200.0, 0.0, 3.0, 1.0]])
    others = losses.dkd_loss(student, teacher, torch.tensor([0]), 0.0, 1.0, 1.0)
    p_s, p_t = special.softmax([0.0, 3.0, 1.0]), special.softmax([3.0, 0.0, 1.0])
    np.testing.assert_allclose(others.item(), special.rel_entr(p_t, p_s).sum(), rtol=1e-5)


@pytest.mark.parametrize("label", [-1, 3])
def test_dkd_labels_out_of_range(label):
    with pytest.raises(ValueError, match=rf"label {label} is out of range.*0 to 2"):
        losses.dkd_loss(logits((2, 3)), logits((2, 3)), torch.tensor([0, label]))


def reference_dist(student, teacher, beta, gamma, temperature):
    p_s, p_t = special.softmax(student / temperature, axis=1), special.softmax(teacher / temperature, axis=1)
    inter = np.mean([1 - stats.pearsonr(s, t)[0] for s, t in zip(p_s, p_t, strict=True)])
    intra = np.mean([1 - stats.pearsonr(s, t)[0] for s, t in zip(p_s.T, p_t.T, strict=True)])
    return temperature**2 * (beta * inter + gamma * intra)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize(("beta", "gamma"), [(1, 1), (2, 0), (0, 3)])
@pytest.mark.parametrize("form", ["paper", "code"])
def test_dist_loss_is_the_formula(temperature, beta, gamma, form):
    student, teacher = logits((6, 5), 1), logits((6, 5), 2)
    expected = reference_dist(student.numpy(), teacher.numpy(), beta, gamma, temperature)
    actual = losses.dist_loss(student, teacher, beta, gamma, temperature, form)
    tolerance = 1e-9 if form == "paper" else 1e-3  # the code's 1e-8 is not in the reference
    np.testing.assert_allclose(actual.item(), expected, rtol=tolerance)


def test_dist_forms_differ_for_a_class_that_is_never_likely():
    teacher = logits((6, 5), 2)
    teacher[:, 4] -= 20
    per_class = losses.dist_loss(teacher, teacher, beta=0.0)
    with_epsilon = losses.dist_loss(teacher, teacher, beta=0.0, form="code")
    assert per_class.abs() < 1e-12
    assert with_epsilon > 0.19, "one of five classes counts as uncorrelated"


@pytest.mark.parametrize("share", [0.05, 0.5, 1.0])
def test_dist_does_not_see_positive_affine_maps_of_the_probabilities(share):
    student, teacher = logits((6, 5), 1), logits((6, 5), 2)
    mixed = (share * losses.softened(teacher, 1.0) + (1 - share) / 5).log()
    assert losses.dist_loss(mixed, teacher).abs() < 1e-12
    torch.testing.assert_close(losses.dist_loss(student, mixed), losses.dist_loss(student, teacher))


def test_dist_of_one_image_is_its_classes_and_a_constant():
    student, teacher = logits((1, 5), 1).requires_grad_(), logits((1, 5), 2)
    loss = losses.dist_loss(student, teacher, beta=0.0, gamma=3.0, temperature=2.0)
    loss.backward()
    assert loss == 3.0 * 2.0**2
    assert (student.grad == 0).all()
    torch.testing.assert_close(losses.dist_loss(teacher, teacher), torch.tensor(1.0, dtype=torch.float64))


def test_dist_of_equal_logits_does_not_explode():
    student = torch.zeros(6, 10, requires_grad=True)
    for form in ("paper", "code"):
        loss = losses.dist_loss(student, logits((6, 10)).float(), form=form)
        (gradient,) = torch.autograd.grad(loss, student)
        assert loss == 2
        assert (gradient == 0).all()


@pytest.mark.parametrize("shape", [(1, 3), *SHAPES[1:]])
@pytest.mark.parametrize("form", ["paper", "code"])
def test_standardize_logits_is_the_formula(shape, form):
    z = logits(shape) + 4
    if form == "paper":
        expected = stats.zscore(z.numpy(), axis=1)
    else:
        sigma = z.numpy().std(axis=1, keepdims=True, ddof=1)
        expected = (z.numpy() - z.numpy().mean(axis=1, keepdims=True)) / (sigma + 1e-7)
    np.testing.assert_allclose(losses.standardize_logits(z, form), expected, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("form", ["paper", "code"])
def test_standardize_logits_gradient(form):
    assert torch.autograd.gradcheck(
        lambda z: losses.standardize_logits(z, form), (logits((3, 5)).requires_grad_(),)
    )


@pytest.mark.parametrize("scale", [1e-4, 7.0, 1e4])
def test_standardized_logits_do_not_see_positive_affine_maps(scale):
    z, teacher = logits((4, 9), 1), logits((4, 9), 2)
    shift = logits((4, 1), 3)
    standard = losses.standardize_logits(z)
    torch.testing.assert_close(losses.standardize_logits(scale * z + shift), standard)
    torch.testing.assert_close(losses.standardize_logits(-scale * z), -standard)
    soft = losses.soft_target_loss(standard, losses.standardize_logits(teacher))
    assert soft > 0.01
    same = losses.soft_target_loss(
        losses.standardize_logits(scale * teacher), losses.standardize_logits(teacher)
    )
    assert same.abs() < 1e-12


@pytest.mark.parametrize("form", ["paper", "code"])
def test_standardized_equal_logits_are_zero(form):
    z = torch.full((2, 7), 0.1, requires_grad=True)
    standard = losses.standardize_logits(z, form)
    standard.sum().backward()
    assert (standard == 0).all()
    assert z.grad.isfinite().all()


def test_standardized_half_precision_is_float32():
    z = logits((4, 9)).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        standard = losses.standardize_logits(z)
    assert standard.dtype == torch.float32
    np.testing.assert_allclose(standard, stats.zscore(z.double().numpy(), axis=1), rtol=1e-4, atol=1e-5)


def test_standardize_logits_bad_input():
    with pytest.raises(ValueError, match=r"given logits have shape \(3,\).*\(N, C\)"):
        losses.standardize_logits(logits((3,)))
    broken = logits((4, 3))
    broken[2, 1] = float("nan")
    with pytest.raises(ValueError, match="given logits hold nan in row 2"):
        losses.standardize_logits(broken)


@pytest.mark.parametrize(
    "call",
    [
        lambda z: losses.dkd_loss(z, z, torch.zeros(3, dtype=torch.int64)),
        lambda z: losses.dist_loss(z, z),
        lambda z: losses.standardize_logits(z),
    ],
    ids=["dkd", "dist", "standardize"],
)
def test_one_class_is_nothing_to_compare(call):
    with pytest.raises(ValueError, match=r"logits have one class; .*give two or more"):
        call(logits((3, 1)))


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_weights_inside_a_loss_are_not_negative(value):
    z, labels = logits((2, 3)), torch.tensor([0, 1])
    for name in ("alpha", "beta"):
        with pytest.raises(ValueError, match=rf"{name} is {value}; give a finite weight of 0 or more"):
            losses.dkd_loss(z, z, labels, **{name: value})
    for name in ("beta", "gamma"):
        with pytest.raises(ValueError, match=rf"{name} is {value}; give a finite weight of 0 or more"):
            losses.dist_loss(z, z, **{name: value})


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan"), float("inf")])
def test_temperature_of_dkd_and_dist_must_be_positive_and_finite(temperature):
    z, labels = logits((2, 3)), torch.tensor([0, 1])
    for call in (
        lambda: losses.dkd_loss(z, z, labels, temperature=temperature),
        lambda: losses.dist_loss(z, z, temperature=temperature),
    ):
        with pytest.raises(ValueError, match=rf"temperature is {temperature}.*above 0"):
            call()
