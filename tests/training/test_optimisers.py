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
        (lambda: make_scheduler("StepLR", None, 1, {}), "StepLR needs other options than {}"),
    ],
)
def test_what_torch_does_not_have(make, message):
    with pytest.raises(ValueError, match=message):
        make()
