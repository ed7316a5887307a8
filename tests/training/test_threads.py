"""As many threads as a network is worth, while it is trained or asked, and no more than the user allows."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from kdlib import create_model, evaluate, fit, load_data, predict
from kdlib.training import accelerate


@pytest.fixture(scope="module")
def few():
    return load_data("digits").train.balanced(40)


@pytest.fixture(autouse=True)
def allowed():
    """A user who allows three, whatever the tests are run with."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield 3
    torch.set_num_threads(before)


class Watched(nn.Module):
    """Notes how many threads there are when it is asked about more than the one image of the counting."""

    def __init__(self, fails_at=()):
        super().__init__()
        self.network = create_model("convnet", 10, in_channels=1, width=4, seed=0)
        self.seen, self.fails_at = [], fails_at

    def forward(self, images):
        if len(images) > 1:
            self.seen.append(torch.get_num_threads())
        if len(images) in self.fails_at:
            raise RuntimeError("as a test wants it")
        return self.network(images)


def trained(model, few, **options):
    options = {"epochs": 2, "batch_size": 20, "device": "cpu", "progress": False} | options
    return fit(model, few, test=few, **options)


def operations_of_a_step(images):
    """Of the network above, as torch counts them forwards and backwards."""
    with FlopCounterMode(display=False) as counter:
        Watched().network(images).sum().backward()
    return counter.get_total_flops()


def test_a_small_network_is_trained_and_scored_with_one_thread(few, allowed):
    model = Watched()
    record = trained(model, few)
    assert set(model.seen) == {1}
    assert record.environment["threads"] == 1, "those that computed it"
    assert torch.get_num_threads() == allowed


@pytest.mark.parametrize(("worth", "expected"), [(0.5, 1), (2.5, 2), (50, 3)])
def test_a_larger_one_has_more_and_never_more_than_are_allowed(few, monkeypatch, worth, expected):
    step = operations_of_a_step(next(few.batches(20)).images)
    monkeypatch.setattr(accelerate, "_FLOPS_PER_THREAD", step / worth)
    model = Watched()
    record = trained(model, few, test_every=None)
    assert (model.seen[0], record.environment["threads"]) == (expected, expected)


def test_where_one_is_allowed_there_is_one(few, monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setattr(accelerate, "_FLOPS_PER_THREAD", 1.0)
    model = Watched()
    assert trained(model, few).environment["threads"] == 1
    assert set(model.seen) == {1}


@pytest.mark.parametrize("ask", [predict, evaluate])
def test_an_evaluation_has_those_that_it_is_worth(few, monkeypatch, allowed, ask):
    model = Watched()
    ask(model, few, device="cpu")
    monkeypatch.setattr(accelerate, "_FLOPS_PER_THREAD", 1.0)
    ask(model, few, device="cpu")
    assert model.seen == [1, allowed]
    assert torch.get_num_threads() == allowed


@pytest.mark.parametrize("ask", [predict, trained])
def test_they_are_given_back_after_an_error(few, allowed, ask):
    with pytest.raises(RuntimeError, match="as a test wants it"):
        ask(Watched(fails_at=(20, 40)), few)
    assert torch.get_num_threads() == allowed


def test_a_network_whose_operations_cannot_be_counted_has_what_is_allowed(few, allowed):
    model = Watched(fails_at=(1,))
    predict(model, few, device="cpu")
    assert set(model.seen) == {allowed}
