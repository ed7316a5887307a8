"""Every term: the loss that it names, the layers that it reads, the connectors that it trains."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from kdlib import Distiller, create_model, fit, load_data, losses
from kdlib.experiments.recipes import TermSpec
from kdlib.losses.inputs import check_weights
from kdlib.models import NoisyTeacher, ShuffledTeacher, tap
from kdlib.models.connectors import Regressor, ReviewFusion, VIDRegressor
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
    Review,
    RKDAngle,
    RKDDistance,
    SimilarityPreserving,
    SoftTargets,
)

STAGES = ["layer1", "layer2", "layer3"]
RELUS = ["layer1.0.relu:input", "layer2.0.relu:input"]

Networks = tuple[nn.Module, nn.Module]


@pytest.fixture
def networks():
    student = create_model("resnet8", 4, seed=0)
    teacher = create_model("resnet8x4", 4, seed=1)
    return student.train(), teacher.eval()


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(6, 3, 16, 16, generator=generator)
    return images, torch.tensor([0, 1, 2, 3, 0, 1]), torch.arange(6)


def every_term():
    labels = torch.arange(40) % 4
    return [
        DKD(), DIST(), SoftTargets(temperature=2, standardize=True), Attention(layers=STAGES),
        Hints(layers=STAGES), VID(layers="layer2"), Review(layers=STAGES),
        OFD(layers=RELUS, norms=["layer1.0.bn2", "layer2.0.bn2"]),
        RKDDistance(), RKDAngle(), SimilarityPreserving(layers="layer3"), CorrelationCongruence(), PKT(),
        NST(layers="layer3"), CRD(labels=labels, width=8, negatives=5),
    ]  # fmt: skip


def term_id(term):
    return term.name


def maps_of(network, images, paths):
    with tap(network, paths) as maps:
        network(images)
    return [maps[path] for path in paths]


def value(networks: Networks, term, batch):
    distiller = Distiller(*networks, [term]).connect(batch[0])
    total, values = distiller(*batch)
    torch.testing.assert_close(total, term.weight * values[term.name])
    return values[term.name]


@pytest.mark.parametrize("term", every_term(), ids=term_id)
def test_a_student_can_be_trained_on_each_term(networks, batch, term):
    """One step along the gradient lowers the loss, and every trained weight that the term owns takes part."""
    student, teacher = networks
    distiller = Distiller(student, teacher, [term]).connect(batch[0])
    total, _ = distiller(*batch)
    total.backward()
    owned = dict(distiller.terms.named_parameters())
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in owned.values()), owned
    assert any(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in student.parameters())
    assert all(weight.grad is None for weight in teacher.parameters())
    assert bool(owned) == (term.has_connectors)
    if not isinstance(term, CRD):  # whose next value has other negatives, and another memory
        norm = sum(float(w.grad.square().sum()) for w in distiller.parameters() if w.grad is not None)
        with torch.no_grad():
            for weight in distiller.parameters():
                if weight.grad is not None:
                    weight -= 1e-3 * float(total.abs()) / norm * weight.grad
        assert distiller(*batch)[0] < total


@pytest.mark.parametrize("term", every_term(), ids=term_id)
def test_terms_say_what_they_are_in_a_record(term):
    text = repr(term)
    assert text.startswith(type(term).__name__ + "(")
    assert "tensor" not in text


def test_logit_terms_are_the_losses(networks, batch):
    student, teacher = networks
    images, labels, _ = batch
    s, t = student(images), teacher(images)
    torch.testing.assert_close(
        value(networks, DKD(1, alpha=2, beta=3, temperature=5), batch), losses.dkd_loss(s, t, labels, 2, 3, 5)
    )
    torch.testing.assert_close(
        value(networks, DIST(1, beta=2, gamma=3, temperature=5), batch), losses.dist_loss(s, t, 2, 3, 5)
    )
    torch.testing.assert_close(
        value(networks, SoftTargets(1, temperature=2, standardize=True), batch),
        losses.soft_target_loss(losses.standardize_logits(s), losses.standardize_logits(t), 2),
    )


def test_layer_terms_are_the_losses_of_their_layers(networks, batch):
    student, teacher = networks
    s, t = maps_of(student, batch[0], STAGES), maps_of(teacher, batch[0], STAGES)
    torch.testing.assert_close(
        value(networks, Attention(layers=STAGES, p=3, form="paper"), batch),
        losses.attention_transfer_loss(s, t, 3, "paper"),
    )
    torch.testing.assert_close(
        value(networks, NST(layers=STAGES[:2]), batch),
        losses.nst_loss(s[0], t[0]) + losses.nst_loss(s[1], t[1]),
    )
    torch.testing.assert_close(
        value(networks, SimilarityPreserving(layers={"layer3": "layer2"}), batch),
        losses.similarity_preserving_loss(s[2], t[1]),
    )


@pytest.mark.parametrize(
    ("term", "loss"),
    [
        (RKDDistance(), losses.rkd_distance_loss),
        (RKDAngle(), losses.rkd_angle_loss),
        (CorrelationCongruence(), losses.correlation_congruence_loss),
        (PKT(), losses.pkt_loss),
    ],
)
def test_relations_are_those_of_what_enters_the_classifier(networks, batch, term, loss):
    s, t = (maps_of(network, batch[0], ["layer3"])[0].mean(dim=(2, 3)) for network in networks)
    torch.testing.assert_close(value(networks, term, batch), loss(s, t))


def test_fsp_needs_equal_channels_and_reads_layers_in_order(batch):
    student, teacher = create_model("resnet8", 4, seed=0), create_model("resnet14", 4, seed=1).eval()
    s, t = maps_of(student, batch[0], STAGES), maps_of(teacher, batch[0], STAGES)
    torch.testing.assert_close(
        value((student, teacher), FSP(layers=STAGES, pooling="average", reduction="mean"), batch),
        losses.fsp_loss(s, t, "average", "mean"),
    )


def test_fsp_refuses_other_channels(networks, batch):
    with pytest.raises(ValueError, match="16 channels where the teacher has 64"):
        value(networks, FSP(layers=STAGES), batch)


def test_hints_have_a_regressor_where_maps_differ_and_none_where_they_fit(networks, batch):
    student, teacher = networks
    wide, same = Hints(layers=["layer1", "layer3"]), Hints(layers="layer1")
    wide = Distiller(student, teacher, [wide]).connect(batch[0]).terms[0]
    same = Distiller(student, create_model("resnet14", 4, seed=1), [same]).connect(batch[0]).terms[0]
    assert [type(connector) for connector in wide.connectors] == [Regressor, Regressor]
    assert [type(connector) for connector in same.connectors] == [nn.Identity]


def test_one_list_of_terms_serves_several_distillers(networks: Networks, batch):
    terms = [Hints(layers=STAGES)]
    first, second = (Distiller(*networks, terms).connect(batch[0]) for _ in range(2))
    assert not {id(weight) for weight in first.terms.parameters()} & {
        id(weight) for weight in second.terms.parameters()
    }
    assert not list(terms[0].parameters())


def test_connected_terms_are_their_losses(networks, batch):
    student, teacher = networks
    terms = [
        Hints(layers=["layer1"]),
        VID(layers=["layer2"]),
        Review(layers=STAGES, channels=8),
        OFD(layers=RELUS[:1], norms=["layer1.0.bn2"]),
    ]
    distiller = Distiller(student, teacher, terms).connect(batch[0])
    hints, vid, review, ofd = distiller.terms
    _, values = distiller(*batch)
    s, t = maps_of(student, batch[0], [*STAGES, *RELUS]), maps_of(teacher, batch[0], [*STAGES, *RELUS])
    torch.testing.assert_close(values["hints"], losses.hint_loss(hints.connectors[0](s[0]), t[0]))
    (regressor,) = vid.connectors
    assert isinstance(regressor, VIDRegressor)
    torch.testing.assert_close(values["vid"], losses.vid_loss(regressor(s[1]), t[1], regressor.log_scale))
    assert isinstance(review.fusion, ReviewFusion)
    sizes = [tuple(maps.shape[-2:]) for maps in t[:3]]
    torch.testing.assert_close(values["review"], losses.review_loss(review.fusion(s[:3], sizes), t[:3]))
    norm = teacher.layer1[0].bn2
    torch.testing.assert_close(
        values["ofd"],
        losses.ofd_loss(ofd.connectors[0](s[3]), t[3], losses.ofd_margin(norm.weight, norm.bias).detach()),
    )


def test_crd_remembers_which_images_it_saw(networks: Networks, batch):
    distiller = Distiller(*networks, [CRD(labels=torch.arange(40) % 4, width=8, negatives=5)])
    term = distiller.connect(batch[0]).terms[0]
    before = term.memory.student_bank.clone()
    distiller(*batch)
    moved = (term.memory.student_bank != before).any(dim=1)
    assert moved.nonzero().flatten().tolist() == batch[2].tolist()
    assert any(name.endswith("memory.student_bank") for name in distiller.state_dict())
    with pytest.raises(ValueError, match="which images these are"):
        distiller(batch[0], batch[1])


def test_crd_takes_the_labels_that_fit_trains_on():
    train = load_data("digits").train.balanced(40)
    curves = []
    for term in (
        CRD(labels=train.labels, width=8, negatives=5),
        CRD(width=8, negatives=5),
        TermSpec("CRD", {"width": 8, "negatives": 5}).build(),
        CRD(labels=torch.arange(len(train)), width=8, negatives=5),
    ):
        student, teacher = (create_model("convnet", 10, in_channels=1, width=2, seed=s) for s in (0, 1))
        distiller = Distiller(student, teacher, [term])
        curves.append(fit(distiller, train, epochs=1, device="cpu", progress=False).epochs["crd"])
        assert distiller.terms[0].memory.size == len(train)
    assert curves[0] == curves[1] == curves[2]
    assert curves[0] != curves[3], "labels of one's own are other negatives"


def test_crd_without_labels_says_where_it_gets_them(networks: Networks, batch):
    distiller = Distiller(*networks, [CRD(width=8, negatives=5)])
    with pytest.raises(ValueError, match=r"CRD has .*\.connect\(images, train_labels=.* it labels=train"):
        distiller.connect(batch[0])
    distiller.connect(batch[0], train_labels=torch.arange(40) % 4)
    assert distiller.terms[0].memory.class_size.tolist() == [10] * 40


def test_connectors_are_trained_beside_the_student_and_start_from_a_seed(networks, batch):
    student, teacher = networks
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(99 + len(states))
        before = torch.random.get_rng_state()
        distiller = Distiller(student, teacher, [Hints(layers=STAGES)])
        parameters = len(list(distiller.parameters()))
        distiller.connect(batch[0], seed=seed)
        assert torch.equal(before, torch.random.get_rng_state())
        assert len(list(distiller.parameters())) == parameters + 3 * 3
        states.append(next(distiller.terms[0].parameters()))
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_connecting_leaves_both_networks_as_they_were_and_happens_once(networks, batch):
    student, teacher = networks
    before = {name: value.clone() for name, value in student.state_dict().items()}
    distiller = Distiller(student, teacher, [Hints(layers=STAGES)])
    connectors = list(distiller.connect(batch[0]).terms[0].connectors)
    distiller.connect(batch[0], seed=5)
    assert all(torch.equal(before[name], value) for name, value in student.state_dict().items())
    assert student.training
    assert list(distiller.terms[0].connectors) == connectors


def test_a_term_that_was_not_connected_says_so(networks: Networks, batch):
    with pytest.raises(ValueError, match=r"Hints\(1, layers=.*call distiller\.connect\(images\) before"):
        Distiller(*networks, [Hints(layers=STAGES)])(*batch)


def test_no_hook_stays_behind(networks: Networks, batch):
    distiller = Distiller(*networks, [Attention(layers=STAGES)])
    distiller(*batch)
    for network in networks:
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules()), (
            "a hook is left"
        )


def test_taps_that_name_no_module(networks: Networks):
    with pytest.raises(ValueError, match=r"CifarResNet has no module 'layer9'; near it are .*layer1"):
        Distiller(*networks, [Attention(layers=["layer9"])])
    with pytest.raises(ValueError, match="CifarResNet has no module 'stage1'"):
        Distiller(*networks, [Attention(layers={"layer1": "stage1"})])


def test_outputs_that_a_later_layer_overwrites_are_copied(batch):
    """A convnet's ReLU writes over what its batch norm gave out."""
    student, teacher = (create_model("convnet", 4, width=4, seed=seed) for seed in (0, 1))
    term = Attention(layers=["layer1.1"], p=2)
    total, _ = Distiller(student, teacher, [term])(*batch)
    norm = lambda net: net.layer1[1](net.layer1[0](batch[0]))  # noqa: E731
    expected = losses.attention_transfer_loss(norm(student.train()), norm(teacher.eval()))
    torch.testing.assert_close(total, 1000 * expected)


def test_one_layer_under_two_names(networks: Networks, batch):
    terms = [RKDDistance(layers=EMBEDDING), PKT(layers="classifier:input")]
    _, values = Distiller(*networks, terms)(*batch)
    s, t = (maps_of(network, batch[0], ["classifier:input"])[0] for network in networks)
    torch.testing.assert_close(values["pkt"], losses.pkt_loss(s, t))
    torch.testing.assert_close(values["rkd distance"], losses.rkd_distance_loss(s, t))


def test_a_shuffled_teacher_shuffles_its_layers_too(networks, batch):
    student, teacher = networks
    control = ShuffledTeacher(teacher, seed=3)
    distiller = Distiller(student, control, [Attention(layers=STAGES), SoftTargets()])
    again = ShuffledTeacher(teacher, seed=3)
    distiller.connect(batch[0])  # a look, after which the control draws as if nobody had asked
    _, values = distiller(*batch)
    s = maps_of(student, batch[0], STAGES)
    t = maps_of(again, batch[0], STAGES)
    torch.testing.assert_close(values["attention"], losses.attention_transfer_loss(s, t))


def test_taps_look_through_a_noisy_teacher(networks, batch):
    student, teacher = networks
    term = Attention(layers=STAGES)
    noisy = value((student, NoisyTeacher(teacher, std=1.0)), term, batch)
    torch.testing.assert_close(noisy, value(networks, term, batch))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Attention(layers=[]), "layers is empty"),
        (lambda: Attention(-1, layers=["layer1"]), "weight of Attention is -1"),
        (lambda: DKD(beta=-8), "beta is -8"),
        (lambda: DIST(temperature=0), "temperature is 0"),
        (lambda: CRD(labels=torch.arange(4), layers=STAGES), "CRD compares one layer and got 3"),
        (lambda: OFD(layers=RELUS, norms=["layer1.0.bn2"]), "there are 1 norms for 2 layers"),
    ],
)
def test_settings_that_cannot_be(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("term", "message"),
    [
        (
            Review(layers=EMBEDDING),
            r"Review\(.* needs maps \(N, C, H, W\), and the student gives \(6, 64\) there",
        ),
        (OFD(layers=EMBEDDING, norms=["layer1.0.bn2"]), r"OFD\(.* needs maps \(N, C, H, W\)"),
        (
            Hints(layers=[("classifier:input", "layer3")]),
            r"Hints\(.* the student gives \(6, 64\) and the tea",
        ),
        (OFD(layers=RELUS[:1], norms=["layer1.0.conv2"]), "not a batch norm of 64 channels"),
        (OFD(layers=RELUS[:1], norms=["layer2.0.bn2"]), "not a batch norm of 64 channels"),
        (OFD(layers=RELUS[:1], norms=["layer1.0.norm"]), "no module 'layer1.0.norm'"),
        (CRD(labels=torch.zeros(8, dtype=torch.int64)), "all training images are of one class"),
    ],
)
def test_networks_that_do_not_fit(networks, batch, term, message):
    with pytest.raises(ValueError, match=message):
        value(networks, term, batch)


def test_a_classifier_of_one_class_is_refused(batch):
    one = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 1))
    with pytest.raises(ValueError, match=r"\(6, 1\).*two classes or more"):
        Distiller(one, None, [HardLabels()])(*batch)


def test_check_weights_names_the_weight():
    with pytest.raises(ValueError, match="gamma is -1"):
        check_weights(gamma=-1)


@pytest.mark.parametrize("term", [HardLabels(), *every_term()], ids=term_id)
def test_a_step_does_not_wait_for_a_gpu(term, networks, batch, no_waiting, monkeypatch):
    student, teacher = networks
    distiller = Distiller(student, teacher, [term]).connect(batch[0])
    # The first step looks at the answers once.
    distiller(*batch)
    distiller.to("meta").train()
    optimizer = torch.optim.SGD(distiller.parameters(), lr=0.1, momentum=0.9)
    # torch knows no autocast on that device, not even one that is off.
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    with no_waiting():
        loss, _ = distiller(*(tensor.to("meta", non_blocking=True) for tensor in batch))
        loss.backward()
        optimizer.step()
