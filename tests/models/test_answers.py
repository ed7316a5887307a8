"""Which answers are logits, and which look like probabilities."""

import warnings

import pytest
import torch
import torch.nn.functional as F

from kdlib.models.answers import warn_of_probabilities

LOGITS = 4 * torch.randn(32, 10, generator=torch.Generator().manual_seed(0))

PROBABILITIES = {
    "softmax": LOGITS.softmax(1),
    "unsure": (LOGITS / 100).softmax(1),
    "two classes": LOGITS[:, :2].softmax(1),
    "in bfloat16": LOGITS.bfloat16().softmax(1),
    "sigmoid": LOGITS.sigmoid(),
    "one class in the data": F.one_hot(LOGITS.argmax(1), 10),
    "some are missing": LOGITS.softmax(1) * (torch.arange(32) % 3 > 0)[:, None],
}
OTHERS = {
    "logits": LOGITS,
    "logarithms": LOGITS.log_softmax(1),
    "positive logits": LOGITS.relu(),
    "shifted": LOGITS - LOGITS.amin(),
    "cosines": F.normalize(LOGITS),
    "a new network": 0.3 + LOGITS / 100,
    "a missing teacher": torch.zeros(32, 10),
    "equal": torch.full((32, 10), 0.1),
}


@pytest.mark.parametrize("kind", PROBABILITIES)
def test_probabilities_are_told_of(kind):
    with pytest.warns(
        UserWarning, match=r"the teacher's answers look like probabilities.*leave out the softmax"
    ):
        warn_of_probabilities(PROBABILITIES[kind], "teacher")


@pytest.mark.parametrize("kind", OTHERS)
def test_nothing_is_said_of_others(kind):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_probabilities(OTHERS[kind], "teacher")
