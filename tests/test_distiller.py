"""The distiller: what it adds up, what it leaves untouched, and what it refuses."""

import copy

import pytest
import torch

from kdlib import (
    Attention,
    Distiller,
    HardLabels,
    Hints,
    LogitMatching,
    RKDDistance,
    SoftTargets,
    create_model,
    fit,
    load_data,
    losses,
)


@pytest.fixture
def networks():
    student = create_model("convnet", 10, in_channels=1, width=2, seed=0)
    teacher = create_model("convnet", 10, in_channels=1, width=4, seed=1)
    return student, teacher


@pytest.fixture(scope="module")
def batch():
    return next(load_data("digits").train.batches(32))


def test_total_is_the_weighted_sum_of_the_terms(networks, batch):
    student, teacher = networks
    images, labels, _ = batch
    terms = [HardLabels(0.1, label_smoothing=0.2), SoftTargets(0.9, temperature=3), LogitMatching(2.0)]
    total, values = Distiller(student, teacher, terms)(images, labels)
    student_logits, teacher_logits = copy.deepcopy(student).train()(images), teacher.eval()(images)
    expected = {
        "hard labels": losses.hard_label_loss(student_logits, labels, 0.2),
        "soft targets": losses.soft_target_loss(student_logits, teacher_logits, 3.0),
        "logit matching": losses.logit_mse_loss(student_logits, teacher_logits),
    }
    assert list(values) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(values[name], value)
    torch.testing.assert_close(
        total, 0.1 * expected["hard labels"] + 0.9 * expected["soft targets"] + 2 * expected["logit matching"]
    )


def test_teacher_is_unchanged_bit_for_bit_after_training(networks):
    student, teacher = networks
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    teacher.train()
    train = load_data("digits").train.balanced(50)
    fit(Distiller(student, teacher, [SoftTargets()]), train, epochs=2, progress=False, device="cpu")
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())
    assert all(weight.grad is None for weight in teacher.parameters())


def test_teacher_is_asked_without_a_gradient(networks, batch):
    student, teacher = networks
    images, labels, _ = batch
    distiller = Distiller(student, teacher, [SoftTargets(), Attention(layers="layer2")]).connect(images[:2])
    assert not distiller.teach(images).requires_grad
    loss, _ = distiller(images, labels)
    loss.backward()
    assert all(weight.grad is None for weight in teacher.parameters())
    assert all(weight.grad is not None for weight in student.parameters())


def test_a_student_that_was_trained_before_trains_in_training_mode(networks):
    student, teacher = networks
    distiller = Distiller(student, teacher, [SoftTargets()])
    train = load_data("digits").train.balanced(20)
    means = []
    for _ in range(2):
        fit(distiller, train, epochs=1, progress=False, device="cpu")
        means.append(next(value.clone() for name, value in student.named_buffers() if "mean" in name))
    assert not torch.equal(*means), "batch normalisation learns in training mode alone"


def test_teacher_answers_in_evaluation_mode_whatever_mode_it_was_put_in(networks, batch):
    student, teacher = networks
    distiller = Distiller(student, teacher, [SoftTargets()])
    distiller.train()
    teacher.train()
    expected = copy.deepcopy(teacher).eval()(batch[0])
    torch.testing.assert_close(distiller.teach(batch[0]), expected)
    assert not teacher.training
    assert student.training


def test_checkpoint_and_optimiser_hold_the_student_alone(networks):
    student, teacher = networks
    distiller = Distiller(student, teacher, [SoftTargets()])
    assert {id(p) for p in distiller.parameters()} == {id(p) for p in student.parameters()}
    assert all(name.startswith("student.") for name in distiller.state_dict())


def test_teacher_follows_the_student_to_another_type_or_device(networks):
    student, teacher = networks
    Distiller(student, teacher, [SoftTargets()]).to(torch.float64)
    assert next(teacher.parameters()).dtype == torch.float64
    Distiller(student, teacher, [SoftTargets()]).to("meta")
    assert next(teacher.parameters()).is_meta


def test_weight_zero_switches_a_term_off(networks, batch):
    student, teacher = networks
    total, terms = Distiller(student, teacher, [HardLabels(1.0), SoftTargets(0.0)])(*batch)
    torch.testing.assert_close(total, terms["hard labels"])


def test_labels_alone_need_no_teacher(networks, batch):
    student, _ = networks
    total, terms = Distiller(student, None, [HardLabels()])(*batch)
    assert total == terms["hard labels"]


def test_terms_are_written_as_they_were_typed():
    terms = [
        HardLabels(0.1),
        HardLabels(1, label_smoothing=0.1),
        SoftTargets(0.9, temperature=4),
        LogitMatching(),
    ]
    assert [repr(term) for term in terms] == [
        "HardLabels(0.1)",
        "HardLabels(1, label_smoothing=0.1)",
        "SoftTargets(0.9, temperature=4)",
        "LogitMatching(1)",
    ]


@pytest.mark.parametrize("weight", [-0.1, float("nan"), float("inf")])
def test_weights_that_cannot_be(weight):
    with pytest.raises(ValueError, match=rf"weight of SoftTargets is {weight}"):
        SoftTargets(weight)


def test_temperature_is_checked_where_it_is_given():
    with pytest.raises(ValueError, match="temperature is 0"):
        SoftTargets(0.9, temperature=0)


def test_compositions_that_cannot_be(networks):
    student, teacher = networks
    with pytest.raises(ValueError, match="at least one term"):
        Distiller(student, teacher, [])
    with pytest.raises(ValueError, match="two terms have one name"):
        Distiller(student, teacher, [SoftTargets(0.5), SoftTargets(0.5, temperature=1)])
    with pytest.raises(ValueError, match=r"SoftTargets\(0\.9, temperature=4\.0\) needs a teacher"):
        Distiller(student, None, [HardLabels(0.1), SoftTargets(0.9)])
    with pytest.raises(ValueError, match=r"share \d+ weight tensors.*copy\.deepcopy"):
        Distiller(student, student, [SoftTargets()])
    other = copy.deepcopy(teacher)
    next(student.parameters()).data = next(other.parameters()).data
    with pytest.raises(ValueError, match=r"share 1 weight tensors"):
        Distiller(student, other, [SoftTargets()])


def test_teacher_of_other_classes(networks, batch):
    student, _ = networks
    teacher = create_model("convnet", 12, in_channels=1)
    with pytest.raises(ValueError, match=r"\(32, 10\).*\(32, 12\)"):
        Distiller(student, teacher, [SoftTargets()])(*batch)


def test_a_compiled_student_is_tapped_as_the_plain_one_is(batch):
    """Before and after an evaluation, which is compiled apart."""
    layers = ["layer1", "layer2", "layer3"]
    terms = [HardLabels(), Attention(1000, layers=layers), Hints(layers=layers), RKDDistance()]
    images, labels, *_ = batch
    student, teacher = (create_model("resnet8", 10, in_channels=1, seed=seed) for seed in (0, 1))
    compiled: torch.nn.Module = torch.compile(copy.deepcopy(student), backend="aot_eager")
    plain = Distiller(student, teacher, terms).connect(images)
    fast = Distiller(compiled, teacher, terms).connect(images)
    torch.testing.assert_close(fast(images, labels), plain(images, labels))
    with torch.no_grad():
        compiled.eval()(images)
    compiled.train()
    torch.testing.assert_close(fast(images, labels)[1], plain(images, labels)[1])
    fast(images, labels)[0].backward()
    plain(images, labels)[0].backward()
    ours, theirs = (dict(net.named_parameters()) for net in (compiled._orig_mod, student))
    for name in ours:
        torch.testing.assert_close(ours[name].grad, theirs[name].grad, rtol=1e-3, atol=1e-4)
