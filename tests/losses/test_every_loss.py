"""What holds of every loss that compares a student's tensors with a teacher's."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from kdlib import losses

LOGITS, MAPS, VECTORS = (6, 5), (6, 4, 4, 4), (6, 7)


@dataclass
class Case:
    call: Callable  # student, teacher -> loss
    shape: tuple[int, ...]
    on_flat: Callable | None = None  # for tensors that `call` could not slice
    zero_at_equal: bool = True
    permutable: bool = True
    exact_when_large: bool = True


def dkd(student, teacher):
    return losses.dkd_loss(student, teacher, torch.arange(len(student)) % 5)


def vid(student, teacher):
    return losses.vid_loss(student, teacher, torch.linspace(-3, 5, 4, dtype=torch.float64))


def ofd(student, teacher):
    return losses.ofd_loss(student, teacher, -torch.linspace(0.1, 1, 4, dtype=torch.float64))


def review(student, teacher):
    return losses.review_loss([student, student[:, :2]], [teacher, teacher[:, :2]])


def attention(**options):
    return lambda s, t: losses.attention_transfer_loss([s, s[:, :2]], [t, t[:, :2]], **options)


def fsp(**options):
    return lambda s, t: losses.fsp_loss([s, s[:, :2, ::2, ::2]], [t, t[:, :2, ::2, ::2]], **options)


def fsp_of_one_map(student, teacher):
    return losses.fsp_loss([student, student], [teacher, teacher])


def form(function, which):
    return lambda s, t: function(s, t, form=which)


CASES = {
    "soft targets": Case(losses.soft_target_loss, LOGITS),
    "logit mse": Case(losses.logit_mse_loss, LOGITS),
    "dkd": Case(dkd, LOGITS, permutable=False),  # the labels of this table go by position
    "dist": Case(losses.dist_loss, LOGITS, exact_when_large=False),  # sees columns that float32 rounds to 0
    "dist code": Case(lambda s, t: losses.dist_loss(s, t, form="code"), LOGITS, zero_at_equal=False),
    "hint": Case(losses.hint_loss, MAPS),
    "vid": Case(vid, MAPS, zero_at_equal=False),
    "ofd": Case(ofd, MAPS, zero_at_equal=False),
    "review": Case(review, MAPS, losses.review_loss),
    "attention code": Case(attention(form="code"), MAPS, losses.attention_transfer_loss),
    "attention paper": Case(attention(form="paper", p=3), MAPS, losses.attention_transfer_loss),
    "fsp max": Case(fsp(), MAPS, fsp_of_one_map),
    "fsp average": Case(fsp(pooling="average", reduction="mean"), MAPS, fsp_of_one_map),
    "rkd distance": Case(losses.rkd_distance_loss, VECTORS),
    "rkd distance code": Case(form(losses.rkd_distance_loss, "code"), VECTORS),
    "rkd angle": Case(losses.rkd_angle_loss, VECTORS),
    "rkd angle code": Case(form(losses.rkd_angle_loss, "code"), VECTORS),
    "similarity": Case(losses.similarity_preserving_loss, VECTORS),
    "correlation": Case(losses.correlation_congruence_loss, VECTORS),
    "correlation code": Case(form(losses.correlation_congruence_loss, "code"), VECTORS, permutable=False),
    "pkt": Case(losses.pkt_loss, VECTORS),
    "pkt code": Case(form(losses.pkt_loss, "code"), VECTORS),
    "nst, few channels": Case(losses.nst_loss, MAPS),
    "nst, many channels": Case(losses.nst_loss, (6, 5, 2, 2)),
}
every_loss = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def pair(shape, scale=1.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(7)
    student, teacher = scale * torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    return student.to(dtype), teacher.to(dtype)


@every_loss
def test_gradients_by_finite_differences(case):
    student, teacher = pair((4, *case.shape[1:]))
    assert torch.autograd.gradcheck(case.call, (student.requires_grad_(), teacher.requires_grad_()))


@every_loss
@pytest.mark.parametrize("scale", [1e-3, 1e4])
def test_small_and_large_inputs_give_finite_values_and_gradients(case, scale):
    student, teacher = pair(case.shape, scale, torch.float32)
    student.requires_grad_()
    loss = case.call(student, teacher)
    loss.backward()
    assert loss.isfinite()
    assert student.grad.isfinite().all()
    if scale < 1 or case.exact_when_large:
        exact = case.call(student.detach().double(), teacher.double())
        torch.testing.assert_close(loss.double(), exact, rtol=1e-3, atol=1e-5)


@every_loss
def test_opposite_extremes_give_finite_values_and_gradients(case):
    pattern = torch.ones(case.shape).flatten()
    pattern[::2] = -1
    student = (1e4 * pattern.reshape(case.shape)).requires_grad_()
    loss = case.call(student, -student.detach())
    loss.backward()
    assert loss.isfinite()
    assert student.grad.isfinite().all()


@every_loss
def test_zeros_give_finite_values_and_gradients(case):
    student = torch.zeros(case.shape, requires_grad=True)
    for teacher in (torch.zeros(case.shape), pair(case.shape, dtype=torch.float32)[1]):
        loss = case.call(student, teacher)
        (gradient,) = torch.autograd.grad(loss, student)
        assert loss.isfinite()
        assert gradient.isfinite().all()
        assert gradient.abs().max() < 1e3, "no explosion where a direction is undefined"


@every_loss
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32_under_autocast(case, dtype):
    student, teacher = pair(case.shape, dtype=dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = case.call(student, teacher)
    exact = case.call(student.double(), teacher.double())
    assert loss.dtype in (torch.float32, torch.float64)
    torch.testing.assert_close(loss.double(), exact, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("loss", [losses.attention_transfer_loss, losses.nst_loss])
def test_half_precision_maps_are_averaged_down_in_float32(loss):
    student, teacher = pair((2, 4, 8, 8), dtype=torch.bfloat16)
    teacher = teacher[..., :4, :4]
    exact = loss(student.double(), teacher.double())
    torch.testing.assert_close(loss(student, teacher).double(), exact, rtol=1e-5, atol=0)


@every_loss
def test_float32_stays_float32_under_autocast(case):
    student, teacher = pair(case.shape, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = case.call(student, teacher)
    torch.testing.assert_close(loss, case.call(student, teacher), rtol=0, atol=0)


@every_loss
def test_one_image_is_not_nan(case):
    student, teacher = pair((1, *case.shape[1:]))
    student.requires_grad_()
    loss = case.call(student, teacher)
    loss.backward()
    assert loss.isfinite()
    assert student.grad.isfinite().all()


@every_loss
def test_zero_for_a_student_like_its_teacher_and_above_zero_otherwise(case):
    student, teacher = pair(case.shape)
    if case.zero_at_equal:
        assert case.call(teacher, teacher).abs() < 1e-12
        assert case.call(student, teacher) > 1e-6
    else:
        assert case.call(student, teacher) != case.call(teacher, teacher)


@every_loss
def test_a_step_down_the_gradient_lowers_the_loss(case):
    student, teacher = pair(case.shape)
    student.requires_grad_()
    before = case.call(student, teacher)
    before.backward()
    step = 1e-4 * student.grad / student.grad.norm()
    assert case.call(student.detach() - step, teacher) < before


@every_loss
def test_order_of_the_batch_matters_only_where_it_is_said(case):
    student, teacher = pair(case.shape)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    moved = case.call(student[order], teacher[order])
    if case.permutable:
        torch.testing.assert_close(moved, case.call(student, teacher))
    else:
        assert not torch.isclose(moved, case.call(student, teacher))


@every_loss
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_inputs_that_are_not_finite_are_named(case, value):
    good, broken = pair(case.shape)
    broken[2, 1] = value
    with pytest.raises(ValueError, match=rf"student .* hold {value} in row 2; look for"):
        case.call(broken, good)
    with pytest.raises(ValueError, match=rf"teacher .* hold {value} in row 2; look for"):
        case.call(good, broken)


@every_loss
def test_other_images(case):
    student, teacher = pair(case.shape)
    with pytest.raises(ValueError, match=r"shape \(6, .*\(5, "):
        case.call(student, teacher[:5])


@every_loss
def test_too_few_dimensions(case):
    flat = torch.zeros(6, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"shape \(6,\).*give floating-point numbers of shape \(N, "):
        (case.on_flat or case.call)(flat, flat)


@every_loss
def test_whole_numbers(case):
    student, teacher = pair(case.shape)
    with pytest.raises(ValueError, match=r"torch\.int64; give floating-point"):
        case.call(student.long(), teacher)


UNKNOWN_FORM = {
    "attention": lambda: losses.attention_transfer_loss(*pair(MAPS), form="exact"),
    "distance": lambda: losses.rkd_distance_loss(*pair(VECTORS), form="exact"),
    "angle": lambda: losses.rkd_angle_loss(*pair(VECTORS), form="exact"),
    "correlation": lambda: losses.correlation_congruence_loss(*pair(VECTORS), form="exact"),
    "pkt": lambda: losses.pkt_loss(*pair(VECTORS), form="exact"),
    "dist": lambda: losses.dist_loss(*pair(LOGITS), form="exact"),
    "standardize": lambda: losses.standardize_logits(pair(LOGITS)[0], form="exact"),
    "margin": lambda: losses.ofd_margin(torch.ones(3), torch.zeros(3), form="exact"),
}


@pytest.mark.parametrize("call", UNKNOWN_FORM.values(), ids=UNKNOWN_FORM.keys())
def test_unknown_form(call):
    with pytest.raises(ValueError, match=r"form is 'exact'; choose one of paper, code"):
        call()


@pytest.mark.parametrize(
    "name",
    ["soft targets", "dkd", "dist", "hint", "attention code", "fsp max", "rkd distance", "rkd angle", "pkt"],
)
def test_compiles_to_one_graph(name):
    case = CASES[name]
    student, teacher = pair(case.shape, dtype=torch.float32)
    compiled = torch.compile(case.call, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(student, teacher), case.call(student, teacher))


def test_every_exported_loss_is_in_this_table():
    elsewhere = {"hard_label_loss", "crd_loss"}
    text = Path(__file__).read_text(encoding="utf-8")
    table = text[: text.index("every_loss = ")]
    for name in set(losses.__all__) - elsewhere:
        assert not name.endswith("_loss") or f"losses.{name}" in table, f"add {name} to CASES"
