"""Optimisers and schedulers by torch's names."""

import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from kdlib.training.optim import make_optimizer, make_scheduler, restore_scheduler, scheduler_state
from kdlib.training.state import flatten_optimizer, restore_optimizer


def module():
    return nn.Linear(1, 3)


def test_sgd_has_nesterov_momentum_unless_told_otherwise():
    made = make_optimizer("SGD", module(), 0.1, 5e-4)
    assert isinstance(made, torch.optim.SGD)
    group = made.param_groups[0]
    assert (group["lr"], group["momentum"], group["nesterov"], group["weight_decay"]) == (
        0.1,
        0.9,
        True,
        5e-4,
    )
    plain = make_optimizer("SGD", module(), 0.1, 0, {"nesterov": False}).param_groups[0]
    assert (plain["momentum"], plain["nesterov"]) == (0.9, False)


def test_every_seeds_optimiser_and_scheduler():
    adamw = make_optimizer("AdamW", module(), 1e-4, 0.01, {"betas": (0.9, 0.99)})
    assert isinstance(adamw, torch.optim.AdamW)
    restarts = make_scheduler(
        "CosineAnnealingWarmRestarts", adamw, 100, {"T_0": 34560, "T_mult": 2, "eta_min": 9e-6}
    )
    assert restarts.T_0 == 34560
    sgd = make_optimizer("SGD", module(), 0.1, 1e-4, {"nesterov": False})
    steps = make_scheduler("MultiStepLR", sgd, 200, {"milestones": [2, 3]})
    rates = []
    for _ in range(4):
        rates.append(sgd.param_groups[0]["lr"])
        sgd.step()
        steps.step()
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.001])
    assert make_scheduler("StepLR", sgd, 9, {"step_size": 7, "gamma": 0.1}).step_size == 7


def test_a_cosine_ends_with_the_run():
    made = make_optimizer("SGD", module(), 0.1, 0)
    schedule = make_scheduler("CosineAnnealingLR", made, 10)
    for _ in range(10):
        made.step()
        schedule.step()
    assert made.param_groups[0]["lr"] == pytest.approx(0, abs=1e-12)
    assert make_scheduler("CosineAnnealingLR", made, 10, {"T_max": 3}).T_max == 3


def test_no_scheduler():
    assert make_scheduler(None, make_optimizer("Adam", module(), 0.1, 0), 10) is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: make_optimizer("Adamw", module(), 0.1, 0),
            "no optimiser called 'Adamw'; did you mean 'AdamW'",
        ),
        (
            lambda: make_optimizer("SGD", module(), 0.1, 0, {"beta": 1}),
            "SGD has no option 'beta'; it has .*momentum",
        ),
        (
            lambda: make_optimizer("Rprop", module(), 0.1, 1e-4),
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
        ("SGD", {"fused": "no"}, "fused of SGD is 'no'; write a number, true or false"),
        ("SGD", {"momentum": -1, "nesterov": False}, "SGD needs other options than .*momentum.*: Invalid"),
        ("SGD", {"momentum": 0}, "SGD needs other options than .*'nesterov': True.*: Nesterov momentum"),
        ("Adam", {"betas": 0.9}, r"Adam needs other options than .*'betas': 0\.9"),
        ("Adam", {"betas": [0.9]}, r"Adam needs other options than .*'betas': \[0\.9\]"),
        ("Rprop", {"step_sizes": ["a", "b"]}, r"step_sizes of Rprop is \['a', 'b'\]; write a finite number"),
    ],
)
def test_an_optimisers_options_are_checked(name, options, message):
    with pytest.raises(ValueError, match=message):
        make_optimizer(name, module(), 0.1, 0, options)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -1.0])
def test_rate_and_decay_are_finite(number):
    with pytest.raises(ValueError, match=f"learning_rate is {number}; it must be 0 or more, and finite"):
        make_optimizer("SGD", module(), number, 0)
    with pytest.raises(ValueError, match=f"weight_decay is {number}; it must be 0 or more, and finite"):
        make_optimizer("SGD", module(), 0.1, number)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("StepLR", {}, "StepLR needs other options than {}: .*step_size"),
        ("StepLR", {"step_size": "x"}, "step_size of StepLR is 'x'; write a finite number"),
        ("StepLR", {"step_size": 7, "gamma": "0.1"}, r"gamma of StepLR is '0\.1'; write a finite number"),
        *(
            ("MultiStepLR", {"milestones": wrong}, "milestones of MultiStepLR is .*; write a list of whole")
            for wrong in ("3,5", 3, [3.5], ["3", "5"], [0], [True])
        ),
        ("OneCycleLR", {"max_lr": "x", "total_steps": 9}, "max_lr of OneCycleLR is 'x'; write a finite"),
        ("CosineAnnealingWarmRestarts", {"T_0": 0}, "needs other options than {'T_0': 0}: Expected positive"),
    ],
)
def test_a_schedulers_options_are_checked(name, options, message):
    with pytest.raises(ValueError, match=message):
        make_scheduler(name, make_optimizer("SGD", module(), 0.1, 0), 9, options)


def test_a_scheduler_fits_its_optimiser():
    cycle = {"base_lr": 0.1, "max_lr": 0.2}
    assert make_scheduler("CyclicLR", make_optimizer("AdamW", module(), 0.1, 0), 9, cycle) is not None
    with pytest.raises(ValueError, match=r"CyclicLR needs other options than .*cycle_momentum"):
        make_scheduler("CyclicLR", make_optimizer("Adagrad", module(), 0.1, 0), 9, cycle)


# Arguments of every scheduler that asks for some; `fit` refuses one, two are made of others.
SCHEDULERS = {
    "LambdaLR": {"lr_lambda": lambda step: 0.9**step},
    "MultiplicativeLR": {"lr_lambda": lambda step: 0.95},  # noqa: ARG005  # as torch calls it
    "StepLR": {"step_size": 2},
    "MultiStepLR": {"milestones": [2, 5]},
    "ExponentialLR": {"gamma": 0.9},
    "CosineAnnealingLR": {"T_max": 6},
    "CyclicLR": {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 3, "mode": "exp_range", "gamma": 0.9},
    "CosineAnnealingWarmRestarts": {"T_0": 3, "T_mult": 2},
    "OneCycleLR": {"max_lr": 0.3, "total_steps": 9},
}
APART = {"ReduceLROnPlateau", "SequentialLR", "ChainedScheduler"}


@pytest.mark.parametrize("name", [
    name for name, kind in vars(lr_scheduler).items()
    if isinstance(kind, type) and issubclass(kind, lr_scheduler.LRScheduler)
    and kind is not lr_scheduler.LRScheduler and not name.startswith("_") and name not in APART
])  # fmt: skip
def test_every_scheduler_goes_on_where_it_was(name):
    """By way of JSON, as in a checkpoint."""

    def made():
        optimizer = make_optimizer("SGD", module(), 0.1, 0)
        return optimizer, make_scheduler(name, optimizer, 9, SCHEDULERS.get(name))

    def go(optimizer, schedule, steps):
        rates = []
        for _ in range(steps):
            optimizer.step()
            schedule.step()
            rates.append([optimizer.param_groups[0][key] for key in ("lr", "momentum")])
        return rates

    first, schedule = made()
    whole = go(first, schedule, 8)
    assert len({rate for rate, _ in whole}) > 1
    first, schedule = made()
    begun = go(first, schedule, 3)
    kept = json.loads(json.dumps([flatten_optimizer(first)[1], scheduler_state(schedule)]))
    second, resumed = made()
    restore_optimizer(second, {}, kept[0])
    restore_scheduler(resumed, kept[1])
    assert begun + go(second, resumed, 5) == whole


@pytest.mark.parametrize("number", [np.float32(0.5), np.float64(0.5), torch.tensor(0.5)])
def test_numbers_of_other_libraries_become_pythons(number):
    made = make_optimizer("Adam", module(), number, number, {"betas": (number, 0.9), "eps": number})
    schedule = make_scheduler(
        "CyclicLR", made, 9, {"base_lr": [number], "max_lr": number, "cycle_momentum": False}
    )
    json.dumps([flatten_optimizer(made)[1], scheduler_state(schedule)])
    assert made.param_groups[0]["betas"] == (0.5, 0.9)
    assert (made.param_groups[0]["eps"], schedule.max_lrs) == (0.5, [0.5])
