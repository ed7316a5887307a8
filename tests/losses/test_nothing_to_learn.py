"""Shapes from which a loss teaches nothing, whatever the student computes: those that a sentence refuses.

A small batch is another matter: it gives 0 here, and `kdlib.terms` say how many images a term needs.
"""

import pytest
import torch

from kdlib import losses
from kdlib.losses import inputs

LABELS = torch.tensor([0, 1, 1, 0, 1])


def standardized(form):
    return lambda s, t: losses.soft_target_loss(
        losses.standardize_logits(s, form), losses.standardize_logits(t, form), 2
    )


# What is refused, the shape at which it is, the next larger one, and what the sentence says.
CASES = {
    "standardised logits": (standardized("paper"), (5, 2), (5, 3), "standardised they are 1 and −1"),
    "the code's": (standardized("code"), (5, 2), (5, 3), "two classes, and standardised they are 1 and −1"),
    "DKD's second part": (
        lambda s, t: losses.dkd_loss(s, t, LABELS, alpha=0), (5, 2), (5, 3), "give alpha above 0",
    ),
    "DIST's first part": (lambda s, t: losses.dist_loss(s, t, gamma=0), (5, 2), (5, 3), "give gamma above 0"),
    "attention": (losses.attention_transfer_loss, (5, 4, 1, 1), (5, 4, 1, 2), "maps are 1×1, and attention"),
    "the paper's": (
        lambda s, t: losses.attention_transfer_loss(s, t, form="paper"),
        (5, 4, 1, 1), (5, 4, 2, 1), "tap an earlier layer",
    ),
    "NST": (losses.nst_loss, (5, 4, 1, 1), (5, 4, 2, 1), "the maps are 1×1, and a channel's pattern"),
    "angles": (losses.rkd_angle_loss, (5, 1), (5, 2), "one feature an image, and the cosine of an angle"),
    "correlations": (losses.correlation_congruence_loss, (5, 1), (5, 2), "a cosine among such is ±1"),
    "PKT": (losses.pkt_loss, (5, 1), (5, 2), "tap a wider layer"),
    "PKT, code": (lambda s, t: losses.pkt_loss(s, t, "code"), (5, 1), (5, 2), "tap a wider layer"),
}  # fmt: skip
every_case = pytest.mark.parametrize(("loss", "shape", "larger", "message"), CASES.values(), ids=CASES.keys())
CHECKS = ("check_more_than_two_classes", "check_positions", "check_directions")


def gradient(loss, shape):
    student, teacher = torch.randn(2, *shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    (found,) = torch.autograd.grad(loss(student.requires_grad_(), teacher), student)
    return found.abs().max()


@every_case
def test_a_sentence_refuses_what_has_no_gradient(loss, shape, larger, message):
    with pytest.raises(ValueError, match=message):
        gradient(loss, shape)
    assert gradient(loss, larger) > 1e-6


@every_case
def test_without_the_sentence_nothing_would_be_learnt(loss, shape, larger, message, monkeypatch):
    for module in (losses.logits, losses.attention, losses.relations):
        for check in CHECKS:
            if hasattr(module, check):
                assert getattr(module, check) is getattr(inputs, check)
                monkeypatch.setattr(module, check, lambda *_: None)
    assert gradient(loss, shape) < 1e-6


@pytest.mark.parametrize("loss", [losses.attention_transfer_loss, losses.nst_loss])
def test_the_smaller_of_two_maps_counts(loss):
    """Both come to one size, so that a teacher's 1×1 is the student's too."""
    student, teacher = torch.rand(2, 3, 4, 4), torch.rand(2, 5, 1, 1)
    for pair in ((student, teacher), (teacher, student)):
        with pytest.raises(ValueError, match="the maps are 1×1"):
            loss(*pair)
