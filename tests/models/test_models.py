"""Networks by name: shapes, sizes known from the literature, seeds, and names that do not exist."""

import numpy as np
import pytest
import torch
from torch import nn

from kdlib import losses
from kdlib.models import (
    MissingTeacher,
    NoisyTeacher,
    ShuffledTeacher,
    count_parameters,
    create_model,
    list_models,
    tap,
)
from kdlib.models.mobilenet import MobileNets, OverlappingGroupConv
from kdlib.models.resnet import CifarResNet
from kdlib.models.vgg import VGG
from kdlib.models.wide_resnet import WideResNet


@pytest.mark.parametrize("name", ["convnet", "resnet8", "resnet20", "resnet8x4", "wrn_16_1", "vgg8"])
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


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("resnet8x4", 1_233_540),
        ("resnet32x4", 7_433_860),
        ("wrn_40_2", 2_255_156),
        ("wrn_16_2", 703_284),
        ("wrn_40_1", 569_780),
        ("vgg8", 3_965_028),
        ("vgg13", 9_462_180),
    ],
)
def test_networks_of_the_distillation_literature_have_their_sizes(name, weights):
    """On 100 classes: 1.23, 7.43, 2.26, 0.70, 0.57, 3.97 and 9.46 million, as in RepDistiller."""
    assert count_parameters(create_model(name, 100)) == weights


def test_projection_shortcuts_are_an_option_of_the_narrow_resnets():
    """With them, ResNet-20 has what it has in RepDistiller on 100 classes."""
    padded, projected = create_model("resnet20", 100), create_model("resnet20", 100, shortcut="projection")
    assert count_parameters(projected) - count_parameters(padded) == 16 * 32 + 32 * 64 + 2 * (32 + 64)
    assert count_parameters(projected) == 278_324


@pytest.mark.parametrize("depth", [8, 14, 20, 32, 44, 56, 110])
def test_depth_counts_the_layers_with_weights(depth):
    layers = [m for m in create_model(f"resnet{depth}", 10).modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) == depth


@pytest.mark.parametrize(
    ("name", "layers"),
    [("resnet8x4", 8), ("resnet32x4", 32), ("wrn_40_2", 38), ("wrn_16_1", 14), ("vgg8", 6), ("vgg13", 11)],
)
def test_depths_as_their_families_count_them(name, layers):
    """Without shortcuts. Wide ResNets count 6n + 4 and have 6n + 2; VGG counts two linear layers it lost."""
    layers_with_weights = [
        path
        for path, module in create_model(name, 10).named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and "shortcut" not in path
    ]
    assert len(layers_with_weights) == layers


@pytest.mark.parametrize(
    ("name", "size", "shapes"),
    [
        ("resnet8", 32, [(16, 32, 32), (32, 16, 16), (64, 8, 8)]),
        ("resnet8x4", 32, [(64, 32, 32), (128, 16, 16), (256, 8, 8)]),
        ("wrn_16_2", 32, [(32, 32, 32), (64, 16, 16), (128, 8, 8)]),
        ("vgg8", 32, [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4), (512, 4, 4)]),
        ("mobilenets_s", 64, [(16, 32, 32), (24, 16, 16), (32, 8, 8), (64, 4, 4), (96, 4, 4), (160, 2, 2)]),
    ],
)
def test_stages_halve_the_picture(name, size, shapes):
    model = create_model(name, 10)
    with tap(model, [f"layer{i + 1}" for i in range(len(shapes))]) as maps:
        model(torch.randn(2, 3, size, size))
    assert [tuple(stage.shape[1:]) for stage in maps.values()] == shapes


def test_the_padding_shortcut_takes_every_second_pixel_and_pads_both_sides():
    block = create_model("resnet8", 10).layer2[0]
    x = torch.randn(2, 16, 6, 6)
    y = block.shortcut(x)
    assert y.shape == (2, 32, 3, 3)
    assert torch.equal(y[:, 8:24], x[:, :, ::2, ::2])
    assert not y[:, :8].any()
    assert not y[:, 24:].any()


def test_pre_activation_block_is_its_definition():
    """x + conv(relu(norm(conv(relu(norm(x)))))), where channels change with the activated x, projected."""
    stage = create_model("wrn_16_2", 10, seed=0).eval().layer1
    x = torch.randn(2, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    first, second = stage
    active = first.bn1(x).relu()
    y = first.shortcut(active) + first.conv2(first.bn2(first.conv1(active)).relu())
    assert second.shortcut is None
    y = y + second.conv2(second.bn2(second.conv1(second.bn1(y).relu())).relu())
    torch.testing.assert_close(stage(x), y)


def overlapping_groups(x: np.ndarray, weights: list[np.ndarray]) -> np.ndarray:
    """From the definition: the outputs of group k are weighted sums over quarters k and k + 1, cyclically."""
    n, channels, height, width = x.shape
    quarter = channels // 4
    outputs = []
    for k, weight in enumerate(weights):
        for row in weight:
            total = np.zeros((n, height, width))
            for i in range(quarter):
                total += row[i] * x[:, k * quarter + i]
                total += row[quarter + i] * x[:, (k + 1) % 4 * quarter + i]
            outputs.append(total)
    return np.stack(outputs, axis=1)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_overlapping_group_convolution_is_its_definition(memory_format):
    generator = torch.Generator().manual_seed(0)
    convolution = OverlappingGroupConv(12, 20).double()
    x = torch.randn(2, 12, 3, 5, generator=generator, dtype=torch.float64)
    weights = [group.weight.detach().numpy()[:, :, 0, 0] for group in convolution.groups]
    expected = torch.from_numpy(overlapping_groups(x.numpy(), weights))
    # Summands of size 1 may cancel, so the rounding of float64 shows as an absolute error.
    torch.testing.assert_close(
        convolution(x.to(memory_format=memory_format)), expected, rtol=1e-12, atol=1e-14
    )
    assert count_parameters(convolution) == 12 * 20 // 2


def test_each_group_sees_itself_and_its_neighbour():
    """Which output quarters move when one input quarter does: its own, and the one before."""
    convolution = OverlappingGroupConv(4, 8)
    for quarter in range(4):
        x = torch.zeros(1, 4, 1, 1)
        x[:, quarter] = 1
        moved = convolution(x).reshape(4, 2).abs().sum(dim=1) > 0
        assert set(moved.nonzero().flatten().tolist()) == {quarter, (quarter - 1) % 4}


@pytest.mark.parametrize(("size", "expansion"), [("s", 2), ("m", 4), ("l", 6)])
def test_mobilenets_differ_from_mobilenet_v2_by_half_of_each_expansion(size, expansion):
    """MobileNetV2 at that expansion, less half of its 1×1 expansions, plus the first block's 32 to 32."""
    from torchvision.models import MobileNetV2

    widths = ((16, 1, 1), (24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1))
    setting = [[expansion if c > 16 else 1, c, n, s] for c, n, s in widths]
    reference = count_parameters(MobileNetV2(101, inverted_residual_setting=setting))
    entering = [16, 24, 24, *[32] * 3, *[64] * 4, *[96] * 3, *[160] * 3]
    halves = sum(expansion * c * c // 2 for c in entering)
    model = create_model(f"mobilenets_{size}", 101)
    assert count_parameters(model) == reference - halves + 32 * 32 // 2 + 2 * 32
    assert not any(isinstance(module, nn.ReLU | nn.ReLU6) for module in model.modules())


def test_mobilenets_see_a_picture_of_224_at_7():
    model = create_model("mobilenets_m", 5, in_channels=1).eval()
    with tap(model, ["head"]) as maps, torch.no_grad():
        assert model(torch.randn(1, 1, 224, 224)).shape == (1, 5)
    assert maps["head"].shape == (1, 1280, 7, 7)


def test_width_of_the_convnet():
    """3·3·1·w + 3·3·w·2w + 3·3·2w·4w weights, two for each of 7w channels in batch norm, and (4w + 1)·10."""
    for w in (1, 4, 32):
        expected = 9 * w + 18 * w**2 + 72 * w**2 + 14 * w + 10 * (4 * w + 1)
        assert count_parameters(create_model("convnet", 10, in_channels=1, width=w)) == expected


@pytest.mark.parametrize("name", ["convnet", "resnet8x4", "wrn_16_1", "vgg8", "mobilenets_s", "resnet18"])
def test_one_seed_one_network_and_the_global_generator_is_left_alone(name):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, again, other = (create_model(name, 10, seed=seed) for seed in (0, 0, 1))
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


def test_noisy_teacher_adds_noise_of_the_given_size():
    teacher = create_model("convnet", 10, in_channels=1, seed=0).eval()
    images = torch.randn(500, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    noisy, again = NoisyTeacher(teacher, std=2.0, seed=3), NoisyTeacher(teacher, std=2.0, seed=3)
    noise = noisy(images) - teacher(images)
    assert abs(noise.mean()) < 0.1
    assert abs(noise.std() - 2) < 0.1
    torch.testing.assert_close(again(images) - teacher(images), noise)
    assert not torch.equal(noisy(images) - teacher(images), noise), "every batch is disturbed anew"
    assert torch.equal(NoisyTeacher(teacher, std=0.0)(images), teacher(images))


def test_missing_teacher_says_nothing_about_its_share_of_the_images():
    teacher = create_model("convnet", 10, in_channels=1, seed=0).eval()
    images = torch.randn(500, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    partly, again = MissingTeacher(teacher, 0.3, seed=3), MissingTeacher(teacher, 0.3, seed=3)
    answers, original = partly(images), teacher(images)
    missing = (answers == 0).all(dim=1)
    assert 0.2 < missing.float().mean() < 0.4
    assert torch.equal(answers[~missing], original[~missing])
    assert torch.equal(answers, again(images))
    assert not torch.equal(answers, partly(images)), "every batch misses others"
    assert (MissingTeacher(teacher)(images) == 0).all()
    assert torch.equal(MissingTeacher(teacher, 0.0)(images), original)


def test_taught_by_nobody_is_label_smoothing():
    """Cross-entropy and KL to the uniform distribution have the gradient of smoothed labels."""
    teacher = create_model("convnet", 10, in_channels=1, seed=0).eval()
    images = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(8)
    logits = torch.randn(8, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    logits.requires_grad_()
    nobody = MissingTeacher(teacher)(images).double()
    hard = torch.nn.functional.cross_entropy(logits, labels)
    kl = losses.soft_target_loss(logits, nobody, temperature=1)
    (taught,) = torch.autograd.grad(0.9 * hard + 0.1 * kl, logits)
    smoothed = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.1)
    torch.testing.assert_close(taught, torch.autograd.grad(smoothed, logits)[0])


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_that_is_none(share):
    with pytest.raises(ValueError, match=r"share is .*; give a number from 0 to 1"):
        MissingTeacher(create_model("convnet", 10), share)


@pytest.mark.parametrize("std", [-1.0, float("nan"), float("inf")])
def test_noise_that_is_none(std):
    with pytest.raises(ValueError, match=r"std is .*; give a finite number, 0 or more"):
        NoisyTeacher(nn.Identity(), std)


def test_names_that_do_not_exist():
    with pytest.raises(ValueError, match=r"'resnet-20'; did you mean 'resnet20'\? There are: convnet"):
        create_model("resnet-20", 10)
    assert {"resnet110", "resnet32x4", "wrn_40_2", "vgg13", "mobilenets_m", "resnet50"} <= set(list_models())


def test_options_that_do_not_fit():
    with pytest.raises(ValueError, match=r"num_classes is 1"):
        create_model("convnet", 1)
    with pytest.raises(ValueError, match=r"width is 0"):
        create_model("convnet", 10, width=0)
    with pytest.raises(ValueError, match=r"resnet20 does not take.*width"):
        create_model("resnet20", 10, width=4)
    with pytest.raises(ValueError, match=r"in_channels is 0"):
        create_model("resnet20", 10, in_channels=0)
    with pytest.raises(ValueError, match=r"shortcut is 'none'; choose 'pad' or 'projection'"):
        create_model("resnet20", 10, shortcut="none")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: CifarResNet(9, 10), r"depth is 9; a CIFAR ResNet has 6n \+ 2 layers"),
        (lambda: WideResNet(20, 2, 10), r"depth is 20; a wide ResNet has 6n \+ 4 layers"),
        (lambda: WideResNet(16, 0, 10), r"widen_factor is 0"),
        (lambda: VGG(16, 10), r"depth is 16; choose one of 8, 13"),
        (lambda: MobileNets(0, 10), r"expansion is 0"),
        (lambda: OverlappingGroupConv(6, 8), r"6 channels to 8 cannot be cut into four groups"),
    ],
)
def test_shapes_that_no_network_has(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_weights_that_are_not_trained_are_counted():
    model = create_model("convnet", 10, in_channels=1, width=4)
    weights = count_parameters(model)
    assert count_parameters(model.requires_grad_(False)) == weights
