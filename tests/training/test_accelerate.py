"""Acceleration: what is learnt stays the same within rounding, and everything is put back afterwards."""

import copy
import functools
import gc
import weakref

import pytest
import torch
from torch import nn

from kdlib import (
    Attention,
    Distiller,
    HardLabels,
    Hints,
    RKDAngle,
    SimilarityPreserving,
    SoftTargets,
    create_model,
    fit,
    load_data,
)
from kdlib.models import ShuffledTeacher
from kdlib.schemes import Mutual
from kdlib.training import accelerate
from kdlib.training.accelerate import (
    accelerated,
    compiled,
    fold,
    gains_by_compiling,
    pays_to_compile,
    retained_memory,
    step_flops,
    strided_depthwise_in_float32,
)

TERMS = [HardLabels(0.1), SoftTargets(0.9), Attention(1000.0, layers=["layer1", "layer3"])]


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(8, 3, 32, 32, generator=generator)
    return images, torch.randint(0, 10, (8,), generator=generator)


@pytest.fixture
def distiller(batch):
    student, teacher = (create_model("resnet8", 10, seed=seed) for seed in (1, 0))
    return Distiller(student, teacher, TERMS).connect(batch[0])


@pytest.fixture
def small():
    """A distiller that is compiled in a second, and a batch for it."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(8, 3, 8, 8, generator=generator)
    student, teacher = (create_model("convnet", 10, width=4, seed=seed) for seed in (1, 0))
    batch = images, torch.randint(0, 10, (8,), generator=generator)
    return Distiller(student, teacher, TERMS).connect(images), batch


def gradients(objective, batch, half=False):
    """The loss of a step, and the student's gradients by name."""
    objective.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        loss, _ = objective(*batch)
    loss.backward()
    return loss.item(), {name: weight.grad for name, weight in objective.named_parameters()}


def difference(ours, theirs):
    both = [torch.cat([weight.flatten() for weight in grads.values()]) for grads in (ours, theirs)]
    return float((both[0] - both[1]).norm() / both[1].norm())


@pytest.mark.parametrize(("precision", "bound"), [("32-true", 1e-4), ("bf16-mixed", 0.1)])
def test_loss_and_gradients_are_the_same_within_rounding(distiller, batch, precision, bound):
    plain, teacher = copy.deepcopy(distiller), distiller.teacher
    expected, slow = gradients(plain, batch)
    with accelerated(distiller, batch[0], steps=10):
        assert distiller.teacher is not teacher
        loss, quick = gradients(distiller, batch, half=precision != "32-true")
    assert loss == pytest.approx(expected, rel=bound)
    assert difference(quick, slow) < bound


def test_teacher_and_student_are_put_back(distiller, batch):
    teacher, student = distiller.teacher, distiller.student
    before = {whose: copy.deepcopy(network.state_dict()) for whose, network in enumerate((teacher, student))}
    with accelerated(distiller, batch[0], steps=10):
        assert distiller.student is student
        assert student.layer1[0].conv1.weight.is_contiguous(memory_format=torch.channels_last)
    assert distiller.teacher is teacher
    for whose, network in enumerate((teacher, student)):
        assert all(torch.equal(value, before[whose][name]) for name, value in network.state_dict().items())
        assert all(weight.is_contiguous() for weight in network.parameters())
    assert all(weight.grad is None for weight in teacher.parameters())


def test_a_network_without_a_teacher_takes_it_too(batch):
    objective = Distiller(create_model("resnet8", 10, seed=0), None, [HardLabels()])
    expected, _ = gradients(objective, batch)
    with accelerated(objective, batch[0], steps=1):
        assert gradients(objective, batch)[0] == pytest.approx(expected, rel=1e-4)


def test_a_control_teacher_shuffles_as_it_would_have(batch):
    student, teacher = (create_model("resnet8", 10, seed=seed) for seed in (1, 0))
    plain = Distiller(student, ShuffledTeacher(teacher, seed=3), [SoftTargets(1.0)]).connect(batch[0])
    quick = copy.deepcopy(plain)
    with accelerated(quick, batch[0], steps=1):
        assert gradients(quick, batch)[0] == pytest.approx(gradients(plain, batch)[0], rel=1e-4)


def test_strided_depthwise_convolutions_compute_in_float32_under_autocast():
    strided = nn.Conv2d(4, 4, 3, stride=2, groups=4)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), strided, nn.Conv2d(4, 4, 3, groups=4))
    images = torch.randn(2, 3, 9, 9)
    with torch.autocast("cpu", torch.bfloat16):
        first = model[0](images)
        with strided_depthwise_in_float32(model):
            assert type(model[0]) is type(model[2]) is nn.Conv2d
            outputs = model[1](first)
    expected = nn.functional.conv2d(first.float(), strided.weight, strided.bias, stride=2, groups=4)
    assert outputs.dtype == torch.bfloat16
    assert torch.equal(outputs, expected.bfloat16())
    assert type(strided) is nn.Conv2d


class Noting(nn.Module):
    """Notes what is there while it is trained and asked."""

    def __init__(self, network):
        super().__init__()
        self.network, self.seen = network, set()

    def forward(self, images):
        convolutions = [module for module in self.network.modules() if isinstance(module, nn.Conv2d)]
        strides = (module.weight.stride() for module in convolutions)
        self.seen.add((torch.get_num_threads(), *strides, *map(type, convolutions)))
        return self.network(images)


@pytest.mark.parametrize("network", ["resnet8", "mobilenets_s"])
def test_without_acceleration_the_record_is_the_same_and_nothing_is_changed_meanwhile(network, monkeypatch):
    data = load_data("digits")

    def trained(**options):
        student, teacher = (
            Noting(create_model(name, 10, in_channels=1, seed=seed))
            for seed, name in enumerate((network, "resnet8"))
        )
        record = fit(
            Distiller(student, teacher, [HardLabels(0.1), SoftTargets(0.9)]),
            data.train.balanced(64), test=data.test.balanced(40), epochs=2, batch_size=16, learning_rate=0.01,
            precision="32-true", device="cpu", progress=False, **options,
        )  # fmt: skip
        return record, student.seen, teacher.seen

    expected, *accelerated_seen = trained()
    assert all(len(seen) > 1 for seen in accelerated_seen[:1]), "as it was before, and channels-last"

    def refuse(*_):
        raise AssertionError("the process is changed")

    monkeypatch.setattr(torch, "set_num_threads", refuse)
    monkeypatch.setattr("ctypes.CDLL", refuse)
    monkeypatch.setattr(torch, "compile", refuse)
    monkeypatch.setattr(accelerate, "_LEAST_FLOPS", {"cpu": 0.0})
    monkeypatch.setattr(accelerate, "_LEAST_STEPS", 0)
    record, *seen = trained(accelerate=False)
    assert [len(found) for found in seen] == [1, 1]
    assert record.settings == expected.settings
    for name, curve in expected.epochs.items():
        assert record.epochs[name] == pytest.approx(curve, rel=1e-2, abs=1e-2), name
    assert record.final == pytest.approx(expected.final, rel=1e-2, abs=1e-2)


def test_memory_is_kept_and_given_back_also_after_an_error():
    with pytest.raises(KeyError), retained_memory():
        {}[torch.zeros(1 << 20).sum()]
    assert torch.zeros(1 << 20).sum() == 0


# PyTorch's compiler asks for the gradients of what it is given, and hides the warning only where it is shown.
HIDDEN = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")


@pytest.fixture
def compiler(monkeypatch):
    """Compiles with everything but code generation, and counts the graphs."""
    from torch._dynamo.testing import CompileCounterWithBackend

    torch.compiler.reset()
    counter = CompileCounterWithBackend("aot_eager")
    real = torch.compile
    # With the signature of the real one, which is looked at.
    counting = functools.wraps(real)(functools.partial(real, backend=counter))
    monkeypatch.setattr(torch, "compile", counting)
    yield counter
    torch.compiler.reset()


@HIDDEN
def test_full_batches_are_compiled_and_others_are_not(small, compiler):
    distiller, batch = small
    plain = copy.deepcopy(distiller)
    part = tuple(value[:3] for value in batch)
    with compiled(distiller, batch[0]):
        for _ in range(2):
            for some in (batch, part):
                loss, quick = gradients(distiller, some)
                expected, slow = gradients(plain, some)
                assert loss == pytest.approx(expected, rel=1e-4)
                assert difference(quick, slow) < 1e-4
            distiller.student.eval()
            distiller.student(batch[0])
            distiller.train()
    assert compiler.frame_count == 3, "student, teacher and the term on layers, once each"
    assert all(module._compiled_call_impl is None for module in distiller.modules())
    assert not distiller._forward_hooks
    assert not distiller._forward_pre_hooks


@HIDDEN
def test_networks_of_one_kind_with_and_without_taps_are_not_confused(small, compiler):
    distiller, batch = small
    untapped = Distiller(copy.deepcopy(distiller.student), distiller.teacher, [SoftTargets(1.0)])
    untapped.connect(batch[0])
    for objective in (untapped, distiller):
        with compiled(objective, batch[0]):
            _, terms = objective(*batch)
    assert terms["attention"] > 0
    assert compiler.frame_count == 5


@HIDDEN
def test_a_run_beyond_the_versions_that_pytorch_keeps_is_compiled_too(small, compiler):
    """PyTorch keeps eight versions of a function, here two, and each run needs one for its own teacher."""
    distiller, batch = small
    with torch._dynamo.config.patch(recompile_limit=2):
        for number in range(1, 4):
            with compiled(distiller, batch[0]):
                distiller(*batch)
            assert compiler.frame_count == 3 * number


@HIDDEN
def test_what_a_user_has_compiled_stays_and_what_was_compiled_here_goes(small, compiler):
    distiller, batch = small
    own = torch.compile(create_model("convnet", 10, width=6, seed=2), dynamic=False)
    own(batch[0])
    another = copy.deepcopy(distiller)
    with compiled(another, batch[0]):
        another(*batch)
    before = compiler.frame_count
    own(batch[0])
    assert compiler.frame_count == before == 4
    student = weakref.ref(another.student)
    del another
    gc.collect()
    assert student() is None


@HIDDEN
def test_both_students_of_a_pair_are_compiled(small, compiler):
    batch = small[1]
    networks = [create_model("convnet", 10, width=width, seed=0) for width in (4, 6)]
    pair = Mutual(networks[0], networks[1], TERMS[:2])
    with compiled(pair, batch[0]):
        pair(*batch)
    assert compiler.frame_count == 2
    alone = [step_flops(Distiller(network, None, [HardLabels()]), batch[0]) for network in networks]
    assert step_flops(pair, batch[0]) == sum(alone)


def test_terms_on_maps_gain_by_compiling_and_others_do_not():
    assert gains_by_compiling(TERMS[2])
    assert gains_by_compiling(SimilarityPreserving(layers="layer3"))
    assert not any(map(gains_by_compiling, (HardLabels(), RKDAngle(), Hints(layers="layer1"))))


def test_operations_of_a_step_are_those_of_the_layers(batch):
    """8×8 outputs of 3·9 products for each of 4 channels, three times for the student."""
    images = batch[0][..., :8, :8]

    def network(seed):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    objective = Distiller(network(0), network(1), [SoftTargets(1.0)])
    assert step_flops(objective, images) == len(images) * (3 + 1) * 2 * 64 * 27 * 4


def test_compiling_pays_in_long_runs_only(distiller, batch, monkeypatch):
    """The more modules there are to compile, the longer."""
    networks = (distiller.student, distiller.teacher)
    modules = sum(len([part for part in one.modules() if not list(part.children())]) for one in networks)
    steps = 3e11 * modules / step_flops(distiller, batch[0])
    assert pays_to_compile(distiller, batch[0], int(1.01 * steps))
    assert not pays_to_compile(distiller, batch[0], int(0.99 * steps))
    monkeypatch.setitem(accelerate._LEAST_FLOPS, "cpu", 1e-9)
    assert not pays_to_compile(distiller, batch[0], 999)
    assert pays_to_compile(distiller, batch[0], 1000)


def test_without_a_compiler_a_long_run_says_so_and_goes_on(distiller, batch, monkeypatch):
    monkeypatch.setattr(accelerate, "_has_compiler", lambda: False)
    with (
        pytest.warns(UserWarning, match=r"no C\+\+ compiler was found.*install g\+\+"),
        accelerated(distiller, batch[0], steps=10**12),
    ):
        assert distiller(*batch)[0].isfinite()


def test_tapped_layers_are_not_folded(distiller, batch, monkeypatch):
    seen = {}
    monkeypatch.setattr(
        accelerate, "fold", lambda *args, **options: seen.update(options) or fold(*args, **options)
    )
    with accelerated(distiller, batch[0], steps=1):
        pass
    assert seen["tapped"] == {"layer1", "layer3"}
