"""Networks as users have them: what cannot be copied, folded or looked into trains and teaches too."""

import copy
from collections import namedtuple
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from kdlib import Distiller, HardLabels, SoftTargets, create_model, evaluate, fit, load_data, predict
from kdlib.models import NoisyTeacher, ShuffledTeacher
from kdlib.training import accelerate
from kdlib.training.accelerate import channels_last, pays_to_compile, step_flops

GIVES = namedtuple("GIVES", "logits aux_logits")  # as torchvision's GoogLeNet in training mode
DATA = load_data("digits")
FEW = DATA.train.balanced(40)
IMAGES = next(FEW.batches(20)).images


class Plain(nn.Module):
    """A convolution, a batch norm and a linear layer."""

    def __init__(self, seed=0):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.conv, self.norm = nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6)
            self.fc = nn.Linear(6, 10)
            self.norm.running_mean.uniform_(-0.1, 0.1)

    def features(self, images):
        return self.norm(self.conv(images)).relu()

    def forward(self, images):
        return self.fc(self.features(images).mean((2, 3)))


class Remembering(Plain):
    def features(self, images):
        self.kept = super().features(images)
        return self.kept


class Rows(Plain):
    """As most tutorials write it: maps as rows by a view, which channels-last maps do not have."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6 * 64, 10)

    def forward(self, images):
        return self.fc(self.features(images).view(len(images), -1))


class Deep(Plain):
    """A convolution in three dimensions among those in two."""

    def __init__(self):
        super().__init__()
        self.conv3d = nn.Conv3d(1, 1, 3, padding=1)

    def features(self, images):
        return super().features(self.conv3d(images[:, None])[:, 0])


class Signal(Plain):
    """In one dimension: rows of pixels as channels."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv1d(8, 6, 3, padding=1), nn.BatchNorm1d(6)

    def forward(self, images):
        return self.fc(self.features(images.flatten(1, 2)).mean(2))


class Casting(Plain):
    def forward(self, images):
        return super().forward(images.float())


class Giving(Plain):
    """Its logits in another form."""

    def __init__(self, form):
        super().__init__()
        self.form = form

    def forward(self, images):
        return self.form(super().forward(images))


def pruned():
    network = Plain()
    prune.l1_unstructured(network.conv, "weight", 0.3)
    return network


def used(network):
    """After a pass with gradients, as in a notebook: what the network keeps of it has their history."""
    network.eval()(IMAGES)
    return network.train()


def spectrally_normed():
    network = Plain()
    nn.utils.spectral_norm(network.conv)
    return network


def weight_normed():
    network = Plain()
    parametrizations.weight_norm(network.conv)
    return network


NETWORKS = {
    "keeps a map": lambda: used(Remembering()),
    "pruned": lambda: used(pruned()),
    "spectral norm": lambda: used(spectrally_normed()),
    "weight norm": weight_normed,
    "views": Rows,
    "Conv3d": Deep,
    "Conv1d": Signal,
    "casts": Casting,
    "key": lambda: Giving(lambda logits: {"logits": logits, "loss": None}),
    "attribute": lambda: Giving(lambda logits: SimpleNamespace(logits=logits)),
    "named tuple": lambda: Giving(lambda logits: GIVES(logits, None)),
    "DataParallel": lambda: nn.DataParallel(Plain()),
    "bfloat16": lambda: Plain().bfloat16(),
    "float64": lambda: Plain().double(),
}


def quick(model, **options):
    return fit(model, FEW, epochs=1, batch_size=20, progress=False, device="cpu", **options)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_it_is_trained(kind, precision):
    network = NETWORKS[kind]()
    before = [weight.detach().clone() for weight in network.parameters()]
    strides = [weight.stride() for weight in network.parameters()]
    record = quick(network, test=DATA.test.balanced(20), precision=precision)
    assert 0 <= record.final["accuracy"] <= 1
    assert not any(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True) if a.ndim > 1)
    assert [weight.stride() for weight in network.parameters()] == strides


@pytest.mark.parametrize("kind", NETWORKS)
def test_whether_it_pays_to_compile_it_is_found_out_without_a_copy(kind, monkeypatch):
    """In a long run only, so that a crash came after hours."""
    monkeypatch.setattr(accelerate, "_has_compiler", lambda: True)
    network = NETWORKS[kind]()
    network.train()
    objective = Distiller(network, None, [HardLabels()])
    state = copy.deepcopy(network.state_dict())
    assert pays_to_compile(objective, IMAGES, 10**12)
    assert network.training
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


def test_a_pruned_network_has_the_operations_of_its_twin():
    count = [step_flops(Distiller(made(), None, [HardLabels()]), IMAGES) for made in (Plain, pruned)]
    assert count[0] == count[1] > 0


def test_what_cannot_be_counted_is_not_compiled():
    class Refusing(Plain):
        def forward(self, images):
            assert len(images) > 1, "batches only"
            return super().forward(images)

    assert not pays_to_compile(Distiller(Plain(1), Refusing(), [SoftTargets()]), IMAGES, 10**12)


def script_frozen():
    return torch.jit.freeze(torch.jit.script(Plain().eval()))


def program():
    return torch.export.export(
        Plain().eval(), (IMAGES[:2],), dynamic_shapes=({0: torch.export.Dim("batch")},)
    )


def array():
    """Answers in arrays of NumPy, as a session of ONNX Runtime gives them."""
    network = Plain().eval()
    return lambda images: network(images).detach().numpy()


# How near the answers are to those of `Plain`, which all of these are.
TEACHERS = {
    **{kind: (NETWORKS[kind], 1e-5) for kind in ("key", "attribute", "casts", "keeps a map", "DataParallel")},
    "bfloat16": (NETWORKS["bfloat16"], 0.03),
    "float16": (lambda: Plain().half(), 0.01),
    "float64": (NETWORKS["float64"], 1e-5),
    "TorchScript": (lambda: torch.jit.script(Plain()), 1e-5),
    "traced": (lambda: torch.jit.trace(Plain().eval(), IMAGES), 1e-5),
    "frozen TorchScript": (script_frozen, 1e-5),
    "torch.export": (program, 1e-5),
    "its module": (lambda: program().module(), 1e-5),
    "function": (lambda: Plain().eval().forward, 1e-5),
    "arrays": (array, 1e-5),
    "without gradients": (lambda: Plain().requires_grad_(False), 1e-5),
}


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("kind", TEACHERS)
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning", "ignore:`torch.jit:FutureWarning")
def test_it_teaches_what_it_answers(kind, precision):
    make, bound = TEACHERS[kind]
    distiller = Distiller(create_model("convnet", 10, in_channels=1, width=2), make(), [SoftTargets()])
    with torch.no_grad():
        expected = Plain().eval()(IMAGES)
    torch.testing.assert_close(distiller.teach(IMAGES).float(), expected, rtol=bound, atol=bound)
    record = quick(distiller, test=DATA.test.balanced(20), precision=precision)
    assert 0 <= record.final["agreement"] <= 1
    # What comes after the training is what came before it.
    torch.testing.assert_close(distiller.teach(IMAGES).float(), expected, rtol=bound, atol=bound)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_quantised_teacher_teaches(precision, tmp_path):
    """Its layers know float32 alone, and its state holds more than tensors."""
    teacher = torch.ao.quantization.quantize_dynamic(Plain().eval(), {nn.Linear}, dtype=torch.qint8)
    distiller = Distiller(Plain(1), teacher, [SoftTargets()])
    expected = Plain().eval()(IMAGES).detach()
    assert (distiller.teach(IMAGES) - expected).abs().max() < 0.05 * expected.abs().max()
    quick(distiller, precision=precision, checkpoint=tmp_path / "run.safetensors")


@pytest.mark.parametrize("control", [lambda teacher: NoisyTeacher(teacher, 0.0), ShuffledTeacher])
def test_controls_take_functions_too(control):
    network = Plain().eval()
    teacher = control(network.forward)
    quick(Distiller(Plain(1), teacher, [SoftTargets()]))
    assert sorted(teacher(IMAGES).sum(1).tolist()) == pytest.approx(sorted(network(IMAGES).sum(1).tolist()))


def test_functions_are_evaluated_too():
    network = Plain().eval()
    torch.testing.assert_close(
        predict(network.forward, FEW, device="cpu"), predict(network, FEW, device="cpu")
    )
    found = evaluate(network.forward, FEW, teacher=lambda images: network(images), device="cpu")
    assert found["agreement"] == 1


def test_records_name_functions_and_not_wrappers():
    record = quick(Distiller(nn.DataParallel(Plain(1)), Plain().eval().forward, [SoftTargets()]))
    assert record.settings["student"] == "Plain, 142 weights"
    assert record.settings["teacher"] == "function Plain.forward"


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("weights.pt", "the teacher is a str; give a network"),
        ({"conv.weight": torch.zeros(1)}, "the teacher is a dict; give a network"),
        (Plain, "the teacher is the class Plain; give a network"),
    ],
)
def test_what_cannot_teach(model, message):
    with pytest.raises(ValueError, match=message):
        Distiller(Plain(1), model, [SoftTargets()])


TUPLE = r"Giving answers with a tuple and not with logits; have its forward return .*images\)\[0\]"
DICT = r"Giving answers with a dict with the keys 'out' and not with logits"


@pytest.mark.parametrize(
    ("form", "message"), [(lambda z: (z, None), TUPLE), (lambda z: {"out": z}, DICT)], ids=["tuple", "dict"]
)
def test_answers_without_logits_are_refused_wherever_they_are_asked_for(form, message):
    network = Giving(form)
    for attempt in (
        lambda: quick(network),
        lambda: quick(Distiller(Plain(1), network, [SoftTargets()])),
        lambda: predict(network, FEW, device="cpu"),
        lambda: evaluate(network, FEW, device="cpu"),
    ):
        with pytest.raises(ValueError, match=message):
            attempt()


def test_a_network_that_cannot_be_channels_last_trains_as_it_is():
    """And one that can is, in the meantime."""
    for network, is_kept in ((Rows(), False), (Deep(), True)):
        before = {name: weight.stride() for name, weight in network.named_parameters()}
        with channels_last(Distiller(network, None, [HardLabels()]), IMAGES):
            assert (network.conv.weight.stride() != before["conv.weight"]) == is_kept
            network(IMAGES)
        assert {name: weight.stride() for name, weight in network.named_parameters()} == before


def test_weights_that_are_not_trained_are_weights_too(monkeypatch, tmp_path):
    monkeypatch.setattr("kdlib.training.precision._WORTH_CASTING", 200)
    monkeypatch.setattr("kdlib.training.precision.has_bfloat16", lambda _device: True)
    student, teacher = Plain(1), Plain()
    checkpoint = tmp_path / "run.safetensors"
    first = quick(Distiller(student, teacher, [SoftTargets()]), checkpoint=checkpoint)
    teacher.requires_grad_(False)
    again = quick(Distiller(student, teacher, [SoftTargets()]), checkpoint=checkpoint)
    for record in (first, again):
        assert record.settings["teacher"] == "Plain, 142 weights"
        assert record.settings["precision"] == "bf16-mixed", "142 and 142 are more than 200"
    student.conv.requires_grad_(False)
    assert quick(student).settings["student"] == "Plain, 142 weights, 82 of them trained"


@pytest.mark.parametrize("held", [True, False])
def test_a_batch_norm_in_evaluation_mode_keeps_its_statistics(held):
    """And one whose weights are not trained does not: so are heads trained on pretrained networks here."""
    network = Plain()
    network.norm.requires_grad_(False)
    if held:
        network.norm.eval()
    evaluate(network, FEW, device="cpu")  # puts the norm back as it was
    assert network.training
    assert network.norm.training != held
    before = network.norm.running_mean.clone()
    fit(network, FEW, test=FEW, epochs=2, batch_size=20, progress=False, device="cpu")
    assert torch.equal(before, network.norm.running_mean) == held


def test_a_trained_part_of_a_new_network_is_trained_with_it():
    """It comes in evaluation mode, which nobody asked for."""
    backbone = Plain().eval()
    quick(nn.Sequential(backbone, nn.Linear(10, 10)))
    assert int(backbone.norm.num_batches_tracked) == 2
