"""Networks of torchvision and timm: sizes to the weight, small pictures, grey pictures, and no download."""

import subprocess
import sys
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save
from torch import nn

from kdlib.models import count_parameters, create_model


@pytest.mark.parametrize(
    ("name", "classes", "weights"),
    [
        ("resnet50", 2, 23_512_130),
        ("resnet18", 2, 11_177_538),
        ("mobilenet_v2", 1000, 3_504_872),
        ("mobilenet_v2", 101, 2_353_253),
    ],
)
def test_sizes_to_the_weight(name, classes, weights):
    """The first two are the counts of the hymenoptera experiment, the third is torchvision's own."""
    assert count_parameters(create_model(name, classes)) == weights


def test_importing_the_models_does_not_import_torchvision():
    program = "import sys, kdlib; assert 'torchvision' not in sys.modules and 'timm' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_any_name_of_torchvision():
    model = create_model("squeezenet1_1", 7, seed=0).eval()
    assert model(torch.randn(1, 3, 64, 64)).shape == (1, 7)


def test_a_name_that_both_have_is_the_one_for_small_pictures():
    assert count_parameters(create_model("vgg13", 100)) == 9_462_180
    with torch.device("meta"):
        assert count_parameters(create_model("torchvision:vgg13", 1000)) == 133_047_848


def test_auxiliary_classifiers_are_left_out():
    with torch.device("meta"):
        for name in ("googlenet", "inception_v3"):
            assert create_model(name, 5)(torch.randn(2, 3, 96, 96)).shape == (2, 5)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_the_stem_for_small_images_keeps_every_pixel(name):
    model = create_model(name, 10, small_images=True).eval()
    large = create_model(name, 10)
    assert model.layer1(model.maxpool(model.conv1(torch.randn(1, 3, 32, 32)))).shape[-2:] == (32, 32)
    assert model(torch.randn(1, 3, 32, 32)).shape == (1, 10)
    assert count_parameters(large) - count_parameters(model) == 3 * 64 * (7 * 7 - 3 * 3)


@pytest.mark.parametrize("options", [{}, {"small_images": True}])
def test_grey_pictures(options):
    model = create_model("resnet18", 10, in_channels=1, seed=0, **options).eval()
    assert model(torch.randn(1, 1, 32, 32)).shape == (1, 10)
    size = model.conv1.kernel_size[0]
    torch.testing.assert_close(model.conv1.weight.std().item(), (2 / (64 * size**2)) ** 0.5, rtol=0.1, atol=0)
    assert create_model("mobilenet_v2", 5, in_channels=1).eval()(torch.randn(1, 1, 64, 64)).shape == (1, 5)
    with torch.device("meta"):
        assert create_model("vit_b_16", 5, in_channels=2)(torch.randn(1, 2, 224, 224)).shape == (1, 5)


def test_weights_go_to_torchvision_with_their_checksum(monkeypatch):
    """Nothing is downloaded: the place of the download hands out a network of its own."""
    import torchvision.models._api as api

    asked = []
    pretrained = create_model("resnet18", 1000, seed=7)

    def load(url, *_args, **options):
        asked.append((url, options["check_hash"]))
        return pretrained.state_dict()

    monkeypatch.setattr(api, "load_state_dict_from_url", load)
    model = create_model("resnet18", 2, weights="IMAGENET1K_V1", seed=0)
    assert asked == [("https://download.pytorch.org/models/resnet18-f37072fd.pth", True)]
    assert torch.equal(model.layer4[1].conv2.weight, pretrained.layer4[1].conv2.weight)
    assert isinstance(model.fc, nn.Linear)
    assert count_parameters(model) == 11_177_538
    whole = create_model("resnet18", 1000, weights="DEFAULT")
    assert torch.equal(whole.fc.weight, pretrained.fc.weight), "the same classes keep the classifier"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "resnet18",
            {"weights": "BEST"},
            r"resnet18 has no weights 'BEST'; there are IMAGENET1K_V1, DEFAULT",
        ),
        ("resnet18", {"weights": "DEFAULT", "in_channels": 1}, r"for three channels and its own stem"),
        ("resnet18", {"weights": "DEFAULT", "small_images": True}, r"leave out small_images"),
        ("mobilenet_v2", {"small_images": True}, r"mobilenet_v2 has no stem for small images"),
        ("resnet18", {"colour": True}, r"resnet18 does not take these options.*colour"),
        ("resnet-50", {}, r"did you mean 'resnet50'\?"),
        ("efficientnet_b9", {}, r"did you mean 'efficientnet_b\d'\?.* all classification networks of torch"),
        ("torchvision:resnet999", {}, r"no model is called 'torchvision:resnet999'"),
    ],
)
def test_what_torchvision_and_timm_do_not_have(name, options, message):
    with pytest.raises(ValueError, match=message):
        create_model(name, 10, **options)


def test_without_timm_its_names_say_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match=r"'timm:resnet18' needs timm, which is not installed: pip install"):
        create_model("timm:resnet18", 10)


def test_timm_where_it_is_installed():
    pytest.importorskip("timm", reason="timm is not installed: pip install timm")
    model = create_model("timm:resnet18", 7, in_channels=1, seed=0).eval()
    again = create_model("timm:resnet18", 7, in_channels=1, seed=0)
    assert model(torch.randn(1, 1, 32, 32)).shape == (1, 7)
    assert torch.equal(model.conv1.weight, again.conv1.weight)
    with pytest.raises(ValueError, match=r"timm has no model 'resnet81'; near it are .*resnet"):
        create_model("timm:resnet81", 10)
    with pytest.raises(ValueError, match=r"weights is 'V1'"):
        create_model("timm:resnet18", 10, weights="V1")


class Offline:
    """Nobody answers; and how often somebody was asked."""

    def __init__(self):
        self.asked = 0

    def __call__(self, *_arguments, **_options):
        self.asked += 1
        raise URLError("Name or service not known")


def test_pretrained_weights_that_cannot_be_had_are_said_with_their_place(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", offline := Offline())
    with pytest.raises(
        OSError,
        match=rf"weights of resnet18 are not here .*Name or.*put https://\S*/resnet18-f37072fd.pth into "
        rf"{tmp_path}/hub/checkpoints",
    ):
        create_model("resnet18", 2, weights="DEFAULT")
    assert offline.asked == 1


def test_without_a_network_timm_is_not_asked_for_what_it_has_not(monkeypatch, tmp_path):
    """Its library would try for 50 seconds."""
    pytest.importorskip("timm", reason="timm is not installed: pip install timm")
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("kdlib.models.external.urlopen", offline := Offline())
    with pytest.raises(
        OSError, match=r"`hf download timm/resnet18.a1_in1k`, and copy the folder models--timm"
    ):
        create_model("timm:resnet18", 2, weights="DEFAULT")
    assert offline.asked == 1


def test_weights_of_timm_that_are_here_need_no_network(monkeypatch, tmp_path):
    pytest.importorskip("timm", reason="timm is not installed: pip install timm")
    hub = pytest.importorskip("huggingface_hub")
    own = create_model("timm:resnet18", 1000, seed=7)
    file = tmp_path / "model.safetensors"
    file.write_bytes(save(own.state_dict()))
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda _repository, name: str(tmp_path / name))
    monkeypatch.setattr("kdlib.models.external.urlopen", offline := Offline())
    model = create_model("timm:resnet18", 2, weights="DEFAULT")
    assert torch.equal(model.layer1[0].conv1.weight, own.layer1[0].conv1.weight)
    assert offline.asked == 0
