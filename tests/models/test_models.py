"""Networks by name: shapes, sizes known from the literature, seeds, and names that do not exist."""

import pytest
import torch
from torch import nn

from kdlib.models import ShuffledTeacher, count_parameters, create_model, list_models


@pytest.mark.parametrize("name", ["convnet", "resnet8", "resnet20"])
@pytest.mark.parametrize(("channels", "size"), [(1, 8), (3, 32), (3, 17)])
def test_logits_have_one_column_per_class(name, channels, size):
    model = create_model(name, 7, in_channels=channels)
    assert model(torch.randn(2, channels, size, size)).shape == (2, 7)


@pytest.mark.parametrize(
    ("name", "millions"),
    [("resnet20", 0.27), ("resnet32", 0.46), ("resnet44", 0.66), ("resnet56", 0.85), ("resnet110", 1.7)],
)
def test_cifar_resnets_have_the_size_of_the_paper(name, millions):
    """He et al. 2016, table 6."""
    digits = 1 if name == "resnet110" else 2
    assert round(count_parameters(create_model(name, 10)) / 1e6, digits) == millions


@pytest.mark.parametrize("depth", [8, 14, 20, 32, 44, 56, 110])
def test_depth_counts_the_layers_with_weights(depth):
    layers = [m for m in create_model(f"resnet{depth}", 10).modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) == depth


def test_cifar_resnet_halves_the_picture_twice():
    model = create_model("resnet8", 10)
    shapes = []
    for stage in (model.layer1, model.layer2, model.layer3):
        stage.register_forward_hook(lambda _module, _inputs, output: shapes.append(tuple(output.shape[1:])))
    model(torch.randn(1, 3, 32, 32))
    assert shapes == [(16, 32, 32), (32, 16, 16), (64, 8, 8)]


def test_width_of_the_convnet():
    """3·3·1·w + 3·3·w·2w + 3·3·2w·4w weights, two for each of 7w channels in batch norm, and (4w + 1)·10."""
    for w in (1, 4, 32):
        expected = 9 * w + 18 * w**2 + 72 * w**2 + 14 * w + 10 * (4 * w + 1)
        assert count_parameters(create_model("convnet", 10, in_channels=1, width=w)) == expected


def test_one_seed_one_network_and_the_global_generator_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, again, other = (create_model("convnet", 10, seed=seed) for seed in (0, 0, 1))
    assert torch.rand(1) == expected
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(next(first.parameters()), next(other.parameters()))


def test_without_a_seed_networks_differ():
    assert not torch.equal(
        next(create_model("convnet", 10).parameters()), next(create_model("convnet", 10).parameters())
    )


def test_shuffled_teacher_hands_out_the_same_answers_to_other_images():
    teacher = create_model("convnet", 10, in_channels=1, seed=0).eval()
    images = torch.randn(50, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    shuffled, again = ShuffledTeacher(teacher, seed=3), ShuffledTeacher(teacher, seed=3)
    answers, original = shuffled(images), teacher(images)
    assert torch.equal(answers.sort(dim=0).values, original.sort(dim=0).values)
    assert (answers == original).all(dim=1).sum() < 10
    assert torch.equal(answers, again(images))
    assert not torch.equal(answers, shuffled(images)), "every batch is shuffled anew"


def test_names_that_do_not_exist():
    with pytest.raises(ValueError, match=r"'resnet-20'; did you mean 'resnet20'\? There are: convnet"):
        create_model("resnet-20", 10)
    assert "resnet110" in list_models()


def test_options_that_do_not_fit():
    with pytest.raises(ValueError, match=r"num_classes is 1"):
        create_model("convnet", 1)
    with pytest.raises(ValueError, match=r"width is 0"):
        create_model("convnet", 10, width=0)
    with pytest.raises(ValueError, match=r"resnet20 does not take.*width"):
        create_model("resnet20", 10, width=4)
