"""A network with a view of its own: the same crop and flip, taps, files, checkpoints and copies."""

import copy
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from kdlib import Attention, Distiller, HardLabels, Hints, SoftTargets, create_model, evaluate, fit, load_data
from kdlib.data.augment import Augmentation, RandomFlip, RandomResizedCrop, normalize
from kdlib.deploy import FromPixels, export_program, pixels
from kdlib.models import View, tap
from kdlib.training.accelerate import accelerated, fold
from kdlib.training.state import load_weights, save_weights

OWN = ((0.49, 0.45, 0.41), (0.23, 0.22, 0.21))
THEIRS = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


class Seen(nn.Module):
    """Answers with the picture itself."""

    def forward(self, images: Tensor) -> Tensor:
        return images


@pytest.fixture
def network() -> nn.Module:
    return create_model("resnet8", 5, seed=0).eval()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(4, 3, 16, 16)


def test_pixels_are_normalised_as_the_network_expects():
    seen = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    view = View(Seen(), normalised=OWN, expected=THEIRS)
    torch.testing.assert_close(view(normalize(seen, *OWN)), normalize(seen, *THEIRS), rtol=0, atol=1e-5)
    grey = View(Seen(), normalised=((0.3,), (0.2,)), expected=((0.5,), (0.5,)))
    assert grey(torch.zeros(1, 1, 2, 2)).flatten().tolist() == pytest.approx([-0.4] * 4)


def test_detail_that_is_too_fine_is_averaged_and_a_gradient_stays():
    columns = torch.arange(16.0).expand(1, 3, 16, 16)
    stripes = torch.tensor([1.0, -1.0]).repeat(8).expand(1, 3, 16, 16)
    small = View(Seen(), size=8)
    torch.testing.assert_close(small(columns)[0, 0, 4, 1:-1], 2 * torch.arange(1.0, 7) + 0.5)
    # Every second pixel, as without antialiasing, would be all 1 or a mean that misses the rest.
    assert small(stripes)[..., 1:-1].abs().max() < 1e-6
    assert View(Seen(), size=32)(columns).shape == (1, 3, 32, 32)


class Recording(nn.Module):
    """A classifier that keeps what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Linear(1, 10)
        self.shown: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.shown.append(images)
        return self.classifier(images.mean(dim=(1, 2, 3), keepdim=False)[:, None])


def test_teacher_and_student_see_one_crop_and_one_flip():
    data = load_data("digits", size=32)
    augmentation = Augmentation((RandomResizedCrop(32), RandomFlip()))
    train = replace(data.train.subset(range(40)), augmentation=augmentation)
    own = (train.mean, train.std)
    networks = Recording(), Recording()
    teacher = View(networks[0], normalised=own, expected=((0.5,), (0.5,)))
    distiller = Distiller(View(networks[1], size=16), teacher, [SoftTargets()])
    for epoch in range(2):
        for images, labels, indices in train.batches(20, seed=3, epoch=epoch, augment=True):
            distiller(images, labels, indices)
    # As pixels from 0 to 1, the teacher's made smaller.
    large = torch.cat([0.5 * images + 0.5 for images in networks[0].shown])
    small = torch.cat([images * train.std[0] + train.mean[0] for images in networks[1].shown])
    assert large.shape == (80, 1, 32, 32)
    made_smaller = nn.functional.interpolate(large, size=(16, 16), mode="bilinear", antialias=True)
    torch.testing.assert_close(small, made_smaller, rtol=0, atol=1e-5)
    assert large.min() > -1e-5
    assert large.max() < 1 + 1e-5


def test_taps_reach_through(network, images):
    view = View(network, size=8)
    with tap(view, ["layer1", "layer3.0.relu:input"]) as maps:
        logits = view(images)
    assert maps["layer1"].shape == (4, 16, 8, 8)
    seen = nn.functional.interpolate(images, size=(8, 8), mode="bilinear", antialias=True)
    assert torch.equal(logits, network(seen))


def test_a_file_of_the_view_is_one_of_the_network(network, tmp_path):
    view = View(network, size=8)
    assert list(view.state_dict()) == list(network.state_dict())
    other = create_model("resnet8", 5, seed=1)
    load_weights(other, save_weights(view, tmp_path / "view.safetensors"))
    assert torch.equal(other.layer3[0].conv2.weight, network.layer3[0].conv2.weight)
    another = copy.deepcopy(View(create_model("resnet8", 5, seed=2), size=4))
    load_weights(another, save_weights(network, tmp_path / "bare.safetensors"))
    assert torch.equal(another.module.classifier.weight, network.classifier.weight)
    wrong = save_weights(create_model("convnet", 5), tmp_path / "convnet.safetensors")
    with pytest.raises(ValueError, match=r"does not fit this View: missing bn1\.bias"):
        load_weights(another, wrong)


def test_a_distiller_keeps_the_bare_names(network):
    """What a checkpoint holds is the same with and without a view."""
    terms = [HardLabels()]
    with_view = Distiller(View(network, size=8), None, terms).state_dict()
    assert list(with_view) == list(Distiller(network, None, terms).state_dict())
    assert "student.layer1.0.conv1.weight" in with_view
    other = Distiller(View(create_model("resnet8", 5, seed=1), size=8), None, terms)
    other.load_state_dict(with_view)
    assert torch.equal(other.student.module.conv1.weight, network.conv1.weight)


def test_a_folded_copy_has_the_same_view(network, images):
    view = View(network, size=8, normalised=OWN, expected=THEIRS)
    folded = fold(view, images, tapped=["layer2"])
    assert any(isinstance(module, nn.Identity) for module in folded.modules()), "batch norm is folded"
    with tap(folded, ["layer2"]) as actual, tap(view, ["layer2"]) as expected:
        assert (folded(images) - view(images)).abs().max() < 1e-5 * view(images).abs().max()
    assert actual["layer2"].shape == expected["layer2"].shape == (4, 32, 4, 4)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_terms_on_layers_accelerated(images, precision):
    """Maps of 8×8 beside maps of 16×16, with the teacher that is asked in training."""
    student = View(create_model("resnet8", 5, seed=1), size=8)
    teacher = View(create_model("resnet8", 5, seed=0), normalised=OWN, expected=THEIRS)
    terms = [SoftTargets(), Attention(layers=["layer1"]), Hints(layers=["layer2"])]
    distiller = Distiller(student, teacher, terms).connect(images)
    labels = torch.tensor([0, 1, 2, 3])
    expected, _ = distiller(images, labels)
    half = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed")
    with accelerated(distiller, images, steps=1), half:
        actual, _ = distiller(images, labels)
    torch.testing.assert_close(actual, expected, rtol=1e-4 if precision == "32-true" else 0.05, atol=0)


def test_training_evaluating_and_exporting_with_a_view(tmp_path):
    """A student at half the teacher's side, from training to the file."""
    data = load_data("digits", size=16)
    teacher, student = (create_model("convnet", 10, in_channels=1, width=4, seed=seed) for seed in (0, 1))
    own = (data.train.mean, data.train.std)
    teacher = View(teacher, normalised=own, expected=((0.5,), (0.5,)))
    student = View(student, size=8)
    settings = {"batch_size": 50, "progress": False, "test": data.test}
    fit(teacher, data.train.subset(range(300)), epochs=3, **settings)
    terms = [HardLabels(), SoftTargets(), Hints(0.1, layers=["layer2"])]
    record = fit(Distiller(student, teacher, terms), data.train.subset(range(300)), epochs=8, **settings)
    assert record.settings["student"] == "ConvNet, 1,702 weights, size=8"
    assert record.settings["teacher"].startswith("ConvNet, 1,702 weights, scale=")
    assert record.final["accuracy"] == evaluate(student, data.test)["accuracy"] > 0.4
    file = export_program(FromPixels(student, data.test), tmp_path / "student.pt2", pixels(data.test, 4))
    assert file.difference < 1e-4


@pytest.mark.parametrize("changed", ["student", "teacher"])
def test_a_run_with_another_view_is_another_run(tmp_path, changed):
    data = load_data("digits", size=16)

    def run(size: int) -> None:
        sizes = {"student": 8, "teacher": 8} | {changed: size}
        student, teacher = (
            View(create_model("convnet", 10, in_channels=1, width=2, seed=0), size=sizes[who])
            for who in ("student", "teacher")
        )
        distiller = Distiller(student, teacher, [SoftTargets()])
        kept = tmp_path / "run.safetensors"
        fit(distiller, data.train.subset(range(50)), epochs=1, checkpoint=kept, progress=False)

    run(8)
    run(8)
    with pytest.raises(ValueError, match=rf"run\.safetensors.*{changed}"):
        run(12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "there is nothing to change; give a size, normalised and expected, or an output"),
        ({"size": 0}, "size is 0; give a number of pixels"),
        ({"normalised": OWN}, "give both normalisations or none"),
        ({"expected": OWN}, "give both normalisations or none"),
        (
            {"normalised": OWN, "expected": ((0.5,), (0.5,))},
            "each is a mean and a standard deviation for every",
        ),
        (
            {"normalised": OWN, "expected": ((0.5,) * 3, (0.5, 0.0, 0.5))},
            r"0\.0, 0\.5\); give finite numbers",
        ),
        ({"normalised": (OWN[0], (float("nan"),) * 3), "expected": OWN}, "give finite numbers above 0"),
    ],
)
def test_views_that_are_none(options, message):
    with pytest.raises(ValueError, match=message):
        View(Seen(), **options)


def test_pictures_of_other_channels_are_refused():
    view = View(Seen(), normalised=OWN, expected=THEIRS)
    with pytest.raises(ValueError, match="the images have 1 channels and the normalisation 3"):
        view(torch.zeros(2, 1, 4, 4))


class Answering(nn.Module):
    """Answers as some libraries' networks do."""

    def __init__(self, kind) -> None:
        super().__init__()
        self.network, self.kind = create_model("convnet", 10, in_channels=1, width=4, seed=0), kind

    def forward(self, images: Tensor):
        return self.kind(prediction=self.network(images), other=images)


@pytest.mark.parametrize("kind", [dict, SimpleNamespace])
def test_a_named_output_is_trained_and_teaches(kind):
    train = load_data("digits").train.balanced(20)
    plain, named = create_model("convnet", 10, in_channels=1, width=4, seed=0), Answering(kind)
    for student, teacher in ((plain, plain), (View(named, output="prediction"), Answering(kind))):
        teacher = copy.deepcopy(teacher if student is plain else View(teacher, output="prediction"))
        terms = [HardLabels(), SoftTargets()]
        fit(Distiller(student, teacher, terms), train, epochs=1, device="cpu", progress=False)
    for one, other in zip(plain.parameters(), named.network.parameters(), strict=True):
        assert torch.equal(one, other)


def test_an_output_that_is_not_there():
    with pytest.raises(ValueError, match="output is 'logit', and Answering answers with a dict"):
        View(Answering(dict), output="logit")(torch.zeros(2, 1, 8, 8))
    with pytest.raises(ValueError, match=r"View\(network, output='prediction'\)"):
        evaluate(Answering(dict), load_data("digits").test, device="cpu")
