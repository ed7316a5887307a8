"""Weights that follow the run: what they count for, what records have of them, and what is refused."""

import copy
import json
import math
import pickle

import pytest
import torch

from kdlib import Distiller, HardLabels, LogitMatching, SoftTargets, create_model, fit, load_data, losses
from kdlib.experiments.recipes import TermSpec
from kdlib.schemes import Mutual
from kdlib.terms import LinearWarmUp
from kdlib.training.evaluate import Evaluator

WARM_UP = {"kind": "LinearWarmUp", "weight": 2, "share": 0.25}


@pytest.fixture(scope="module")
def data():
    return load_data("digits")


@pytest.fixture(scope="module")
def batch(data):
    return next(data.train.batches(16))


def network(width=2, seed=0):
    return create_model("convnet", 10, in_channels=1, width=width, seed=seed)


def test_a_weight_is_the_one_of_the_moment(batch):
    student, teacher = network(), network(4, seed=1)
    terms = [HardLabels(lambda progress: 1 - progress), LogitMatching(LinearWarmUp(0.5, 0.25))]
    distiller = Distiller(student, teacher, terms)
    s, t = copy.deepcopy(student).train()(batch.images), teacher.eval()(batch.images)
    hard, soft = losses.hard_label_loss(s, batch.labels), losses.logit_mse_loss(s, t)
    assert distiller.progress == 0
    for progress, ours, theirs in ((0.0, 1.0, 0.0), (0.125, 0.875, 0.25), (0.25, 0.75, 0.5), (1.0, 0.0, 0.5)):
        distiller.progress = progress
        total, values = distiller(*batch)
        torch.testing.assert_close(total, ours * hard + theirs * soft)
        torch.testing.assert_close(values, {"hard labels": hard, "logit matching": soft})


def test_the_weight_of_the_moment_is_in_both_totals_of_a_pair_and_in_a_test_loss(data, batch):
    first, second = network(), network(seed=1)
    pair = Mutual(first, second, [SoftTargets(LinearWarmUp(1.0, 1.0))])
    s, t = (copy.deepcopy(each).train()(batch.images) for each in (first, second))
    pair.progress = 0.5
    expected = 0.5 * (losses.soft_target_loss(s, t) + losses.soft_target_loss(t, s))
    torch.testing.assert_close(pair(*batch)[0], expected)

    distiller = Distiller(network(), None, [HardLabels(LinearWarmUp(1.0, 1.0))])
    evaluator = Evaluator(distiller, data.test, 1, torch.device("cpu"))
    measured = []
    for progress in (0.0, 0.25, 1.0):
        distiller.progress = progress
        measured.append(evaluator(1)["test_loss"])
    assert measured == pytest.approx([0.0, measured[2] / 4, measured[2]])
    assert measured[2] > 1


def test_a_warm_up_is_that_of_dkd_and_reviewkd():
    """Which multiply by min(1, epoch / 20) in 240 epochs."""
    warm_up = LinearWarmUp(3.0, 20 / 240)
    for epoch in (0, 5, 20, 21, 240):
        assert warm_up(epoch / 240) == pytest.approx(3 * min(1, epoch / 20))
    assert pickle.loads(pickle.dumps(warm_up)) == warm_up


@pytest.mark.parametrize("value", [math.nan, -0.5, math.inf, None, "1", torch.ones(2)])
def test_a_function_that_gives_no_weight(batch, value):
    says = r"the weight of 'soft' is .* at progress {}; have its function give a finite number of 0 or more"
    with pytest.raises(ValueError, match=says.format(0)):
        SoftTargets(lambda _: value, name="soft")
    distiller = Distiller(
        network(), network(seed=1), [SoftTargets(lambda at: 1.0 if at in (0, 1) else value, name="soft")]
    )
    distiller(*batch)
    distiller.progress = 0.5
    with pytest.raises(ValueError, match=says.format(r"0\.5")):
        distiller(*batch)


@pytest.mark.parametrize(
    ("weight", "share", "message"),
    [
        (-1.0, 0.5, "the weight of LinearWarmUp is -1"),
        (math.inf, 0.5, "the weight of LinearWarmUp is inf"),
        (1.0, 0.0, r"the share of LinearWarmUp is 0\.0; give the part of the run"),
        (1.0, 1.5, r"the share of LinearWarmUp is 1\.5"),
        (1.0, math.nan, "the share of LinearWarmUp is nan"),
    ],
)
def test_a_warm_up_that_cannot_be(weight, share, message):
    with pytest.raises(ValueError, match=message):
        LinearWarmUp(weight, share)


def rising(progress):
    return progress


def test_a_record_has_what_a_weight_is(data):
    assert repr(HardLabels(0.9)) == "HardLabels(0.9)"
    assert repr(HardLabels(LinearWarmUp(1, 0.5))) == "HardLabels(LinearWarmUp(weight=1, share=0.5))"
    written = repr(HardLabels(rising))
    assert written.startswith('HardLabels({"function": "')
    assert '.rising", "code": "' in written
    assert written == repr(copy.deepcopy(HardLabels(rising)))
    assert repr(HardLabels(lambda at: at)) != repr(HardLabels(lambda at: 2 * at))
    distiller = Distiller(network(), None, [HardLabels(LinearWarmUp(1.0, 0.5))])
    record = fit(distiller, data.train.balanced(20), epochs=1, device="cpu", progress=False)
    assert record.settings["terms"] == ["HardLabels(LinearWarmUp(weight=1.0, share=0.5))"]


def test_a_checkpoint_is_of_a_run_with_its_weights(data, tmp_path):
    options = {"epochs": 1, "device": "cpu", "progress": False, "checkpoint": tmp_path / "run.safetensors"}
    few = data.train.balanced(20)
    fit(Distiller(network(), None, [HardLabels(LinearWarmUp(1.0, 0.5))]), few, **options)
    fit(Distiller(network(), None, [HardLabels(LinearWarmUp(1.0, 0.5))]), few, **options)
    with pytest.raises(ValueError, match=r"is of another run: its terms is .*share=0\.5.* here it is .*0\.6"):
        fit(Distiller(network(), None, [HardLabels(LinearWarmUp(1.0, 0.6))]), few, **options)


def test_a_recipe_has_a_warm_up_as_a_table():
    spec = TermSpec("DKD", {"weight": WARM_UP, "beta": 2})
    assert spec.build().weight == LinearWarmUp(2.0, 0.25)
    written = json.loads(json.dumps(spec.as_dict()))
    assert written == {
        "kind": "DKD", "weight": {"kind": "LinearWarmUp", "weight": 2.0, "share": 0.25}, "alpha": 1.0,
        "beta": 2.0, "temperature": 4.0,
    }  # fmt: skip
    assert json.dumps(written["weight"]).count(".0") == 1, "a whole number and the same with a point are one"
    del written["kind"]
    assert TermSpec("DKD", written) == spec
    assert TermSpec("DKD", {"weight": 2}).as_dict()["weight"] == 2.0


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ({"kind": "WarmUp"}, "terms: DKD.weight has the kind 'WarmUp'; did you mean 'LinearWarmUp'"),
        ({"weight": 1}, "terms: DKD.weight has the kind ''; there are: LinearWarmUp"),
        ({"kind": "LinearWarmUp", "weight": 1}, "terms: DKD.weight has no 'share'; add it"),
        (WARM_UP | {"share": "x"}, "terms: DKD.weight.share is 'x'; write a number"),
        (WARM_UP | {"epochs": 20}, "terms: DKD.weight has no key 'epochs'"),
        (WARM_UP | {"share": 20}, "the share of LinearWarmUp is 20"),
        ([1], r"terms: DKD.weight is \[1\]; write a number"),
    ],
)
def test_a_weight_that_a_recipe_cannot_have(weight, message):
    with pytest.raises(ValueError, match=message):
        TermSpec("DKD", {"weight": weight})
