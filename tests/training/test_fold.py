"""The folded copy of a teacher: the teacher's answers and its paths, and nothing of the teacher changed."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from kdlib.models import NoisyTeacher, ShuffledTeacher, create_model, tap
from kdlib.training.accelerate import fold

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
    folded = fold(teacher, images)
    assert difference(folded(others), expected) < 1e-5
    assert batch_norms(folded) < batch_norms(teacher)


def test_the_teacher_stays_as_it_was(teacher: nn.Module, images: Tensor) -> None:
    teacher.train()
    before = copy.deepcopy(teacher.state_dict())
    folded = fold(teacher, images)
    assert teacher.training
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert all(weight.requires_grad for weight in teacher.parameters())
    assert not folded.training
    assert not any(weight.requires_grad for weight in folded.parameters())
    assert not {weight.data_ptr() for weight in folded.parameters()} & {
        weight.data_ptr() for weight in teacher.parameters()
    }


def test_paths_and_what_is_tapped_there_stay(teacher: nn.Module, images: Tensor) -> None:
    paths = ["layer1", "layer2.0.relu:input", "layer2.0.conv1", "layer3.0.bn1:input", "layer3.1.bn1"]
    folded = fold(teacher, images, tapped=paths)
    assert [name for name, _ in folded.named_modules()] == [name for name, _ in teacher.named_modules()]
    with tap(teacher, paths) as expected:
        teacher(images)
    with tap(folded, paths) as actual:
        folded(images)
    for path in paths:
        assert difference(actual[path], expected[path]) < 1e-5, path
    assert batch_norms(folded) == 3


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
    folded = fold(teacher, images)
    assert isinstance(folded.bn1, nn.BatchNorm2d)
    assert isinstance(folded.bn2, nn.BatchNorm2d)
    assert isinstance(folded.bn3, nn.Identity)
    assert difference(folded(images), teacher(images)) < 1e-5


def test_folding_that_changes_the_answers_is_left_out(images: Tensor) -> None:
    class Reading(nn.Module):
        """Its answers depend on the convolution's weights as they are without the batch norm."""

        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> Tensor:
            return self.bn1(self.conv1(x)).mean(dim=(2, 3)) * self.conv1.weight.square().sum()

    assert batch_norms(fold(trained(Reading()), images)) == 1


@pytest.mark.parametrize("control", [ShuffledTeacher, lambda teacher: NoisyTeacher(teacher, std=1.0)])
def test_a_control_teacher_draws_the_same_random_numbers(
    teacher: nn.Module, images: Tensor, control: type[ShuffledTeacher]
) -> None:
    controlled = control(teacher)
    folded = fold(controlled, images)
    assert batch_norms(folded) == 0
    for _ in range(2):
        assert difference(folded(images), controlled(images)) < 1e-5


class Rows(nn.Module):
    """Maps as rows by a view, which channels-last maps do not have."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Linear(1024, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.bn1(self.conv1(x)).view(len(x), -1))


class Volumes(Rows):
    def __init__(self) -> None:
        super().__init__()
        self.conv3d, self.bn3d = nn.Conv3d(1, 1, 3, padding=1), nn.BatchNorm3d(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.bn1(self.conv1(self.bn3d(self.conv3d(x[:, None]))[:, 0])).flatten(1))


@pytest.mark.parametrize("kind", [Rows, Volumes])
def test_a_step_that_fails_is_left_out_and_the_others_are_not(kind: type[Rows], images: Tensor) -> None:
    teacher = trained(kind())
    folded = fold(teacher, images)
    assert folded is not teacher
    assert difference(folded(images), teacher(images)) < 1e-4
    assert batch_norms(folded) == 0
    is_channels_last = folded.conv1.weight.is_contiguous(memory_format=torch.channels_last)
    assert is_channels_last == (kind is not Rows)


def test_what_cannot_be_copied_is_used_itself_and_left_as_it_is(images: Tensor) -> None:
    teacher = trained(Rows())
    prune.l1_unstructured(teacher.conv1, "weight", 0.5)
    teacher(images)
    teacher.train()
    before = copy.deepcopy(teacher.state_dict())
    assert fold(teacher, images) is teacher
    assert teacher.training
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert all(weight.requires_grad for weight in teacher.parameters())
