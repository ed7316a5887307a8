"""Schemes of several trainings, and two students that teach each other."""

import copy

import numpy as np
import pytest
import torch
from scipy.special import softmax
from torch import nn

from kdlib import Distiller, HardLabels, SoftTargets, create_model, evaluate, fit, load_data
from kdlib.schemes import Mutual, chain, stages
from kdlib.terms import FSP, Attention, Hints, LogitMatching, Term

OPTIONS = {"progress": False, "device": "cpu", "batch_size": 32}
STAGES = ["layer1", "layer2", "layer3"]


@pytest.fixture(scope="module")
def data():
    return load_data("digits")


@pytest.fixture(scope="module")
def few(data):
    return data.train.balanced(100)


def network(width=4, seed=0):
    return create_model("convnet", 10, in_channels=1, width=width, seed=seed)


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(model, before):
    return all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_each_network_of_a_chain_is_taught_by_the_one_before(few):
    teacher, terms = network(16), [SoftTargets()]
    assistant, student = network(8, seed=1), network(4, seed=2)
    alone = [copy.deepcopy(assistant), copy.deepcopy(student)]
    before = weights(teacher)
    records = chain(teacher, [assistant, student], terms, few, epochs=2, **OPTIONS)
    assert same(teacher, before)
    assert len(records) == 2
    fit(Distiller(alone[0], teacher, terms), few, epochs=2, **OPTIONS)
    fit(Distiller(alone[1], alone[0], terms), few, epochs=2, **OPTIONS)
    assert same(assistant, weights(alone[0]))
    assert same(student, weights(alone[1]))


def test_each_training_of_a_scheme_has_a_checkpoint_of_its_own(few, tmp_path):
    """Generations are built alike: with one file for all, the second would be the first one again."""
    teacher, options = network(8), OPTIONS | {"epochs": 2}
    plain, kept = ([network(4, seed=seed) for seed in (1, 2)] for _ in range(2))
    chain(teacher, plain, [SoftTargets()], few, **options)
    chain(teacher, kept, [SoftTargets()], few, checkpoint=tmp_path / "run.safetensors", **options)
    assert all(same(ours, weights(theirs)) for ours, theirs in zip(kept, plain, strict=True))
    plan = [([Hints(layers="layer1")], 1), ([HardLabels()], 1)]
    stages(network(4), teacher, plan, few, checkpoint=tmp_path / "plan", **OPTIONS)
    assert {path.name for path in tmp_path.iterdir()} == {
        "run-1.safetensors", "run-2.safetensors", "plan-1", "plan-2",
    }  # fmt: skip


def test_a_chain_needs_a_student(few):
    with pytest.raises(ValueError, match="there is no student"):
        chain(network(), [], [SoftTargets()], few)


def test_a_stage_leaves_alone_what_its_terms_do_not_reach(few):
    """Hints at the first stage train that stage; weight decay does not touch the others."""
    student, teacher = network(4), network(8, seed=1)
    before = weights(student)
    (record,) = stages(student, teacher, [([Hints(layers="layer1")], 2)], few, **OPTIONS)
    changed = {
        name.split(".")[0]
        for name, weight in student.named_parameters()
        if not torch.equal(before[name], weight)
    }
    assert changed == {"layer1"}
    assert list(record.epochs) == ["loss", "hints"]


def test_fsp_first_and_labels_after_as_in_the_paper(data, few):
    student, teacher = network(4), network(4, seed=1)
    fit(teacher, data.train, epochs=4, **OPTIONS)
    records = stages(
        student,
        teacher,
        [([FSP(0.1, layers=STAGES)], 10), ([HardLabels()], 15)],
        few,
        test=data.test,
        **OPTIONS,
    )
    assert [list(record.epochs)[1] for record in records] == ["fsp", "hard labels"]
    assert [record.settings["epochs"] for record in records] == [10, 15]
    assert records[0].epochs["fsp"][-1] < 0.8 * records[0].epochs["fsp"][0]
    assert records[1].final["accuracy"] > records[0].final["accuracy"] + 0.1


def test_a_plan_needs_a_stage(few):
    with pytest.raises(ValueError, match="the plan has no stage"):
        stages(network(), None, [], few)


def test_students_of_a_pair_each_learn_from_the_other(data):
    first, second = network(4, seed=1), network(4, seed=2)
    images, labels = data.train.images[:16].float(), data.train.labels[:16]
    terms = [HardLabels(0.5), SoftTargets(2, temperature=3)]
    total, values = Mutual(first, second, terms)(images, labels)
    ours, theirs = (copy.deepcopy(net).train()(images) for net in (first, second))
    p, q = (softmax(logits.detach().double().numpy() / 3, axis=1) for logits in (ours, theirs))
    kl = float((q * np.log(q / p)).sum(axis=1).mean() + (p * np.log(p / q)).sum(axis=1).mean())
    hard = torch.nn.functional.cross_entropy
    expected = 0.5 * (hard(ours, labels) + hard(theirs, labels)) + 2 * 9 * kl
    torch.testing.assert_close(total, expected)
    assert list(values) == ["hard labels", "soft targets"]
    total.backward()
    assert all(weight.grad is not None for net in (first, second) for weight in net.parameters())


@pytest.mark.parametrize("position", [0, 1])
def test_no_gradient_passes_through_the_network_in_the_teachers_place(data, position):
    """With matching alone, the gradient of either network is that of matching a constant."""
    pair = [network(4, seed=1), network(4, seed=2)]
    images, labels = data.train.images[:16].float(), data.train.labels[:16]
    alone, other = (copy.deepcopy(pair[place]).train() for place in (position, 1 - position))
    Mutual(pair[0], pair[1], [LogitMatching()])(images, labels)[0].backward()
    torch.nn.functional.mse_loss(alone(images), other(images).detach()).backward()
    for weight, expected in zip(pair[position].parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(weight.grad, expected.grad)


def test_both_students_of_a_pair_are_trained(data, few):
    first, second = network(8, seed=1), network(8, seed=2)
    record = fit(
        Mutual(first, second, [HardLabels(1), SoftTargets(1, temperature=1)]),
        few, epochs=15, test=data.test, **OPTIONS,
    )  # fmt: skip
    assert record.settings["terms"] == ["HardLabels(1)", "SoftTargets(1, temperature=1)"]
    assert record.settings["peers"] == [record.settings["student"]]
    assert record.final["accuracy"] == evaluate(first, data.test, device="cpu")["accuracy"]
    assert all(evaluate(net, data.test, device="cpu")["accuracy"] > 0.6 for net in (first, second))


class Centred(Term):
    """A term with a module that is trained, and a memory."""

    name = "centred"
    has_connectors = True

    def __init__(self):
        super().__init__(1.0)
        self.register_buffer("centre", torch.zeros(10))

    def connect(self, example):
        assert example.teacher_maps == {}
        self.classes = nn.Linear(example.student_logits.shape[1], example.teacher_logits.shape[1])
        self.asked = (example.student, example.teacher)
        self.train_labels = example.train_labels

    def forward(self, outputs):
        self.centre += outputs.taught().mean(dim=0)
        return (self.classes(outputs.student_logits) - outputs.taught()).square().mean()


def test_terms_of_a_pair_are_copied_for_either_network_connected_trained_and_kept(few, tmp_path):
    terms = [HardLabels(), Centred()]
    first, second = network(4, seed=1), network(4, seed=2)
    pair = Mutual(first, second, terms)
    with pytest.raises(ValueError, match=r"Centred\(1\) trains modules that are not there yet"):
        pair(few.images[:4].float(), few.labels[:4])
    fit(pair, few, epochs=2, checkpoint=tmp_path / "run", **OPTIONS)
    ours, theirs = pair.terms[1], pair.peer_terms[1]
    assert ours.asked == (first, second)
    assert theirs.asked == (second, first)
    assert torch.equal(ours.train_labels, few.labels)
    assert torch.equal(theirs.train_labels, few.labels)
    assert not list(terms[1].parameters()), "the terms that were given are left alone"
    assert terms[1].centre.abs().max() == 0
    for name in ("centre", "classes.weight"):
        assert not torch.equal(ours.state_dict()[name], theirs.state_dict()[name])
        assert {f"terms.1.{name}", f"peer_terms.1.{name}"} <= pair.state_dict().keys()
    torch.manual_seed(0)
    assert not torch.equal(ours.classes.weight, nn.Linear(10, 10).weight), "the optimiser moves it"
    again = Mutual(network(4, seed=1), network(4, seed=2), terms)
    fit(again, few, epochs=2, checkpoint=tmp_path / "run", **OPTIONS)  # a finished run, taken up whole
    for name, value in pair.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_connecting_a_pair_leaves_it_as_it_was_and_happens_once(data):
    pair = Mutual(network(4, seed=1), network(4, seed=2), [Centred()])
    images = data.train.images[:4].float()
    before = {name: value.clone() for name, value in pair.state_dict().items()}
    random = torch.get_rng_state()
    module = pair.connect(images, seed=3).terms[0].classes
    assert pair.connect(images, seed=4).terms[0].classes is module
    assert all(torch.equal(pair.state_dict()[name], value) for name, value in before.items())
    assert pair.training
    assert torch.equal(torch.get_rng_state(), random)
    again = Mutual(network(4, seed=1), network(4, seed=2), [Centred()]).connect(images, seed=3)
    assert torch.equal(again.terms[0].classes.weight, module.weight)


def test_terms_of_a_pair_follow_it_to_another_type():
    pair = Mutual(network(4, seed=1), network(4, seed=2), [Centred()]).to(torch.float64)
    assert pair.terms[0].centre.dtype == pair.peer_terms[0].centre.dtype == torch.float64


def test_pairs_that_cannot_be():
    first, second = network(), network(seed=1)
    with pytest.raises(ValueError, match="Mutual needs at least one term"):
        Mutual(first, second, [])
    with pytest.raises(ValueError, match=r"Attention\(1000, .* taps layers"):
        Mutual(first, second, [Attention(layers=STAGES)])
    with pytest.raises(ValueError, match="student and peer share weights"):
        Mutual(first, first, [HardLabels()])
    with pytest.raises(ValueError, match="two terms have one name"):
        Mutual(first, second, [SoftTargets(), SoftTargets(temperature=1)])
    one_class = Mutual(torch.nn.Linear(2, 1), torch.nn.Linear(2, 1), [HardLabels()])
    with pytest.raises(ValueError, match="two classes or more"):
        one_class(torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64))
