"""What a term can be told: every argument of its losses, a name, and a weight for each pair of layers."""

import inspect
import json
import re

import pytest
import torch
from torch import nn

from kdlib import Distiller, create_model, losses, terms
from kdlib.experiments.recipes import TermSpec
from kdlib.models import tap
from kdlib.terms import (
    CRD,
    DIST,
    DKD,
    EMBEDDING,
    FSP,
    NST,
    OFD,
    PKT,
    VID,
    Attention,
    CorrelationCongruence,
    HardLabels,
    Hints,
    LogitMatching,
    Outputs,
    Review,
    RKDAngle,
    RKDDistance,
    SimilarityPreserving,
    SoftTargets,
    Term,
)

TERMS = [kind for kind in map(terms.__dict__.get, terms.__all__) if isinstance(kind, type)]
TERMS = [kind for kind in TERMS if issubclass(kind, Term) and hasattr(kind, "name")]
LAYERS = ["layer1", "layer2"]
RELUS = ["layer1.0.relu:input", "layer2.0.relu:input"]
NORMS = ["layer1.0.bn2", "layer2.0.bn2"]
LABELS = torch.arange(40) % 4
# What a loss gets from the batch and not from whoever chose the term; and what the seed of a run decides.
FROM_THE_BATCH = re.compile(r"student_|teacher_|labels|indices|memory|margin|log_scale|scale|shift|logits")
NOT_CHOSEN = {"generator", "size"}

Networks = tuple[nn.Module, nn.Module]


def losses_of(kind):
    """What the term's docstring names of `kdlib.losses`."""
    names = re.findall(r"`(?:kdlib\.losses\.)?(\w+)`", inspect.getdoc(kind) or "")
    return [getattr(losses, name) for name in names if hasattr(losses, name)]


@pytest.fixture
def networks():
    return create_model("resnet8", 4, seed=0).train(), create_model("resnet14", 4, seed=1).eval()


@pytest.fixture
def batch():
    images = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    return images, torch.tensor([0, 1, 2, 3, 0, 1]), torch.arange(6)


def value(networks: Networks, term, batch) -> torch.Tensor:
    """The term before its weight, and a check that the total is the term with it."""
    distiller = Distiller(*networks, [term]).connect(batch[0])
    torch.manual_seed(0)  # of what CRD draws
    total, values = distiller(*batch)
    torch.testing.assert_close(total, term.weight * values[term.name])
    return values[term.name].detach()


def maps_of(network: nn.Module, images, paths):
    with tap(network, paths) as maps:
        network(images)
    return [maps[path].detach() for path in paths]


@pytest.mark.parametrize("kind", TERMS, ids=lambda kind: kind.__name__)
def test_every_argument_of_a_loss_is_one_of_its_term(kind):
    assert losses_of(kind), "the docstring names the losses, as `kdlib.losses.…`"
    arguments = inspect.signature(kind).parameters
    assert arguments["name"].default is None
    for loss in losses_of(kind):
        for name, parameter in inspect.signature(loss).parameters.items():
            if not FROM_THE_BATCH.match(name) and name not in NOT_CHOSEN:
                assert name in arguments, f"{loss.__name__} has {name}"
                assert arguments[name].default == parameter.default


def test_every_loss_has_a_term():
    named = {loss.__name__ for kind in TERMS for loss in losses_of(kind)}
    assert {name for name in losses.__all__ if name.endswith("_loss")} <= named


@pytest.mark.parametrize("kind", TERMS, ids=lambda kind: kind.__name__)
def test_every_term_says_what_its_arguments_are(kind):
    text = inspect.getdoc(kind)
    described = set(re.findall(r"\w+", " ".join(re.findall(r"^ {4}([\w, ]+):", text, re.MULTILINE))))
    assert set(inspect.signature(kind).parameters) <= described


def layered(kind, **more):
    return lambda **options: kind(1.0, layers=LAYERS, **more, **options)


# A term, what it is told besides, and the same in the words of its losses: on logits and labels, or on maps.
TOLD = [
    (HardLabels, {"label_smoothing": 0.3}, lambda s, _, y: losses.hard_label_loss(s, y, 0.3)),
    (SoftTargets, {"reduction": "sum"}, lambda s, t, _: losses.soft_target_loss(s, t, 4, "sum")),
    (
        SoftTargets, {"standardize": True, "form": "code"},
        lambda s, t, _: losses.soft_target_loss(*(losses.standardize_logits(z, "code") for z in (s, t))),
    ),
    (LogitMatching, {"reduction": "batchmean"}, lambda s, t, _: losses.logit_mse_loss(s, t, "batchmean")),
    (DKD, {"alpha": 2, "beta": 3}, lambda s, t, y: losses.dkd_loss(s, t, y, 2, 3)),
    (DIST, {"form": "code"}, lambda s, t, _: losses.dist_loss(s, t, form="code")),
    (layered(Hints), {"reduction": "sum"}, lambda s, t: losses.hint_loss(s, t, "sum")),
    (
        layered(Attention), {"p": 3, "form": "paper"},
        lambda s, t: losses.attention_transfer_loss(s, t, 3, "paper"),
    ),
    (layered(RKDDistance), {"form": "code"}, lambda s, t: losses.rkd_distance_loss(s, t, "code")),
    (layered(RKDAngle), {"form": "code"}, lambda s, t: losses.rkd_angle_loss(s, t, "code")),
    (layered(PKT), {"form": "code"}, lambda s, t: losses.pkt_loss(s, t, "code")),
    (
        layered(CorrelationCongruence), {"gamma": 2.0, "order": 3},
        lambda s, t: losses.correlation_congruence_loss(s, t, 2.0, 3),
    ),
    (
        layered(CorrelationCongruence), {"form": "code"},
        lambda s, t: losses.correlation_congruence_loss(s, t, form="code"),
    ),
    (layered(SimilarityPreserving), {}, losses.similarity_preserving_loss),
    (layered(NST), {}, losses.nst_loss),
]  # fmt: skip


@pytest.mark.parametrize(("make", "options", "loss"), TOLD)
def test_what_a_term_is_told_reaches_its_loss(networks: Networks, batch, make, options, loss):
    term = make(**options)
    if term.pairs:
        pairs = zip(*(maps_of(network, batch[0], LAYERS) for network in networks), strict=True)
        expected = sum(loss(*pair) for pair in pairs)
    else:
        expected = loss(*(network(batch[0]).detach() for network in networks), batch[1])
    found = value(networks, term, batch)
    torch.testing.assert_close(found, expected)
    assert not options or not torch.equal(found, value(networks, make(), batch)), "that is the default"


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (layered(VID), {"minimum_variance": 0.5}),
        (layered(VID), {"reduction": "batchmean"}),
        (layered(FSP), {"pooling": "average"}),
        (layered(FSP), {"reduction": "sum"}),
        (lambda **options: OFD(1.0, layers=RELUS, norms=NORMS, **options), {"reduction": "mean"}),
        (lambda **options: CRD(1.0, labels=LABELS, width=8, negatives=5, **options), {"form": "paper"}),
    ],
)
def test_what_a_term_with_connectors_is_told_changes_its_value(networks: Networks, batch, make, options):
    told = value(networks, make(**options), batch)
    assert torch.equal(told, value(networks, make(**options), batch)), "chance has no part in it"
    assert not torch.isclose(told, value(networks, make(), batch))


def test_margins_and_memory_have_the_form_that_they_are_told(networks: Networks, batch):
    for norm in (networks[1].layer1[0].bn2, networks[1].layer2[0].bn2):
        nn.init.constant_(norm.bias, 9.0)  # so that a negative answer is rarer than one in a thousand
    ofd = OFD(layers=RELUS, norms=NORMS, form="code")
    crd = CRD(labels=LABELS, width=8, negatives=5, momentum=0.9)
    ofd, crd = Distiller(*networks, [ofd, crd]).connect(batch[0]).terms
    torch.testing.assert_close(ofd.margin0, torch.full((16,), -3.0))
    assert crd.memory.momentum == 0.9


@pytest.mark.parametrize(
    ("make", "message"),
    [
        *((lambda kind=kind: kind(reduction="none"), "a value per image, and a term is one number")
          for kind in (SoftTargets, LogitMatching)),
        *((lambda kind=kind: kind(layers=LAYERS, reduction="none"), "a value per image")
          for kind in (Hints, VID, FSP)),
        *((lambda kind=kind: kind(layers=LAYERS, form="exact"), "form is 'exact'; choose one of paper, code")
          for kind in (Attention, RKDDistance, RKDAngle, PKT, CorrelationCongruence)),
        (lambda: OFD(layers=RELUS, norms=NORMS, form="exact"), "form is 'exact'"),
        (lambda: OFD(layers=RELUS, norms=NORMS, reduction="all"), "reduction is 'all'"),
        (lambda: DIST(form="exact"), "form is 'exact'"),
        (lambda: SoftTargets(form="exact"), "form is 'exact'"),
        (lambda: CRD(labels=LABELS, form="exact"), "form is 'exact'"),
        (lambda: HardLabels(label_smoothing=2), "label_smoothing is 2"),
        (lambda: Attention(layers=LAYERS, p=0.5), r"p is 0\.5"),
        (lambda: FSP(layers=LAYERS, pooling="min"), "pooling is 'min'"),
        (lambda: FSP(layers="layer1"), "FSP got 1 layer; give two or more"),
        (lambda: VID(layers=LAYERS, minimum_variance=0), "minimum_variance is 0"),
        (lambda: CorrelationCongruence(gamma=0), "gamma is 0"),
        (lambda: CorrelationCongruence(order=0), "order is 0"),
        (lambda: Hints(layers=LAYERS, weights=[1]), r"weights is \[1\] for 2 pairs of layers; give a list"),
        (lambda: Hints(layers=LAYERS, weights=0.5), r"weights is 0\.5 for 2 pairs of layers; give a list"),
        (lambda: FSP(layers=LAYERS, weights=[1, 1]), r"weights is \[1, 1\] for 1 pairs of layers"),
        (lambda: Hints(layers=LAYERS, weights=[1, -1]), r"weights\[1\] is -1; give a finite weight"),
        (lambda: Hints(layers=LAYERS, weights=[0, 0]), "weights are all 0; weight=0 switches the term off"),
        *((lambda layer=layer: Hints(layers=[layer]), f"layers has {re.escape(repr(layer))}; write a path")
          for layer in (["a", "b", "c"], ["a"], ["a", 1], 1)),
    ],
)  # fmt: skip
def test_a_term_refuses_what_its_loss_would_when_it_is_made(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda **options: Hints(layers=LAYERS, **options),
        lambda **options: VID(layers=LAYERS, **options),
        lambda **options: OFD(layers=RELUS, norms=NORMS, **options),
        lambda **options: Review(layers=LAYERS, **options),
        lambda **options: Attention(layers=LAYERS, **options),
        lambda **options: NST(layers=LAYERS, **options),
        lambda **options: RKDAngle(layers=LAYERS, **options),
        lambda **options: FSP(layers=[*LAYERS, "layer3"], **options),
    ],
)
def test_the_sum_over_the_layers_is_weighted(networks: Networks, batch, make):
    """OFD's script halves the loss for each earlier stage."""
    plain, first, second, halved = (
        value(networks, make(**options), batch)
        for options in ({}, {"weights": [1, 0]}, {"weights": [0, 1]}, {"weights": [0.5, 1]})
    )
    torch.testing.assert_close(plain, first + second)
    torch.testing.assert_close(halved, first / 2 + second)
    assert not torch.isclose(first, second)


def test_fsp_of_disjoint_pairs(networks: Networks, batch):
    paths = ["layer1:input", "layer1", "layer2", "layer3"]
    s, t = (maps_of(network, batch[0], paths) for network in networks)
    expected = losses.fsp_loss(s[:2], t[:2]) + losses.fsp_loss(s[2:], t[2:])
    torch.testing.assert_close(value(networks, FSP(layers=paths, weights=[1, 0, 1]), batch), expected)


def test_one_layer_of_the_student_learns_from_two_of_the_teacher(networks: Networks, batch):
    (s,), (first, second) = (
        maps_of(networks[0], batch[0], ["layer2"]),
        maps_of(networks[1], batch[0], LAYERS),
    )
    term = SimilarityPreserving(layers=[("layer2", "layer1"), "layer2"])
    assert term.pairs == (("layer2", "layer1"), ("layer2", "layer2"))
    expected = losses.similarity_preserving_loss(s, first) + losses.similarity_preserving_loss(s, second)
    torch.testing.assert_close(value(networks, term, batch), expected)


def test_two_terms_of_one_kind(networks: Networks, batch):
    two = [SoftTargets(0.5, temperature=1), SoftTargets(2, temperature=8, name="softer targets")]
    total, values = Distiller(*networks, two)(*batch)
    s, t = (network(batch[0]) for network in networks)
    assert list(values) == ["soft targets", "softer targets"]
    for name, temperature in (("soft targets", 1), ("softer targets", 8)):
        torch.testing.assert_close(values[name], losses.soft_target_loss(s, t, temperature))
    torch.testing.assert_close(total, 0.5 * values["soft targets"] + 2 * values["softer targets"])


@pytest.mark.parametrize("name", ["", "loss", "test_loss", "test_accuracy"])
def test_a_name_that_curves_have_for_something_else(networks: Networks, name):
    with pytest.raises(ValueError, match=f"a term is called '{name}'; give it another name"):
        Distiller(*networks, [SoftTargets(name=name)])


def test_names_that_two_terms_have(networks: Networks):
    message = r"two terms have one name \(soft.*\); .* SoftTargets\(…, name='soft targets 2'\) for instance"
    with pytest.raises(ValueError, match=message):
        Distiller(*networks, [SoftTargets(), HardLabels(), SoftTargets(temperature=1)])
    with pytest.raises(ValueError, match=message):
        Distiller(*networks, [SoftTargets(), LogitMatching(name="soft targets")])


@pytest.mark.parametrize(
    ("term", "written"),
    [
        (HardLabels(name="labels"), "HardLabels(1, name='labels')"),
        (SoftTargets(0.9, reduction="sum"), "SoftTargets(0.9, temperature=4.0, reduction='sum')"),
        (SoftTargets(0.9, reduction="batchmean"), "SoftTargets(0.9, temperature=4.0)"),
        (LogitMatching(), "LogitMatching(1)"),
        (DIST(), "DIST(1, beta=1.0, gamma=1.0, temperature=1.0)"),
        (Hints(layers=LAYERS), "Hints(1, layers=['layer1', 'layer2'])"),
        (Hints(layers=LAYERS, weights=(0.5, 1)), "Hints(1, layers=['layer1', 'layer2'], weights=[0.5, 1])"),
        (VID(layers="layer1"), "VID(1, layers='layer1')"),
        (OFD(layers="relu:input", norms=["bn2"]), "OFD(0.001, layers='relu:input', norms=['bn2'])"),
        (Review(layers="layer1"), "Review(1, layers='layer1')"),
        (Attention(layers="layer1"), "Attention(1000, layers='layer1', p=2.0, form='code')"),
        (FSP(layers=LAYERS), "FSP(1, layers=['layer1', 'layer2'], pooling='max', reduction='batchmean')"),
        (RKDDistance(), "RKDDistance(25, layers='embedding')"),
        (RKDAngle(form="code"), "RKDAngle(50, layers='embedding', form='code')"),
        (SimilarityPreserving(layers=[("a", "b")]), "SimilarityPreserving(3000, layers=[('a', 'b')])"),
        (CorrelationCongruence(), "CorrelationCongruence(300, layers='embedding', form='paper')"),
        (PKT(), "PKT(300, layers='embedding', form='paper')"),
        (CRD(labels=LABELS), "CRD(0.8, layers='embedding', width=128, negatives=16384, temperature=0.07)"),
    ],
)  # fmt: skip
def test_records_have_what_is_new_only_where_it_is_not_the_default(term, written):
    """The records of data/results were made before, and say the same of the same terms."""
    assert repr(term) == written


def test_a_recipe_has_what_is_new_only_where_it_is_not_the_default():
    short = TermSpec("Hints", {"layers": LAYERS})
    assert short.as_dict() == {"kind": "Hints", "weight": 1.0, "layers": LAYERS}
    assert TermSpec("Hints", {"layers": LAYERS, "reduction": "mean", "name": ""}) == short
    told = TermSpec("Hints", {"layers": [["layer1", "layer2"], "layer3"], "weights": [1, 0.5], "name": "two"})
    assert json.loads(json.dumps(told.as_dict())) == {
        "kind": "Hints", "weight": 1.0, "layers": [["layer1", "layer2"], "layer3"], "weights": [1.0, 0.5],
        "name": "two",
    }  # fmt: skip
    assert json.dumps(TermSpec("Hints", {"layers": LAYERS, "weights": [1, 2]}).as_dict()).count(".0") == 3
    assert (told.build().name, told.build().pairs) == ("two", (("layer1", "layer2"), ("layer3", "layer3")))
    assert TermSpec("Hints", {k: v for k, v in told.as_dict().items() if k != "kind"}) == told


SMALL = [
    (RKDDistance(), 3),
    (RKDAngle(), 3),
    (SimilarityPreserving(layers="embedding"), 2),
    (CorrelationCongruence(), 2),
    (CorrelationCongruence(form="code"), 2),
    (PKT(), 3),
    (PKT(form="code"), 2),
    (DIST(beta=0), 3),
    *((term, 1) for term in (DIST(), DKD(), SoftTargets(), LogitMatching(), NST(layers="embedding"))),
    (Attention(layers="embedding"), 1),
]


@pytest.mark.parametrize(("term", "least"), SMALL, ids=lambda item: repr(item).partition("(")[0])
def test_how_many_images_a_term_needs(term, least):
    """Below, no student learns anything from it; from there on, one does."""

    def gradient(images):
        shape = (images, 4, 3, 3) if term.name in ("nst", "attention") else (images, 4)
        student, teacher = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))
        student.requires_grad_()
        maps = [dict.fromkeys(("embedding", EMBEDDING), features) for features in (student, teacher)]
        outputs = Outputs(student.flatten(1), teacher.flatten(1), torch.arange(images), *maps)
        return torch.autograd.grad(term(outputs), student)[0].abs().max()

    assert term.least_images == least
    assert gradient(least) > 1e-5
    assert all(gradient(images) < 1e-6 for images in range(1, least))


def test_a_batch_that_is_too_small_is_said_once_and_trained_on(networks: Networks, batch):
    images, labels, indices = (rows[:2] for rows in batch)
    distiller = Distiller(*networks, [HardLabels(), RKDDistance(), RKDAngle()])
    with pytest.warns(
        UserWarning, match=r"RKD\w+\(.*\) compares 3 images or more .*; give a larger batch_size"
    ) as said:
        total, values = distiller(images, labels, indices)
    assert len(said) == 2
    assert values["rkd distance"] == values["rkd angle"] == 0
    torch.testing.assert_close(total, values["hard labels"])
