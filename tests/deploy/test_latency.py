"""The harness: who is called when, in which mode, and what is made of the times. No speed is asserted."""

import time

import numpy as np
import pytest
import torch
from torch import nn

from kdlib.deploy import Latency, measure_latency

IMAGES = torch.zeros(3, 1, 4, 4)


def recorder(calls, name):
    def network(images):
        calls.append(name)
        return images

    return network


def test_networks_take_turns_and_each_time_has_its_warm_up():
    calls = []
    measure_latency({n: recorder(calls, n) for n in "abc"}, IMAGES, repeats=2)
    assert "".join(calls) == "aaabbbccc" * 2


def test_only_the_repeats_are_kept():
    found = measure_latency({"a": lambda images: images}, IMAGES, repeats=7, threads=1)["a"]
    assert len(found.milliseconds) == 7
    assert min(found.milliseconds) > 0
    assert (found.batch_size, found.threads) == (3, 1)


def test_a_network_gets_its_own_times_in_milliseconds():
    """Sleep lasts no shorter than it was asked to."""
    found = measure_latency({"slow": lambda _: time.sleep(0.02), "fast": lambda _: None}, IMAGES, repeats=3)
    assert min(found["slow"].milliseconds) >= 20
    assert found["fast"].median < 20


def test_modules_are_in_evaluation_mode_without_gradients_meanwhile():
    seen = []

    class Watching(nn.Module):
        def forward(self, images):
            seen.append((self.training, torch.is_grad_enabled(), torch.get_num_threads()))
            return images

    training, evaluating = Watching().train(), Watching().eval()
    before = torch.get_num_threads()
    measure_latency({"t": training, "e": evaluating}, IMAGES, repeats=1, threads=2)
    assert set(seen) == {(False, False, 2)}
    assert (training.training, evaluating.training, torch.get_num_threads()) == (True, False, before)


def test_an_error_leaves_modes_and_threads_as_they_were():
    class Failing(nn.Module):
        def forward(self, _images):
            raise RuntimeError("out of order")

    model, before = Failing().train(), torch.get_num_threads()
    with pytest.raises(RuntimeError, match="out of order"):
        measure_latency({"a": model}, IMAGES, threads=2)
    assert model.training
    assert torch.get_num_threads() == before


def test_one_slow_call_moves_neither_median_nor_quartiles():
    times = (1.0, 1.2, 1.1, 1.3, 900.0, 1.0, 1.2, 1.1, 1.3)
    found = Latency(times, batch_size=1, threads=1)
    assert found.median == pytest.approx(1.2)
    assert found.quartiles == pytest.approx(tuple(np.percentile(times, [25, 75])))
    assert str(found) == "1.2 ms (1.1 to 1.3)"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"networks": {}}, "no network to time"),
        ({"repeats": 0}, "repeats is 0; give 1 or more"),
        ({"threads": 0}, "threads is 0; give 1 or more"),
    ],
)
def test_bad_arguments(arguments, words):
    networks = arguments.pop("networks", {"a": lambda images: images})
    with pytest.raises(ValueError, match=words):
        measure_latency(networks, IMAGES, **arguments)
