"""Tokens (N, L, D), as vision transformers have them, and vectors (N, D), in the place of maps."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdlib import Distiller, create_model, fit, load_data, losses, tap
from kdlib.losses.maps import aligned
from kdlib.models.connectors import Regressor, VIDRegressor
from kdlib.terms import (
    CRD,
    NST,
    OFD,
    PKT,
    VID,
    Attention,
    CorrelationCongruence,
    HardLabels,
    Hints,
    Review,
    RKDAngle,
    RKDDistance,
    SimilarityPreserving,
)

timm = pytest.importorskip("timm")

IMAGES = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
BATCH = (IMAGES, torch.tensor([0, 1, 2, 3]), torch.arange(4))


def vit(width=24, seed=0, name="vit_tiny_patch16_224", **options):
    torch.manual_seed(seed)
    options = {"img_size": 32, "patch_size": 8, "num_classes": 4, "depth": 2, "embed_dim": width} | options
    return timm.create_model(name, num_heads=2, **options)


def convnet(name="resnet8", seed=0):
    return create_model(name, 4, seed=seed)


def outputs(network, path):
    with tap(network, [path], copy=True) as maps:
        network(IMAGES)
    return maps[path].detach()


def connected(student, teacher, term):
    """The term once it is connected, its value, and what both layers give out."""
    distiller = Distiller(student, teacher, [term]).connect(IMAGES[:2], train_labels=BATCH[1])
    _, values = distiller(*BATCH)
    ((ours, theirs),) = term.pairs
    return distiller.terms[0], values[term.name], outputs(student, ours), outputs(teacher, theirs)


def random(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


# Tokens, the other network's maps, how many tokens are no patches, and the grid of the others.
GRIDS = [
    (16, (8, 8), 0, (4, 4)), (17, (8, 8), 1, (4, 4)), (18, (2, 2), 2, (4, 4)), (197, (7, 7), 1, (14, 14)),
    (24, (8, 12), 0, (4, 6)), (25, (2, 3), 1, (4, 6)), (26, (4, 6), 2, (4, 6)), (3, (2, 1), 1, (2, 1)),
    (2, (1, 1), 1, (1, 1)),
]  # fmt: skip


@pytest.mark.parametrize(("length", "size", "front", "grid"), GRIDS)
def test_tokens_beside_maps_are_laid_out_row_by_row(length, size, front, grid):
    tokens, maps = random(2, length, 5), random(2, 3, *size)
    laid_out, same = aligned(tokens, maps)
    assert same is maps
    assert laid_out.shape == (2, 5, *grid)
    for row in range(grid[0]):
        for column in range(grid[1]):
            place = front + row * grid[1] + column
            assert torch.equal(laid_out[:, :, row, column], tokens[:, place])
    assert torch.equal(aligned(maps, tokens)[1], laid_out)


@pytest.mark.parametrize("p", [2.0, 3.0])
def test_attention_of_tokens_is_over_the_tokens(p):
    s, t = random(2, 6, 5), random(2, 6, 7)

    def attention(tokens):
        energies = torch.stack([sum(tokens[:, :, d].abs() ** p for d in range(tokens.shape[2]))])[0]
        return energies / energies.square().sum(dim=1, keepdim=True).sqrt()

    torch.testing.assert_close(losses.attention_map(s, p), attention(s))
    difference = attention(s) - attention(t)
    torch.testing.assert_close(losses.attention_transfer_loss(s, t, p), difference.square().mean())
    torch.testing.assert_close(
        losses.attention_transfer_loss([s], [t], p, "paper"), difference.square().sum(dim=1).sqrt().mean()
    )


def test_nst_of_tokens_has_a_features_tokens_for_its_pattern():
    s, t = random(2, 6, 3), random(2, 6, 4)

    def kernel(first, second):
        first, second = F.normalize(first, dim=0), F.normalize(second, dim=0)
        return (first.T @ second).square().mean()

    pairs = zip(s, t, strict=True)
    expected = sum(kernel(a, a) + kernel(b, b) - 2 * kernel(a, b) for a, b in pairs) / 2
    torch.testing.assert_close(losses.nst_loss(s, t), expected)


def test_attention_and_nst_of_tokens_beside_maps():
    tokens, maps = random(2, 17, 5), random(2, 3, 8, 8)
    grid = tokens[:, 1:].reshape(2, 4, 4, 5).permute(0, 3, 1, 2)
    for loss in (losses.attention_transfer_loss, losses.nst_loss):
        torch.testing.assert_close(loss(maps, tokens), loss(maps, grid))
        torch.testing.assert_close(loss(tokens, maps), loss(grid, maps))


def test_hints_and_vid_from_one_vit_to_another():
    student, teacher = vit(24), vit(32, seed=1)
    term, value, s, t = connected(student, teacher, Hints(layers="blocks.0"))
    (linear,) = term.connectors
    assert s.shape == (4, 17, 24)
    assert type(linear) is nn.Linear
    torch.testing.assert_close(value, (s @ linear.weight.T + linear.bias - t).square().mean())

    term, value, s, t = connected(student, teacher, VID(layers="blocks.1"))
    first, second, third = (layer.weight[:, :, 0, 0] for layer in list(term.connectors[0].mean)[::2])
    mean = ((s @ first.T).relu() @ second.T).relu() @ third.T
    variance = F.softplus(term.connectors[0].log_scale) + 1e-5  # of a feature
    torch.testing.assert_close(value, (((mean - t) ** 2 / variance + variance.log()) / 2).mean())

    term, value, s, t = connected(student, vit(24, seed=1), Hints(layers="blocks.0"))
    assert type(term.connectors[0]) is nn.Identity
    torch.testing.assert_close(value, (s - t).square().mean())


def test_hints_and_vid_on_vectors():
    student, teacher = convnet("resnet8"), vit(24)
    layers = [("classifier:input", "head:input")]
    term, value, s, t = connected(student, teacher, Hints(layers=layers))
    (linear,) = term.connectors
    assert (s.shape, t.shape) == ((4, 64), (4, 24))
    torch.testing.assert_close(value, (linear(s) - t).square().mean())
    term, value, s, t = connected(student, teacher, VID(layers=layers))
    (connector,) = term.connectors
    mean = connector(s[:, :, None, None])[:, :, 0, 0]
    torch.testing.assert_close(value, losses.vid_loss(mean, t, connector.log_scale))


@pytest.mark.parametrize(
    ("name", "front"), [("vit_tiny_patch16_224", 1), ("deit_tiny_distilled_patch16_224", 2)]
)
def test_hints_and_vid_between_a_vit_and_a_convnet(name, front):
    def grid(tokens):
        return tokens[:, front:].reshape(4, 4, 4, 24).permute(0, 3, 1, 2)

    layers = [("layer2", "blocks.1")]  # 16×16 and 4×4
    term, value, s, t = connected(convnet(), vit(24, name=name), Hints(layers=layers))
    (regressor,) = term.connectors
    assert type(regressor) is Regressor
    torch.testing.assert_close(value, losses.hint_loss(regressor(s, (4, 4)), grid(t)))
    term, value, s, t = connected(convnet(), vit(24, name=name), VID(layers=layers))
    (regressor,) = term.connectors
    assert type(regressor) is VIDRegressor
    torch.testing.assert_close(value, losses.vid_loss(regressor(s, (4, 4)), grid(t), regressor.log_scale))

    layers = [("blocks.1", "layer2")]
    term, value, s, t = connected(vit(24, name=name), convnet(), Hints(layers=layers))
    torch.testing.assert_close(value, losses.hint_loss(term.connectors[0](grid(s), (16, 16)), t))


def test_relations_of_tokens_are_those_of_all_of_them():
    student, teacher = vit(24), vit(32, seed=1)
    for term, loss in (
        (RKDDistance(layers="blocks.0"), losses.rkd_distance_loss),
        (RKDAngle(layers="blocks.0"), losses.rkd_angle_loss),
        (SimilarityPreserving(layers="blocks.0"), losses.similarity_preserving_loss),
        (CorrelationCongruence(layers="blocks.0"), losses.correlation_congruence_loss),
        (PKT(layers="blocks.0"), losses.pkt_loss),
    ):
        _, value, s, t = connected(student, teacher, term)
        torch.testing.assert_close(value, loss(s.reshape(4, -1), t.reshape(4, -1)))


PAIR = [("layer2", "blocks.1")]
FROM_A_VIT = [
    Hints(layers=PAIR), VID(layers=PAIR), Attention(layers=PAIR), NST(layers=PAIR), Review(layers=PAIR),
    SimilarityPreserving(layers=PAIR), RKDAngle(), PKT(), CRD(width=8, negatives=5),
]  # fmt: skip
BETWEEN_VITS = [
    *(kind(layers="blocks.1") for kind in (Hints, VID, Attention, NST, SimilarityPreserving)),
    *FROM_A_VIT[6:],
]
FROM_A_CONVNET = [
    OFD(layers=[("blocks.1", "layer2.0.relu:input")], norms=["layer2.0.bn2"]),
    *(kind(layers=[("blocks.1", "layer2")]) for kind in (Hints, VID, Attention, NST, Review)),
]


@pytest.mark.parametrize(
    ("student", "teacher", "terms"),
    [
        (convnet, vit, FROM_A_VIT),
        (vit, lambda: vit(32, seed=1), BETWEEN_VITS),
        (vit, convnet, FROM_A_CONVNET),
    ],
    ids=["convnet from vit", "vit from vit", "vit from convnet"],
)
def test_a_student_learns_from_each_term(student, teacher, terms):
    for term in terms:
        distiller = Distiller(student(), teacher(), [term]).connect(IMAGES[:2], train_labels=BATCH[1])
        optimizer = torch.optim.SGD(distiller.parameters(), 1e-9)
        loss, _ = distiller(*BATCH)
        loss.backward()
        optimizer.step()
        moved = [weight.grad is not None and weight.grad.any() for weight in distiller.student.parameters()]
        assert loss.isfinite()
        assert any(moved), term


def test_a_vit_is_trained_by_fit_on_terms_of_all_kinds():
    train = load_data("digits").train.balanced(20)
    small = {"img_size": 8, "patch_size": 2, "in_chans": 1, "num_classes": 10, "depth": 1}
    terms = [
        HardLabels(),
        Hints(layers="blocks.0"),
        Attention(1.0, layers="blocks.0"),
        VID(layers="blocks.0"),
    ]
    student = vit(24, **small)
    record = fit(
        Distiller(student, vit(32, seed=1, **small), terms), train, epochs=3, device="cpu", progress=False
    )
    assert record.epochs["hints"][2] < record.epochs["hints"][0]


@pytest.mark.parametrize("make", [Hints, VID, Attention, NST])
def test_vits_with_other_numbers_of_tokens(make):
    distiller = Distiller(vit(), vit(patch_size=16), [make(layers="blocks.0")])
    with pytest.raises(
        ValueError, match="the student gives 17 tokens an image and the teacher 5, which cannot"
    ):
        distiller(*BATCH) if make in (Attention, NST) else distiller.connect(IMAGES)


@pytest.mark.parametrize(
    ("term", "message"),
    [
        (
            Review(layers="blocks.0"),
            r"Review\(.* needs maps \(N, C, H, W\), and the student gives \(4, 17, 24\)",
        ),
        (
            Hints(layers=[("blocks.0", "head:input")]),
            r"Hints\(.*: the student gives \(4, 17, 24\) and the teac",
        ),
        (VID(layers=[("patch_embed.proj", "head:input")]), r"VID\(.*: the student gives \(4, 24, 4, 4\) and"),
    ],
)
def test_layers_that_cannot_be_compared(term, message):
    with pytest.raises(ValueError, match=message):
        Distiller(vit(), vit(32, seed=1), [term]).connect(IMAGES)


def test_features_of_other_axes():
    class Video(nn.Module):
        def __init__(self):
            super().__init__()
            self.clip = nn.Unflatten(2, (2, 16))
            self.head = nn.Linear(3 * 32 * 32, 4)

        def forward(self, images):
            return self.head(self.clip(images).flatten(1))

    with pytest.raises(ValueError, match=r"Hints\(.* tokens .* the student gives \(4, 3, 2, 16, 32\) there"):
        Distiller(Video(), Video(), [Hints(layers="clip")]).connect(IMAGES)


@pytest.mark.parametrize(
    ("length", "size"), [(21, (8, 8)), (19, (4, 4)), (16, (2, 3)), (1, (1, 2)), (2, (2, 3))]
)
@pytest.mark.parametrize("loss", [losses.attention_transfer_loss, losses.nst_loss])
def test_tokens_that_are_no_grid_beside_maps(loss, length, size):
    says = f"the {{}} gives {length} tokens an image, which are no grid of the .* {size[0]}×{size[1]}, with"
    with pytest.raises(ValueError, match=says.format("student")):
        loss(random(2, length, 5), random(2, 3, *size))
    with pytest.raises(ValueError, match=says.format("teacher")):
        loss(random(2, 3, *size), random(2, length, 5))


@pytest.mark.parametrize("features", [random(2, 5), random(2, 0, 5), torch.ones(2, 4, 5, dtype=torch.int64)])
@pytest.mark.parametrize("loss", [losses.attention_transfer_loss, losses.nst_loss])
def test_what_are_neither_maps_nor_tokens(loss, features):
    with pytest.raises(
        ValueError, match=r"feature maps have shape .* of shape \(N, C, H, W\) or \(N, L, D\)"
    ):
        loss(features, features)
    with pytest.raises(ValueError, match="give both the same images"):
        loss(random(2, 4, 5), random(3, 4, 5))
