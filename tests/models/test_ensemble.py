"""Several teachers as one: the geometric mean of their softened answers, and a teacher like any other."""

import pytest
import torch

from kdlib import Distiller, HardLabels, SoftTargets, create_model, fit, load_data
from kdlib.models import Ensemble


def teacher(seed):
    return create_model("convnet", 10, in_channels=1, width=4, seed=seed).eval()


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_softened_it_is_the_geometric_mean_of_the_softened_answers(temperature):
    images = torch.randn(5, 1, 8, 8)
    teachers = [teacher(seed) for seed in range(3)]
    shares = torch.tensor([0.2, 0.2, 0.6])
    softened = torch.stack([(one(images).double() / temperature).softmax(1) for one in teachers])
    product = (softened ** shares.double()[:, None, None]).prod(0)
    expected = product / product.sum(1, keepdim=True)
    together = Ensemble(teachers, weights=[1, 1, 3])(images)
    torch.testing.assert_close((together.double() / temperature).softmax(1), expected, rtol=1e-5, atol=1e-7)


def test_it_teaches_in_evaluation_mode_and_a_function_may_be_one_of_it():
    student, first = create_model("convnet", 10, in_channels=1, width=2, seed=9), teacher(0).train()
    second = teacher(1)
    distiller = Distiller(
        student, Ensemble([first, lambda images: second(images)]), [HardLabels(), SoftTargets()]
    )
    before = {name: value.clone() for name, value in first.state_dict().items()}
    fit(distiller, load_data("digits").train.balanced(20), epochs=1, device="cpu", progress=False)
    assert all(torch.equal(value, before[name]) for name, value in first.state_dict().items())


@pytest.mark.parametrize(
    ("teachers", "weights", "words"),
    [
        ([], None, "two teachers or more"),
        ([teacher(0)], None, "two teachers or more"),
        ([teacher(0), teacher(1)], [1], r"weights is \[1\] for 2 teachers"),
        ([teacher(0), teacher(1)], [1, -1], r"weights is \[1, -1\] for 2 teachers"),
        ([teacher(0), teacher(1)], [0, 0], "weights are all 0"),
        ([teacher(0), 3], None, "the teacher is a int; give a network"),
    ],
)
def test_refused(teachers, weights, words):
    with pytest.raises(ValueError, match=words):
        Ensemble(teachers, weights)


def test_teachers_of_other_classes():
    other = create_model("convnet", 7, in_channels=1, width=4, seed=0).eval()
    with pytest.raises(ValueError, match=r"answer in shapes \(2, 7\), \(2, 10\); give teachers of the same"):
        Ensemble([teacher(0), other])(torch.zeros(2, 1, 8, 8))
