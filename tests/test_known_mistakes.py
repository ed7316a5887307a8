"""What well-known distillation code gets wrong, one test a mistake, in the order of the design's list.

Each would fail with the mistake. The rooms' own tests go further; two are theirs alone: 11, classes that
torchvision and a folder count differently, in tests/data/test_named.py, and 14, weights that do not fit and
are dropped, in tests/training/test_state.py.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import log_softmax, softmax
from torch import nn

from kdlib import (
    DKD,
    Distiller,
    HardLabels,
    Hints,
    SoftTargets,
    create_model,
    fit,
    load_data,
    losses,
    predict,
)

OPTIONS = {"progress": False, "device": "cpu"}


@pytest.fixture(scope="module")
def data():
    return load_data("digits")


def network(width=4, seed=0):
    return create_model("convnet", 10, in_channels=1, width=width, seed=seed)


def logits(seed, spread=3.0):
    return spread * torch.randn(16, 10, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_01_teacher_left_in_training_mode(data):
    """Its batch norm statistics would drift, and its accuracy with them."""
    teacher = network(8, seed=1).train()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    fit(Distiller(network(), teacher, [SoftTargets()]), data.train.balanced(50), epochs=1, **OPTIONS)
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())


def test_02_student_stuck_in_evaluation_mode_after_the_first_validation(data):
    """With an evaluation after every epoch, batch norm still sees every training batch."""
    student = network()
    fit(student, data.train.balanced(50), test=data.test, epochs=3, batch_size=10, **OPTIONS)
    assert int(student.layer1[1].num_batches_tracked) == 3 * 5


def test_03_kl_divided_by_the_classes_too():
    """ "mean" in PyTorch's kl_div divides by N·C: with 100 classes the term is a hundred times too small."""
    student, teacher = logits(0), logits(1)
    p, log_p = softmax(teacher.numpy(), axis=1), log_softmax(teacher.numpy(), axis=1)
    expected = (p * (log_p - log_softmax(student.numpy(), axis=1))).sum(axis=1).mean()
    assert losses.soft_target_loss(student, teacher, temperature=1).item() == pytest.approx(expected)


def test_04_squared_temperature_dropped():
    """Without T², the gradient at T = 20 would be about 25 times smaller than at T = 4."""
    student, teacher = logits(0).requires_grad_(), logits(1)
    sizes = [
        float(torch.autograd.grad(losses.soft_target_loss(student, teacher, t), student)[0].norm())
        for t in (20.0, 100.0)
    ]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.1)


def test_05_alpha_means_opposite_things(data):
    """Here every weight stands in its own term, and the total is their plain weighted sum."""
    distiller = Distiller(network(), network(8, seed=1), [HardLabels(0.1), SoftTargets(0.9)])
    images, labels = data.train.images[:8].float(), data.train.labels[:8]
    total, terms = distiller(images, labels)
    torch.testing.assert_close(total, 0.1 * terms["hard labels"] + 0.9 * terms["soft targets"])


def test_06_attention_transfer_by_the_wrong_formula():
    """The paper's norm and its code's mean of squares differ, and each is there under its name."""
    student, teacher = (
        torch.rand(5, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        for seed in (0, 1)
    )
    unit = [m / np.linalg.norm(m, axis=1, keepdims=True) for m in (
        (maps.numpy() ** 2).sum(axis=1).reshape(5, 16) for maps in (student, teacher)
    )]  # fmt: skip
    difference = unit[0] - unit[1]
    code = losses.attention_transfer_loss(student, teacher, form="code")
    paper = losses.attention_transfer_loss(student, teacher, form="paper")
    assert code.item() == pytest.approx((difference**2).mean())
    assert paper.item() == pytest.approx(np.linalg.norm(difference, axis=1).mean())


def test_07_fsp_pooled_otherwise_than_in_the_paper():
    """The larger map is max-pooled; averages are there by name only."""
    first = torch.rand(2, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    second = torch.rand(2, 5, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    windows = first.numpy().reshape(2, 3, 2, 2, 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(2, 3, 2, 2, 4)
    for pooling, pooled in (("max", windows.max(-1)), ("average", windows.mean(-1))):
        expected = np.einsum("nihw,njhw->nij", pooled, second.numpy()) / 4
        np.testing.assert_allclose(losses.fsp_matrix(first, second, pooling).numpy(), expected)
    assert np.allclose(losses.fsp_matrix(first, second).numpy(), losses.fsp_matrix(first, second, "max"))


def test_08_hints_without_a_regressor_where_widths_differ():
    """ResNet-50 to ResNet-18: 256, 512, 1024 and 2048 channels to 64, 128, 256 and 512."""
    stages = ["layer1", "layer2", "layer3", "layer4"]
    student = create_model("resnet18", 4, small_images=True)
    teacher = create_model("resnet50", 4, small_images=True)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    distiller = Distiller(student, teacher, [Hints(layers=stages)]).connect(images)
    widths = [
        (connector.convolution.in_channels, connector.convolution.out_channels)
        for connector in distiller.terms[0].connectors
    ]
    assert widths == [(64, 256), (128, 512), (256, 1024), (512, 2048)]
    assert distiller(images, torch.tensor([0, 1]))[0].isfinite()


def test_09_best_epoch_on_the_test_set_as_the_result(data):
    """The headline is the last epoch, also where an earlier one was better: here every label is wrong."""
    student = network(8)
    fit(student, data.train, epochs=8, **OPTIONS)
    wrong = replace(data.train, labels=(data.train.labels + 1) % 10)
    record = fit(student, wrong, test=data.test, epochs=6, learning_rate=0.003, **OPTIONS)
    curve = record.epochs["test_accuracy"]
    assert max(curve) > curve[-1] + 0.1
    assert record.final["accuracy"] == curve[-1]


@pytest.mark.parametrize("batch_size", [7, 512, 599, 10_000])
def test_10_last_batch_dropped_in_evaluation(data, batch_size):
    """RepDistiller's CIFAR numbers score 9,984 of 10,000 images when the last batch is dropped."""
    assert len(predict(network(), data.test, batch_size=batch_size, device="cpu")) == len(data.test) == 599


def test_12_teacher_answers_that_are_not_to_the_augmented_view(data):
    """Both networks get the very same tensor at every step."""
    seen = {"student": [], "teacher": []}

    class Watched(nn.Module):
        def __init__(self, who):
            super().__init__()
            self.net, self.who = network(seed=len(who)), who

        def forward(self, images):
            seen[self.who].append(images)
            return self.net(images)

    distiller = Distiller(Watched("student"), Watched("teacher"), [SoftTargets()])
    fit(distiller, data.train.balanced(20), epochs=2, batch_size=10, augment=True, **OPTIONS)
    ours, theirs = seen["student"][-4:], seen["teacher"][-4:]  # `accelerate` tried both before
    assert all(torch.equal(*pair) for pair in zip(ours, theirs, strict=True))
    assert not torch.equal(ours[0], ours[2]), "the views change from epoch to epoch"


def test_13_seed_zero_ignored(data):
    """`if seed:` would take 0 for no seed."""
    first, again = network(seed=0), network(seed=0)
    for model in (first, again):
        torch.manual_seed(id(model) % 1000)
        fit(model, data.train.balanced(20), epochs=1, seed=0, **OPTIONS)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))


def test_15_unequal_budgets_hidden(data):
    """A record says each term with its weight, so that a total of 9 does not pass for 0.9."""
    teacher = network(8, seed=1)
    for terms in ([HardLabels(0.1), SoftTargets(0.9)], [HardLabels(1), DKD(1, alpha=1, beta=8)]):
        record = fit(Distiller(network(), teacher, terms), data.train.balanced(20), epochs=1, **OPTIONS)
        assert record.settings["terms"] == [repr(term) for term in terms]
        assert record.settings["epochs"] == 1
    assert "beta=8" in record.settings["terms"][1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_16_logarithm_of_a_softmax_in_half_precision(dtype):
    """A probability of 1e-9 is 0 in half precision, and its logarithm minus infinity."""
    student = torch.tensor([[0.0, 80.0, -80.0]], dtype=dtype, requires_grad=True)
    teacher = torch.tensor([[80.0, 0.0, -80.0]], dtype=dtype)
    loss = losses.soft_target_loss(student, teacher, temperature=1)
    reference = F.kl_div(
        student.double().log_softmax(1), teacher.double().log_softmax(1), reduction="sum", log_target=True
    )
    torch.testing.assert_close(loss.double(), reference.double(), rtol=1e-3, atol=0)
    loss.backward()
    assert student.grad.isfinite().all()
