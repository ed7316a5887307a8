"""First weights: by seed, by the recipe's rule, and from ImageNet where that can be had."""

from types import SimpleNamespace
from urllib.error import URLError

import pytest
import torch

from kdlib.recipes import NetworkSpec
from kdlib.runs.networks import make_student, make_untrained

COLOUR = SimpleNamespace(num_classes=2, in_channels=3)


def test_one_seed_one_network():
    spec = NetworkSpec("resnet8", initial="kaiming-xavier")
    first, again, other = (make_untrained(spec, COLOUR, seed).conv1.weight for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_rule_for_first_weights_holds_for_any_network():
    """Xavier's uniform distribution has a bound, sqrt(6 / (in + out)); biases are 0."""
    before = torch.random.get_rng_state()
    head = make_untrained(NetworkSpec("resnet18", initial="kaiming-xavier"), COLOUR, 0).fc
    bound = (6 / (512 + 2)) ** 0.5
    assert 0.9 * bound < head.weight.abs().max() <= bound
    assert not head.bias.any()
    assert torch.equal(before, torch.random.get_rng_state())


def test_weights_that_cannot_be_downloaded(monkeypatch, places):
    def no_network(*_arguments, **_options):
        raise URLError("Name or service not known")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", no_network)
    recipe = SimpleNamespace(student=NetworkSpec("resnet18", start="imagenet"), start=None)
    with pytest.raises(
        OSError, match=r"ImageNet weights of resnet18 .* cannot be downloaded \(Name .*TORCH_HOME"
    ):
        make_student(recipe, 0, COLOUR, None)
