"""Optimisers and schedulers by torch's names."""

import pytest
import torch
from torch import nn

from kdlib.training.optimisers import make_optimizer, make_scheduler


def weights():
    return [nn.Parameter(torch.ones(3))]


def test_sgd_has_nesterov_momentum_unless_told_otherwise():
    made = make_optimizer("SGD", weights(), 0.1, 5e-4)
    assert isinstance(made, torch.optim.SGD)
    group = made.param_groups[0]
    assert (group["lr"], group["momentum"], group["nesterov"], group["weight_decay"]) == (
        0.1,
        0.9,
        True,
        5e-4,
    )
    plain = make_optimizer("SGD", weights(), 0.1, 0, {"nesterov": False}).param_groups[0]
    assert (plain["momentum"], plain["nesterov"]) == (0.9, False)


def test_every_seeds_optimiser_and_scheduler():
    adamw = make_optimizer("AdamW", weights(), 1e-4, 0.01, {"betas": (0.9, 0.99)})
    assert isinstance(adamw, torch.optim.AdamW)
    restarts = make_scheduler(
        "CosineAnnealingWarmRestarts", adamw, 100, {"T_0": 34560, "T_mult": 2, "eta_min": 9e-6}
    )
    assert restarts.T_0 == 34560
    sgd = make_optimizer("SGD", weights(), 0.1, 1e-4, {"nesterov": False})
    steps = make_scheduler("MultiStepLR", sgd, 200, {"milestones": [2, 3]})
    rates = []
    for _ in range(4):
        rates.append(sgd.param_groups[0]["lr"])
        sgd.step()
        steps.step()
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.001])
    assert make_scheduler("StepLR", sgd, 9, {"step_size": 7, "gamma": 0.1}).step_size == 7


def test_a_cosine_ends_with_the_run():
    made = make_optimizer("SGD", weights(), 0.1, 0)
    schedule = make_scheduler("CosineAnnealingLR", made, 10)
    for _ in range(10):
        made.step()
        schedule.step()
    assert made.param_groups[0]["lr"] == pytest.approx(0, abs=1e-12)
    assert make_scheduler("CosineAnnealingLR", made, 10, {"T_max": 3}).T_max == 3


def test_no_scheduler():
    assert make_scheduler(None, make_optimizer("Adam", weights(), 0.1, 0), 10) is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: make_optimizer("Adamw", weights(), 0.1, 0),
            "no optimiser called 'Adamw'; did you mean 'AdamW'",
        ),
        (
            lambda: make_optimizer("SGD", weights(), 0.1, 0, {"beta": 1}),
            "SGD has no option 'beta'; it has .*momentum",
        ),
        (
            lambda: make_optimizer("Rprop", weights(), 0.1, 1e-4),
            "Rprop has no weight decay; give weight_decay=0",
        ),
        (lambda: make_scheduler("StepsLR", None, 1), "no scheduler called 'StepsLR'; did you mean 'StepLR'"),
        (lambda: make_scheduler("ReduceLROnPlateau", None, 1), "follows a measurement"),
        (lambda: make_scheduler("StepLR", None, 1, {"steps": 7}), "StepLR has no option 'steps'"),
        (lambda: make_scheduler("StepLR", None, 1, {"last_epoch": 7}), "StepLR has no option 'last_epoch'"),
    ],
)
def test_what_torch_does_not_have(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("SGD", {"momentum": "high"}, "momentum of SGD is 'high'; write a finite number"),
        ("SGD", {"momentum": True}, "momentum of SGD is True; write a finite number"),
        ("SGD", {"momentum": float("nan")}, "momentum of SGD is nan; write a finite number"),
        ("SGD", {"nesterov": "False"}, "nesterov of SGD is 'False'; write true or false"),
        ("SGD", {"nesterov": 1}, "nesterov of SGD is 1; write true or false"),
        ("SGD", {"fused": "no"}, "fused of SGD is 'no'; write true or false or nothing"),
        ("SGD", {"momentum": -1, "nesterov": False}, "SGD needs other options than .*momentum.*: Invalid"),
        ("SGD", {"momentum": 0}, "SGD needs other options than .*'nesterov': True.*: Nesterov momentum"),
        ("Adam", {"betas": 0.9}, r"Adam needs other options than .*'betas': 0\.9"),
        ("Adam", {"betas": [0.9]}, r"Adam needs other options than .*'betas': \[0\.9\]"),
        ("Rprop", {"step_sizes": ["a", "b"]}, r"Rprop needs other options than .*'step_sizes'"),
        ("Adam", {"differentiable": True}, "Adam needs other options than .*'differentiable': True"),
    ],
)
def test_an_optimisers_options_are_tried_before_it_is_used(name, options, message):
    with pytest.raises(ValueError, match=message):
        make_optimizer(name, weights(), 0.1, 0, options)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -1.0])
def test_rate_and_decay_are_finite(number):
    with pytest.raises(ValueError, match=f"learning_rate is {number}; it must be 0 or more, and finite"):
        make_optimizer("SGD", weights(), number, 0)
    with pytest.raises(ValueError, match=f"weight_decay is {number}; it must be 0 or more, and finite"):
        make_optimizer("SGD", weights(), 0.1, number)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("StepLR", {}, "StepLR needs other options than {}: .*step_size"),
        ("StepLR", {"step_size": "x"}, "step_size of StepLR is 'x'; write a whole number"),
        ("StepLR", {"step_size": 0}, "StepLR needs other options than {'step_size': 0}"),
        ("StepLR", {"step_size": 7, "gamma": "0.1"}, r"gamma of StepLR is '0\.1'; write a finite number"),
        *(
            ("MultiStepLR", {"milestones": wrong}, "milestones of MultiStepLR is .*; write a list of whole")
            for wrong in ("3,5", 3, [3.5], ["3", "5"], [0], [True])
        ),
        ("LinearLR", {"total_iters": 2.5}, r"total_iters of LinearLR is 2\.5; write a whole number"),
        ("OneCycleLR", {"max_lr": "x", "total_steps": 9}, "OneCycleLR needs other options than .*max_lr"),
        ("CosineAnnealingLR", {"T_max": 0}, "CosineAnnealingLR needs other options than {'T_max': 0}"),
        ("CosineAnnealingWarmRestarts", {"T_0": 0}, "needs other options than {'T_0': 0}: Expected positive"),
    ],
)
def test_a_schedulers_options_are_tried_before_it_is_used(name, options, message):
    with pytest.raises(ValueError, match=message):
        make_scheduler(name, make_optimizer("SGD", weights(), 0.1, 0), 9, options)


def test_a_scheduler_is_tried_on_the_kind_of_optimiser_that_it_gets():
    cycle = {"base_lr": 0.1, "max_lr": 0.2}
    assert make_scheduler("CyclicLR", make_optimizer("AdamW", weights(), 0.1, 0), 9, cycle) is not None
    with pytest.raises(ValueError, match=r"CyclicLR needs other options than .*cycle_momentum"):
        make_scheduler("CyclicLR", make_optimizer("Adagrad", weights(), 0.1, 0), 9, cycle)


def test_trying_leaves_weights_rate_and_random_numbers_alone():
    random, (weight,) = torch.get_rng_state(), weights()
    weight.grad = torch.ones(3)
    made = make_optimizer("SGD", [weight], 0.1, 5e-4)
    schedule = make_scheduler("StepLR", made, 9, {"step_size": 1})
    assert torch.equal(weight, torch.ones(3))
    assert not made.state
    assert (made.param_groups[0]["lr"], made.param_groups[0]["params"]) == (0.1, [weight])
    assert (schedule.last_epoch, schedule.get_last_lr()) == (0, [0.1])
    assert torch.equal(torch.get_rng_state(), random)


def test_a_capturable_optimiser_is_not_refused_for_want_of_a_gpu():
    assert make_optimizer("Adam", weights(), 0.1, 0, {"capturable": True}) is not None
