"""The frozen copy: the teacher's answers and its paths, and nothing of the teacher changed."""

import copy

import pytest
import torch
from torch import Tensor, nn

from kdlib.models import NoisyTeacher, ShuffledTeacher, create_model, tap
from kdlib.models.frozen import BOUNDS, convert, fold_batch_norm, freeze, pack_weights

MODELS = [
    "resnet20",
    "wrn_16_2",
    "vgg8",
    "convnet",
    "mobilenets_s",
    "resnet18",
    "mobilenet_v2",
    "densenet121",
]


def trained(model: nn.Module, size: int = 16) -> nn.Module:
    """Statistics and weights as after some training: folding with those of a new network changes little."""
    model.train()
    with torch.no_grad():
        for _ in range(5):
            model(1.3 * torch.randn(8, 3, size, size) + 0.3)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and module.affine:
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
    return model.eval()


def batch_norms(model: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


def difference(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).detach().abs().max() / theirs.detach().abs().max())


@pytest.fixture
def images() -> Tensor:
    return torch.randn(4, 3, 16, 16)


@pytest.fixture
def teacher() -> nn.Module:
    return trained(create_model("resnet20", 10, seed=0))


@pytest.mark.parametrize("name", MODELS)
def test_answers_are_the_teachers_within_rounding(name: str) -> None:
    size = 32 if name == "densenet121" else 16  # the least that it takes
    images, others = torch.randn(4, 3, size, size), torch.randn(6, 3, size, size)
    teacher = trained(create_model(name, 10, seed=0), size)
    expected = teacher(others)
    frozen = freeze(teacher, images)
    assert difference(frozen(others), expected) < 1e-5
    assert batch_norms(frozen) < batch_norms(teacher)
    half = freeze(teacher, images, torch.bfloat16)
    assert {weight.dtype for weight in half.parameters()} == {torch.bfloat16}
    assert half(others).dtype == torch.float32
    assert 0 < difference(half(others), expected) < BOUNDS[torch.bfloat16]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_teacher_stays_as_it_was(teacher: nn.Module, images: Tensor, dtype: torch.dtype) -> None:
    teacher.train()
    before = copy.deepcopy(teacher.state_dict())
    frozen = freeze(teacher, images, dtype)
    assert teacher.training
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert all(weight.requires_grad for weight in teacher.parameters())
    assert not frozen.training
    assert not any(weight.requires_grad for weight in frozen.parameters())
    assert not {weight.data_ptr() for weight in frozen.parameters()} & {
        weight.data_ptr() for weight in teacher.parameters()
    }


def test_paths_and_what_is_tapped_there_stay(teacher: nn.Module, images: Tensor) -> None:
    paths = ["layer1", "layer2.0.relu:input", "layer2.0.conv1", "layer3.0.bn1:input", "layer3.1.bn1"]
    frozen = freeze(teacher, images, tapped=paths)
    assert [name for name, _ in frozen.named_modules()] == [name for name, _ in teacher.named_modules()]
    with tap(teacher, paths) as expected:
        teacher(images)
    with tap(frozen, paths) as actual:
        frozen(images)
    for path in paths:
        assert difference(actual[path], expected[path]) < 1e-5, path
    assert batch_norms(frozen) == 3


class SharedOutput(nn.Module):
    """A convolution whose output enters a batch norm and a shortcut; another that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 3, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(3)
        self.conv2 = nn.Conv2d(3, 3, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(3)
        self.conv3 = nn.Conv2d(3, 5, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(5, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        x = x + self.bn1(x)
        x = self.bn2(self.conv2(self.conv2(x)))
        return self.bn3(self.conv3(x)).mean(dim=(2, 3))


def test_what_something_else_reads_too_is_not_folded(images: Tensor) -> None:
    teacher = trained(SharedOutput())
    frozen = freeze(teacher, images)
    assert isinstance(frozen.bn1, nn.BatchNorm2d)
    assert isinstance(frozen.bn2, nn.BatchNorm2d)
    assert isinstance(frozen.bn3, nn.Identity)
    assert difference(frozen(images), teacher(images)) < 1e-5


def test_a_step_that_changes_the_answers_is_left_out(images: Tensor) -> None:
    class Cancelling(nn.Module):
        """A small difference of large numbers, which bfloat16 does not have."""

        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return (self.conv1(x) + 1000.0 - 1000.0).mean(dim=(2, 3))

    frozen = freeze(Cancelling().eval(), images, torch.bfloat16)
    assert {weight.dtype for weight in frozen.parameters()} == {torch.float32}


@pytest.mark.parametrize("control", [ShuffledTeacher, lambda teacher: NoisyTeacher(teacher, std=1.0)])
def test_a_control_teacher_draws_the_same_random_numbers(
    teacher: nn.Module, images: Tensor, control: type[ShuffledTeacher]
) -> None:
    controlled = control(teacher)
    frozen = freeze(controlled, images)
    assert batch_norms(frozen) == 0
    for _ in range(2):
        assert difference(frozen(images), controlled(images)) < 1e-5


def test_packed_weights_give_the_same_bits(teacher: nn.Module, images: Tensor) -> None:
    frozen = convert(fold_batch_norm(teacher, images), torch.bfloat16).to(memory_format=torch.channels_last)
    with torch.no_grad():
        expected = [frozen(batch) for batch in (images, images[:3])]
        packed = pack_weights(frozen)
        assert not any(type(module) is nn.Conv2d for module in packed.modules()) or (
            not torch.ops.mkldnn._is_mkldnn_bf16_supported()
        )
        for batch, answer in zip((images, images[:3]), expected, strict=True):
            assert torch.equal(packed(batch), answer)
        with tap(packed, ["layer1.0.conv1"]) as maps:
            packed(images)
    assert maps["layer1.0.conv1"].shape == (4, 16, 16, 16)
