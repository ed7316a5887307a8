"""The distiller: what it adds up, what it leaves untouched, and what it refuses."""

import copy

import pytest
import torch
from torch import nn
from torchvision.models import SwinTransformer

from kdlib import (
    Attention,
    Distiller,
    HardLabels,
    Hints,
    LogitMatching,
    RKDDistance,
    SoftTargets,
    create_model,
    fit,
    load_data,
    losses,
    tap,
)
from kdlib.models import MissingTeacher, ShuffledTeacher
from kdlib.terms import EMBEDDING, Term


@pytest.fixture
def networks():
    student = create_model("convnet", 10, in_channels=1, width=2, seed=0)
    teacher = create_model("convnet", 10, in_channels=1, width=4, seed=1)
    return student, teacher


@pytest.fixture(scope="module")
def batch():
    return next(load_data("digits").train.batches(32))


def test_total_is_the_weighted_sum_of_the_terms(networks, batch):
    student, teacher = networks
    images, labels, _ = batch
    terms = [HardLabels(0.1, label_smoothing=0.2), SoftTargets(0.9, temperature=3), LogitMatching(2.0)]
    total, values = Distiller(student, teacher, terms)(images, labels)
    student_logits, teacher_logits = copy.deepcopy(student).train()(images), teacher.eval()(images)
    expected = {
        "hard labels": losses.hard_label_loss(student_logits, labels, 0.2),
        "soft targets": losses.soft_target_loss(student_logits, teacher_logits, 3.0),
        "logit matching": losses.logit_mse_loss(student_logits, teacher_logits),
    }
    assert list(values) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(values[name], value)
    torch.testing.assert_close(
        total, 0.1 * expected["hard labels"] + 0.9 * expected["soft targets"] + 2 * expected["logit matching"]
    )


def test_teacher_is_unchanged_bit_for_bit_after_training(networks):
    student, teacher = networks
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    teacher.train()
    train = load_data("digits").train.balanced(50)
    fit(Distiller(student, teacher, [SoftTargets()]), train, epochs=2, progress=False, device="cpu")
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())
    assert all(weight.grad is None for weight in teacher.parameters())


def test_teacher_is_asked_without_a_gradient(networks, batch):
    student, teacher = networks
    images, labels, _ = batch
    distiller = Distiller(student, teacher, [SoftTargets(), Attention(layers="layer2")]).connect(images[:2])
    assert not distiller.teach(images).requires_grad
    loss, _ = distiller(images, labels)
    loss.backward()
    assert all(weight.grad is None for weight in teacher.parameters())
    assert all(weight.grad is not None for weight in student.parameters())


def test_a_student_that_was_trained_before_trains_in_training_mode(networks):
    student, teacher = networks
    distiller = Distiller(student, teacher, [SoftTargets()])
    train = load_data("digits").train.balanced(20)
    means = []
    for _ in range(2):
        fit(distiller, train, epochs=1, progress=False, device="cpu")
        means.append(next(value.clone() for name, value in student.named_buffers() if "mean" in name))
    assert not torch.equal(*means), "batch normalisation learns in training mode alone"


def test_teacher_answers_in_evaluation_mode_whatever_mode_it_was_put_in(networks, batch):
    student, teacher = networks
    distiller = Distiller(student, teacher, [SoftTargets()])
    distiller.train()
    teacher.train()
    expected = copy.deepcopy(teacher).eval()(batch[0])
    torch.testing.assert_close(distiller.teach(batch[0]), expected)
    assert not teacher.training
    assert student.training


def test_checkpoint_and_optimiser_hold_the_student_alone(networks):
    student, teacher = networks
    distiller = Distiller(student, teacher, [SoftTargets()])
    assert {id(p) for p in distiller.parameters()} == {id(p) for p in student.parameters()}
    assert all(name.startswith("student.") for name in distiller.state_dict())


def test_teacher_follows_the_student_to_another_type_or_device(networks):
    student, teacher = networks
    Distiller(student, teacher, [SoftTargets()]).to(torch.float64)
    assert next(teacher.parameters()).dtype == torch.float64
    Distiller(student, teacher, [SoftTargets()]).to("meta")
    assert next(teacher.parameters()).is_meta


def test_weight_zero_switches_a_term_off(networks, batch):
    student, teacher = networks
    total, terms = Distiller(student, teacher, [HardLabels(1.0), SoftTargets(0.0)])(*batch)
    torch.testing.assert_close(total, terms["hard labels"])


def test_labels_alone_need_no_teacher(networks, batch):
    student, _ = networks
    total, terms = Distiller(student, None, [HardLabels()])(*batch)
    assert total == terms["hard labels"]


def test_terms_are_written_as_they_were_typed():
    terms = [
        HardLabels(0.1),
        HardLabels(1, label_smoothing=0.1),
        SoftTargets(0.9, temperature=4),
        LogitMatching(),
    ]
    assert [repr(term) for term in terms] == [
        "HardLabels(0.1)",
        "HardLabels(1, label_smoothing=0.1)",
        "SoftTargets(0.9, temperature=4)",
        "LogitMatching(1)",
    ]


@pytest.mark.parametrize("weight", [-0.1, float("nan"), float("inf")])
def test_weights_that_cannot_be(weight):
    with pytest.raises(ValueError, match=rf"weight of SoftTargets is {weight}"):
        SoftTargets(weight)


def test_temperature_is_checked_where_it_is_given():
    with pytest.raises(ValueError, match="temperature is 0"):
        SoftTargets(0.9, temperature=0)


def test_compositions_that_cannot_be(networks):
    student, teacher = networks
    with pytest.raises(ValueError, match="at least one term"):
        Distiller(student, teacher, [])
    with pytest.raises(ValueError, match="two terms have one name"):
        Distiller(student, teacher, [SoftTargets(0.5), SoftTargets(0.5, temperature=1)])
    with pytest.raises(ValueError, match=r"SoftTargets\(0\.9, temperature=4\.0\) needs a teacher"):
        Distiller(student, None, [HardLabels(0.1), SoftTargets(0.9)])
    with pytest.raises(ValueError, match=r"share \d+ weight tensors.*copy\.deepcopy"):
        Distiller(student, student, [SoftTargets()])
    other = copy.deepcopy(teacher)
    next(student.parameters()).data = next(other.parameters()).data
    with pytest.raises(ValueError, match=r"share 1 weight tensors"):
        Distiller(student, other, [SoftTargets()])


def test_teacher_of_other_classes(networks, batch):
    student, _ = networks
    teacher = create_model("convnet", 12, in_channels=1)
    with pytest.raises(ValueError, match=r"\(\d+, 10\).*\(\d+, 12\)"):
        Distiller(student, teacher, [SoftTargets()])(*batch)


def test_a_compiled_student_is_tapped_as_the_plain_one_is(batch):
    """Before and after an evaluation, which is compiled apart."""
    layers = ["layer1", "layer2", "layer3"]
    terms = [HardLabels(), Attention(1000, layers=layers), Hints(layers=layers), RKDDistance()]
    images, labels, *_ = batch
    student, teacher = (create_model("resnet8", 10, in_channels=1, seed=seed) for seed in (0, 1))
    compiled: torch.nn.Module = torch.compile(copy.deepcopy(student), backend="aot_eager")
    plain = Distiller(student, teacher, terms).connect(images)
    fast = Distiller(compiled, teacher, terms).connect(images)
    torch.testing.assert_close(fast(images, labels), plain(images, labels))
    with torch.no_grad():
        compiled.eval()(images)
    compiled.train()
    torch.testing.assert_close(fast(images, labels)[1], plain(images, labels)[1])
    fast(images, labels)[0].backward()
    plain(images, labels)[0].backward()
    ours, theirs = (dict(net.named_parameters()) for net in (compiled._orig_mod, student))
    for name in ours:
        torch.testing.assert_close(ours[name].grad, theirs[name].grad, rtol=1e-3, atol=1e-4)


class Projected(Term):
    """A term of a user's on logits: the student's, through a layer that is trained, against the teacher's."""

    name = "projected"
    has_connectors = True
    linear: nn.Linear

    def __init__(self, weight=1.0, needs_teacher=True):
        super().__init__(weight)
        self.needs_teacher = needs_teacher

    def connect(self, example):
        classes = 12 if example.teacher_logits is None else example.teacher_logits.shape[1]
        self.linear = nn.Linear(example.student_logits.shape[1], classes)

    def forward(self, outputs):
        projected = self.linear(outputs.student_logits)
        return losses.hard_label_loss(projected, outputs.labels if outputs.teacher_logits is None else
                                      outputs.teacher_logits.argmax(dim=1))  # fmt: skip


@pytest.mark.parametrize("taught", [True, False])
def test_a_term_on_logits_is_connected_and_trained_as_one_on_layers_is(networks, taught):
    student, teacher = networks[0], create_model("convnet", 12, in_channels=1, width=4, seed=1)
    data = load_data("digits")
    distiller = Distiller(student, teacher if taught else None, [Projected(needs_teacher=taught)])
    fit(distiller, data.train.balanced(50), test=data.test, epochs=1, progress=False, device="cpu")
    linear = distiller.terms[0].linear
    assert linear.weight.shape == (12, 10)
    torch.manual_seed(0)
    assert not torch.equal(linear.weight, nn.Linear(10, 12).weight), "it has moved from where seed 0 began"
    assert {"terms.0.linear.weight", "terms.0.linear.bias"} <= distiller.state_dict().keys()


def test_a_term_on_logits_is_given_both_networks_answers(networks, batch):
    seen = []

    class Looking(Projected):
        def connect(self, example):
            seen.append(example)
            super().connect(example)

    student, teacher = networks
    before = copy.deepcopy(student.state_dict())
    distiller = Distiller(student, teacher, [Looking()]).connect(batch.images[:3]).connect(batch.images)
    (example,) = seen
    assert (example.student, example.teacher) == (student, teacher)
    with torch.no_grad():
        torch.testing.assert_close(example.student_logits, copy.deepcopy(student).eval()(batch.images[:3]))
        torch.testing.assert_close(example.teacher_logits, teacher.eval()(batch.images[:3]))
    assert student.training
    assert all(torch.equal(before[name], value) for name, value in student.state_dict().items())
    assert list(distiller.terms[0].parameters())


def test_a_term_on_logits_that_was_not_connected_says_so(networks: tuple[nn.Module, nn.Module], batch):
    with pytest.raises(ValueError, match=r"Projected\(1\) trains modules that are not there yet; call"):
        Distiller(*networks, [HardLabels(), Projected()])(*batch)


def test_terms_without_connectors_are_not_tried(networks, batch):
    """A control teacher draws random numbers whenever it is asked."""
    student, teacher = networks
    control = ShuffledTeacher(teacher, seed=3)
    before = control._generator.get_state()
    Distiller(student, control, [HardLabels(), SoftTargets()]).connect(batch.images)
    assert torch.equal(control._generator.get_state(), before)


class TestProbabilities:
    """A teacher, or a student, that ends in a softmax."""

    @pytest.fixture
    def teacher(self, networks):
        teacher = networks[1]
        with torch.no_grad():
            teacher.classifier.weight.mul_(20)
        return teacher

    def test_a_teacher_of_probabilities_is_told_of_once(self, networks, teacher, batch):
        distiller = Distiller(networks[0], nn.Sequential(teacher, nn.Softmax(1)), [SoftTargets()])
        with pytest.warns(UserWarning, match="the teacher's answers look like probabilities"):
            distiller(*batch)
        distiller(*batch)  # a second warning would be an error

    def test_it_is_told_of_at_the_start_of_a_training(self, networks, teacher):
        train = load_data("digits").train.balanced(50)
        distiller = Distiller(networks[0], nn.Sequential(teacher, nn.Sigmoid()), [SoftTargets()])
        with pytest.warns(UserWarning, match="the teacher's answers") as told:
            fit(distiller, train, epochs=2, progress=False, device="cpu", precision="bf16-mixed")
        assert len(told) == 1

    def test_a_student_of_probabilities_is_told_of(self, networks, batch):
        with pytest.warns(UserWarning, match="the student's answers look like probabilities"):
            Distiller(nn.Sequential(networks[0], nn.Softmax(1)), None, [HardLabels()])(*batch)

    @pytest.mark.parametrize(
        "wrap",
        [
            lambda teacher: nn.Sequential(teacher, nn.LogSoftmax(1)),
            lambda teacher: MissingTeacher(teacher, 1.0),
            lambda teacher: lambda images: teacher(images).softmax(1).clamp_min(1e-9).log(),
        ],
        ids=["log-softmax", "missing", "the remedy"],
    )
    def test_nothing_is_said_of_logits(self, networks, teacher, batch, wrap):
        total, _ = Distiller(networks[0], wrap(teacher.eval()), [SoftTargets()])(*batch)
        assert total.isfinite()

    def test_nothing_is_said_where_only_layers_are_compared(self, networks, teacher, batch):
        ending = copy.deepcopy(teacher)
        ending.classifier = nn.Sequential(teacher.classifier, nn.Softmax(1))
        Distiller(networks[0], ending, [HardLabels(), Attention(layers="layer1")])(*batch)

    def test_logarithms_teach_what_the_logits_do(self, networks, teacher, batch):
        ending = nn.Sequential(teacher, nn.LogSoftmax(1))
        ours, theirs = (
            Distiller(networks[0], taught, [SoftTargets()])(*batch)[0] for taught in (teacher, ending)
        )
        torch.testing.assert_close(ours, theirs)


class Named(nn.Module):
    """A network with a module that is called as terms call the features before the classifier."""

    def __init__(self):
        super().__init__()
        self.classifier = nn.Linear(5, 10)
        self.embedding = nn.Conv2d(1, 3, 3)
        self.features = nn.Linear(3, 5)

    def forward(self, images):
        return self.classifier(self.features(self.embedding(images).mean((2, 3))))


def test_a_module_called_embedding_is_tapped_by_its_name_and_the_embedding_by_its_own(batch):
    torch.manual_seed(0)
    student, teacher = Named().eval(), Named().eval()
    images, labels, _ = batch
    with (
        tap(student, ["embedding", "classifier:input"]) as ours,
        tap(teacher, ["embedding", "classifier:input"]) as theirs,
    ):
        student(images)
        teacher(images)
    for layer, path in (
        ("embedding", "embedding"),
        (EMBEDDING, "classifier:input"),
        ([EMBEDDING], "classifier:input"),
    ):
        distiller = Distiller(student, teacher, [RKDDistance(25, layers=layer)])
        expected = losses.rkd_distance_loss(ours[path], theirs[path])
        torch.testing.assert_close(distiller(images, labels)[1]["rkd distance"], expected)
        assert (
            repr(distiller.terms[0]).replace("[", "").replace("]", "")
            == "RKDDistance(25, layers='embedding')"
        )


def test_the_name_means_the_embedding_where_no_module_is_called_so(networks, batch):
    """As chapters and recipes have it."""
    student, teacher = networks
    first, second = (
        Distiller(student, teacher, [RKDDistance(25, layers=layers)])(*batch)[0]
        for layers in ({EMBEDDING: EMBEDDING}, {"classifier:input": "embedding"})
    )
    torch.testing.assert_close(first, second)


def test_the_embedding_survives_copies(batch):
    distiller = Distiller(Named(), Named(), [copy.deepcopy(RKDDistance())])
    assert copy.deepcopy(distiller)(*batch)[0].isfinite()


class Overwriting(nn.Module):
    """A tapped layer, and after it one that writes over what it gave out, in training mode only."""

    def __init__(self, layer):
        super().__init__()
        self.layer1 = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
        self.layer = layer
        self.classifier = nn.Linear(4, 10)

    def forward(self, images):
        return self.classifier(self.layer(self.layer1(images)).mean((2, 3)))


@pytest.mark.parametrize("images", [1, 2, 5])
@pytest.mark.parametrize(
    "layer",
    [nn.Dropout(inplace=True), nn.Dropout2d(inplace=True), nn.RReLU(inplace=True), nn.ReLU(inplace=True)],
    ids=str,
)
def test_layers_that_are_overwritten_in_training_are_copied(networks, batch, layer, images):
    student = Overwriting(layer)
    statistics, generator = copy.deepcopy(student.state_dict()), torch.random.get_rng_state()
    distiller = Distiller(student, networks[1], [Hints(layers="layer1"), Attention(layers="layer1")])
    distiller.connect(batch.images[:images])
    assert student.training
    assert torch.equal(torch.random.get_rng_state(), generator)
    assert all(torch.equal(value, statistics[name]) for name, value in student.state_dict().items())
    _, values = distiller(*batch)
    maps = student.layer1(batch.images)
    with tap(networks[1], ["layer1"]) as theirs:
        networks[1].eval()(batch.images)
    torch.testing.assert_close(
        values["attention"], losses.attention_transfer_loss([maps], [theirs["layer1"]])
    )


def test_connecting_leaves_a_control_as_if_nobody_had_looked(networks, batch):
    student, teacher = networks
    control = ShuffledTeacher(teacher, seed=3)
    Distiller(student, control, [Attention(layers="layer1")]).connect(batch.images)
    assert torch.equal(control.eval()(batch.images), ShuffledTeacher(teacher, seed=3)(batch.images))


@pytest.mark.parametrize("size", [(32, 32), (32, 48), (36, 52)])
def test_maps_with_the_channels_last_are_turned(size):
    """Swin keeps them as (N, H, W, C); attention sums over channels and not over rows."""
    torch.manual_seed(0)
    teacher = SwinTransformer([4, 4], 12, [1, 1], [2, 2], [4, 4], num_classes=5).eval()
    student = create_model("resnet8", 5, seed=0)
    images, labels = torch.randn(6, 3, *size), torch.arange(6) % 5
    layers = {"layer1": "features.1", "layer2": "features.3"}
    distiller = Distiller(student, teacher, [Attention(layers=layers), Hints(layers=layers)])
    _, values = distiller.connect(images)(images, labels)
    with tap(student, list(layers)) as ours, tap(teacher, list(layers.values())) as theirs:
        student(images)
        teacher(images)
    turned = [maps.permute(0, 3, 1, 2) for maps in theirs.values()]
    assert [maps.shape[1] for maps in turned] == [12, 24]
    expected = losses.attention_transfer_loss(list(ours.values()), turned)
    torch.testing.assert_close(values["attention"], expected)


@pytest.mark.parametrize("shape", [(8, 8, 8), (9, 8, 8), (8, 8, 1), (7, 1, 1), (12, 8, 12)])
def test_maps_with_the_channels_first_are_not_turned(networks, shape):
    class Giving(Named):
        def forward(self, images):
            self.embedding(images)
            maps = self.place(images.mean() + torch.arange(2.0 * torch.tensor(shape).prod()).view(2, *shape))
            return self.classifier(maps.flatten(1)[:, :5])

    student = Giving()
    student.place = nn.Identity()
    distiller = Distiller(student, networks[1], [Hints(layers={"place": "layer1"})])
    images = torch.randn(2, 1, 8, 12 if shape == (12, 8, 12) else 8)
    distiller.connect(images)
    assert distiller.terms[0].connectors[0].convolution.in_channels == shape[0]


def test_one_term_alone_and_a_student_that_is_no_network(networks):
    student, teacher = networks
    with pytest.raises(
        ValueError, match=r"terms is SoftTargets\(1, temperature=4.0\) alone; give a list, \[Soft"
    ):
        Distiller(student, teacher, SoftTargets())
    with pytest.raises(ValueError, match="the student is a method; give a network"):
        Distiller(student.forward, teacher, [SoftTargets()])


def test_layers_of_functions_are_refused(networks):
    student, teacher = networks
    for term in (Attention(layers="layer1"), RKDDistance()):
        with pytest.raises(
            ValueError, match=r"a function, whose layers cannot be tapped; give the nn\.Module"
        ):
            Distiller(student, teacher.forward, [HardLabels(), term])


def test_a_term_that_cannot_be_copied_is_used_itself(networks, batch):
    student, teacher = networks
    term = SoftTargets()
    term.latest = torch.ones(1, requires_grad=True) * 2  # with a history
    assert Distiller(student, teacher, [term])(*batch)[0].isfinite()
