"""Networks written to files: they answer as before, for any batch, or they are not written."""

import builtins
import copy
import importlib.util
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from kdlib import create_model, load_data, predict
from kdlib.deploy import (
    Exported,
    FromPixels,
    export_onnx,
    export_program,
    load_onnx,
    load_program,
    pixels,
    quantize_onnx,
)
from kdlib.deploy.export import Network

pytestmark = pytest.mark.xdist_group("export")  # of files that are written once

needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="needs kdlib[export]",
)


class Way(NamedTuple):
    """A kind of file."""

    export: Callable[..., Exported]
    load: Callable[..., Network]
    suffix: str


ONNX = Way(export_onnx, load_onnx, ".onnx")
WAYS = [
    pytest.param(Way(export_program, load_program, ".pt2"), id="torch.export"),
    pytest.param(ONNX, id="ONNX", marks=needs_onnx),
]


def network():
    """A small convnet whose batch norms have seen something, so that the two modes differ."""
    model = create_model("convnet", 5, width=2, seed=0)
    with torch.no_grad():
        model(3 + torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(1)))
    return model


IMAGES = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(2))


class Written(NamedTuple):
    """A network in training mode, its state before it was exported, and what was written."""

    model: nn.Module
    before: dict[str, torch.Tensor]
    file: Exported
    answers: Network


@pytest.fixture(scope="module", params=WAYS)
def written(request, tmp_path_factory):
    """Over an older file, by each way; the tests only look at it."""
    way, model = request.param, network().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    path = tmp_path_factory.mktemp("written") / f"net{way.suffix}"
    path.write_text("old")
    file = way.export(model, path, IMAGES)
    assert file.path == path
    return Written(model, before, file, way.load(path))


def test_the_file_answers_in_evaluation_mode_as_the_network_for_other_batches(written):
    others = torch.randn(7, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    model = copy.deepcopy(written.model).eval()
    for some in (IMAGES, others, others[:1]):
        torch.testing.assert_close(written.answers(some), model(some).detach(), rtol=1e-4, atol=1e-5)


def test_what_it_says_of_the_file(written):
    weights = sum(weight.numel() for weight in written.model.parameters())
    assert written.file.size == written.file.path.stat().st_size > 4 * weights
    assert 0 <= written.file.difference < 1e-5


def test_the_network_is_left_as_it_was(written):
    assert written.model.training
    state = written.model.state_dict()
    assert all(torch.equal(value, written.before[name]) for name, value in state.items())


def test_nothing_but_the_file_is_left(written):
    assert list(written.file.path.parent.iterdir()) == [written.file.path]


@pytest.mark.parametrize("written", [pytest.param(ONNX, marks=needs_onnx)], indirect=True)
def test_onnx_names_its_input_and_output(written):
    import onnx

    graph = onnx.load(written.file.path).graph
    assert ([value.name for value in graph.input], [value.name for value in graph.output]) == (
        ["images"],
        ["logits"],
    )


@pytest.mark.parametrize("way", WAYS)
class TestWhatCannotBeWritten:
    def test_a_network_that_draws_random_numbers_is_refused_and_leaves_no_file(self, way, tmp_path):
        class Guessing(nn.Module):
            def forward(self, images):
                return images.mean(dim=(2, 3)) + torch.rand_like(images[:, :, 0, 0])

        with pytest.raises(ValueError, match=r"answers? otherwise than the network.*random"):
            way.export(Guessing(), tmp_path / f"net{way.suffix}", IMAGES)
        assert not list(tmp_path.iterdir())

    def test_a_network_that_looks_at_the_values_is_refused(self, way, tmp_path):
        class Branching(nn.Module):
            def forward(self, images):
                return images.mean(dim=(2, 3)) if images.sum() > 0 else images.amax(dim=(2, 3))

        with pytest.raises(ValueError, match=r"Branching cannot be traced.*take no branch"):
            way.export(Branching(), tmp_path / f"net{way.suffix}", IMAGES)
        assert not list(tmp_path.iterdir())

    def test_another_ending(self, way, tmp_path):
        with pytest.raises(ValueError, match=rf"net.bin.*ends in '\{way.suffix}'"):
            way.export(network(), tmp_path / "net.bin", IMAGES)

    def test_no_such_file(self, way, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"none.*export the network first"):
            way.load(tmp_path / f"none{way.suffix}")


def test_a_difference_that_is_no_number_is_refused(tmp_path):
    model = network()
    with torch.no_grad():
        model.classifier.bias[0] = float("nan")
    with pytest.raises(ValueError, match="otherwise"):
        export_program(model, tmp_path / "net.pt2", IMAGES)


def test_a_tolerance_of_nothing_refuses_rounding(tmp_path):
    """The check compares for real: with room for no rounding at all, ONNX Runtime's is too much."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    images = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(4))
    with pytest.raises(ValueError, match="otherwise"):
        export_onnx(network(), tmp_path / "net.onnx", images, tolerance=0.0)


def test_missing_packages_come_with_the_command_that_installs_them(tmp_path, monkeypatch):
    find = importlib.util.find_spec
    hidden = {"onnx", "onnxruntime"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in hidden else find(name))
    with pytest.raises(
        ModuleNotFoundError, match="onnx and onnxruntime, not installed here: pip install onnx onnxscript"
    ):
        export_onnx(network(), tmp_path / "net.onnx", IMAGES)
    assert not list(tmp_path.iterdir())


def test_the_program_needs_no_onnx(tmp_path, monkeypatch):
    original = builtins.__import__

    def refuse(name, *arguments, **options):
        assert not name.startswith("onnx"), name
        return original(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    assert export_program(network(), tmp_path / "net.pt2", IMAGES).path.is_file()


class Form(nn.Module):
    """A network in another form, which answers in that of its own."""

    def __init__(self, form=lambda logits: logits):
        super().__init__()
        self.network, self.form = network(), form

    def forward(self, images):
        self.kept = self.network.layer1(images)
        return self.form(self.network(images))


class Deep(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.classifier = nn.Conv3d(1, 2, 3), nn.Linear(2, 5)

    def forward(self, images):
        return self.classifier(self.conv(images[:, None]).mean((2, 3, 4)))


def used(model, images=IMAGES):
    """After a pass with gradients."""
    model(images)
    return model


def pruned():
    model = network().eval()
    prune.l1_unstructured(model.classifier, "weight", 0.5)
    return model


FORMS = {
    "DataParallel": lambda: nn.DataParallel(network()),
    "compiled": lambda: torch.compile(network(), backend="eager"),
    "key": lambda: Form(lambda logits: {"logits": logits}),
    "keeps a map": lambda: used(Form().eval()),
    "pruned": lambda: used(pruned()),
    "half": lambda: network().half(),
    "Conv3d": Deep,
    "frozen norm": lambda: network().train(),
}


@pytest.mark.parametrize("kind", FORMS)
def test_networks_of_all_forms_are_written_and_left_as_they_were(kind, tmp_path):
    model = FORMS[kind]()
    if kind == "frozen norm":
        model.layer1[1].eval()
    modes = [module.training for module in model.modules()]
    before = copy.deepcopy(model.state_dict())
    file = export_program(model, tmp_path / "net.pt2", IMAGES, tolerance=0.01)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert len({weight.dtype for weight in model.parameters()} | {next(model.parameters()).dtype}) == 1
    answers = load_program(file.path)(IMAGES)
    assert answers.dtype == torch.float32
    plain = model.eval()(IMAGES.to(next(model.parameters()).dtype))
    plain = plain["logits"] if isinstance(plain, dict) else plain
    torch.testing.assert_close(answers, plain.detach().float(), rtol=1e-2, atol=1e-2)


@needs_onnx
def test_onnx_takes_wrapped_networks_and_other_answers_too(tmp_path):
    model = nn.DataParallel(Form(lambda logits: {"logits": logits}).eval())
    file = export_onnx(model, tmp_path / "net.onnx", IMAGES)
    torch.testing.assert_close(
        load_onnx(file.path)(IMAGES), model(IMAGES)["logits"].detach(), rtol=1e-4, atol=1e-5
    )


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning", "ignore:`torch.jit:FutureWarning")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Form(lambda logits: (logits, 0)), "Form answers with a tuple and not with logits"),
        (lambda: network().forward, "a method cannot be traced; give the network"),
        (
            lambda: torch.jit.trace(network().eval(), IMAGES),
            "TopLevelTracedModule cannot be traced; give the network",
        ),
    ],
    ids=["tuple", "function", "TorchScript"],
)
def test_forms_that_cannot_be_written(make, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        export_program(make(), tmp_path / "net.pt2", IMAGES)
    assert not list(tmp_path.iterdir())


class TestFromPixels:
    def test_it_answers_to_pixels_as_the_network_to_normalised_images(self):
        data = load_data("digits")
        model = create_model("convnet", 10, in_channels=1, width=2, seed=0).eval()
        packed = FromPixels(model, data.train).eval()
        with torch.no_grad():
            answers = packed(pixels(data.test, 20))
        torch.testing.assert_close(
            answers, predict(model, data.test, device="cpu")[:20], rtol=1e-4, atol=1e-4
        )

    def test_its_file_holds_the_normalisation(self, tmp_path):
        data = load_data("digits")
        model = create_model("convnet", 10, in_channels=1, width=2, seed=0)
        shown = pixels(data.test, 8)
        file = export_program(FromPixels(model, data.train), tmp_path / "net.pt2", shown)
        expected = predict(model, data.test, device="cpu")[:8]
        torch.testing.assert_close(load_program(file.path)(shown), expected, rtol=1e-4, atol=1e-4)


class TestPixels:
    def test_they_are_the_images_where_a_test_changes_nothing(self):
        test = load_data("digits").test
        assert torch.equal(pixels(test, 5), test.images[:5])
        assert len(pixels(test, 10_000)) == len(test)

    def test_large_pictures_are_cropped_as_in_a_test(self, image_folder):
        test = load_data(f"folder:{image_folder}", size=112).test
        found = pixels(test, 2)
        assert (found.dtype, found.shape) == (torch.uint8, (2, 3, 112, 112))
        batch = next(test.batches(2)).images
        mean, std = (torch.tensor(values)[:, None, None] for values in (test.mean, test.std))
        torch.testing.assert_close(found / 255, batch * std + mean, rtol=0, atol=0.5 / 255 + 1e-5)


@needs_onnx
def test_in_eight_bits_it_answers_nearly_as_before(tmp_path):
    data = load_data("digits")
    packed = FromPixels(create_model("resnet20", 10, in_channels=1, seed=0).eval(), data.train)
    images = pixels(data.train, 100)
    whole = export_onnx(packed, tmp_path / "whole.onnx", images[:4])
    small = quantize_onnx(whole.path, tmp_path / "small.onnx", images)
    before, after = load_onnx(whole.path)(images), load_onnx(small.path)(images)
    largest = ((after - before).abs().max() / before.abs().max()).item()
    assert small.difference == pytest.approx(largest)
    assert 0 < largest < 0.2
    assert small.size == small.path.stat().st_size < whole.size / 2
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["small.onnx", "whole.onnx"]


@needs_onnx
def test_what_cannot_be_quantised(tmp_path):
    images = torch.zeros(4, 1, 8, 8)
    with pytest.raises(FileNotFoundError, match=r"there is no file .*none\.onnx"):
        quantize_onnx(tmp_path / "none.onnx", tmp_path / "small.onnx", images)
    export_onnx(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).eval(), tmp_path / "whole.onnx", images)
    with pytest.raises(ValueError, match=r"give one that ends in '\.onnx'"):
        quantize_onnx(tmp_path / "whole.onnx", tmp_path / "small.pt2", images)
    with pytest.raises(ValueError, match="there is no image"):
        quantize_onnx(tmp_path / "whole.onnx", tmp_path / "small.onnx", images[:0])
    assert [path.name for path in tmp_path.iterdir()] == ["whole.onnx"]
