"""The training loop: it learns, repeats itself, scores every image once, and says what is wrong."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from kdlib import (
    Attention,
    Distiller,
    HardLabels,
    Hints,
    SoftTargets,
    create_model,
    evaluate,
    fit,
    load_data,
    predict,
)
from kdlib.data import Split
from kdlib.experiments import RunRecord


@pytest.fixture(scope="module")
def data():
    return load_data("digits")


def network(width=4, seed=0):
    return create_model("convnet", 10, in_channels=1, width=width, seed=seed)


def quick(model, train, **changes):
    return fit(model, train, **({"epochs": 3, "progress": False, "device": "cpu"} | changes))


def weights(model):
    return torch.cat([weight.detach().flatten() for weight in model.state_dict().values()])


def test_a_network_learns_the_digits(data):
    record = quick(network(width=8), data.train, test=data.test, epochs=8)
    assert record.final["accuracy"] > 0.85
    assert record.epochs["loss"][-1] < record.epochs["loss"][0] / 2


def test_record_has_every_epoch_and_what_was_run(data):
    student, teacher = network(), network(width=8, seed=1)
    train = data.train.balanced(50)
    distiller = Distiller(student, teacher, [HardLabels(0.1), SoftTargets(0.9)])
    record = quick(distiller, train, test=data.test, seed=7, batch_size=20)
    measured = {"test_accuracy", "test_loss", "test_logit_difference"}
    assert set(record.epochs) == {"loss", "hard labels", "soft targets"} | measured
    assert {len(values) for values in record.epochs.values()} == {3}
    hard, soft, total = (record.epochs[name][0] for name in ("hard labels", "soft targets", "loss"))
    assert total == pytest.approx(0.1 * hard + 0.9 * soft, rel=1e-5)
    assert record.settings["terms"] == ["HardLabels(0.1)", "SoftTargets(0.9, temperature=4.0)"]
    assert record.settings["batch_size"] == 20
    assert record.data["fingerprint"] == train.fingerprint()
    assert record.data["train_images"] == 50
    assert record.data["source"].startswith("digits, train (stratified")
    assert record.seed == 7
    assert record.final == evaluate(student, data.test, teacher=teacher, device="cpu")
    assert record.final["accuracy"] == record.epochs["test_accuracy"][-1]


def test_reported_loss_is_the_mean_over_images_when_batches_differ_in_size(data):
    """A learning rate of next to nothing: the loss of the epoch is the loss of the untouched network."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).requires_grad_()
    train = data.train.subset(range(71))
    record = quick(model, train, epochs=1, learning_rate=1e-12, batch_size=64, augment=False)
    logits = predict(model, train, device="cpu")
    expected = nn.functional.cross_entropy(logits, train.labels).item()
    assert record.epochs["loss"][0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("size", [65, 97])
def test_one_image_more_costs_no_accuracy(data, size):
    """In batches of 32; what another choice of so many images would change is a few points."""
    found = []
    for count in (size // 32 * 32, size):
        model = network(width=8)
        quick(model, data.train.balanced(count), epochs=30, batch_size=32)
        found.append(evaluate(model, data.test, device="cpu")["accuracy"])
    assert found[1] > found[0] - 0.1


def test_one_image_more_can_be_normalised_where_maps_are_one_pixel(data):
    model = nn.Sequential(nn.Conv2d(1, 4, 8), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 10))
    assert quick(model, data.train.balanced(33), epochs=1, batch_size=32).epochs["loss"][0] > 0


def test_one_seed_gives_the_same_weights(data):
    train = data.train.balanced(60)
    models = [network() for _ in range(3)]
    for model, seed in zip(models, (0, 0, 1), strict=True):
        quick(model, train, seed=seed)
    assert torch.equal(weights(models[0]), weights(models[1]))
    assert not torch.equal(weights(models[0]), weights(models[2]))


def test_the_seed_reaches_the_connectors(data):
    """Projectors that all seeds share would make the spread over seeds too small."""
    first = []
    for seed in (0, 1, 0):
        distiller = Distiller(network(), network(width=8, seed=9), [Hints(layers="layer2")])
        quick(distiller, data.train.balanced(20), seed=seed, epochs=1, learning_rate=1e-12, weight_decay=0)
        first.append(next(distiller.terms.parameters()).detach().clone())
    assert not torch.allclose(first[0], first[1])
    assert torch.equal(first[0], first[2])


def test_seed_zero_counts_and_the_global_generator_does_not(data):
    """Not for dropout either, whose numbers are drawn from it."""
    models = [nn.Sequential(network(), nn.Dropout(0.3)) for _ in range(3)]
    for number, (model, seed) in enumerate(zip(models, (0, 0, 1), strict=True)):
        torch.manual_seed(number)
        before = torch.random.get_rng_state()
        quick(model, data.train.balanced(60), seed=seed)
        assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(weights(models[0]), weights(models[1]))
    assert not torch.equal(weights(models[0]), weights(models[2]))


@pytest.mark.parametrize(
    ("options", "schedule"),
    [
        ({}, lambda made: torch.optim.lr_scheduler.CosineAnnealingLR(made, T_max=8)),
        (
            {"scheduler": "StepLR", "scheduler_options": {"step_size": 4, "gamma": 0.5}},
            lambda made: torch.optim.lr_scheduler.StepLR(made, step_size=4, gamma=0.5),
        ),
        (
            {
                "scheduler": "StepLR",
                "scheduler_options": {"step_size": 1, "gamma": 0.5},
                "scheduler_step": "epoch",
            },
            lambda made: torch.optim.lr_scheduler.StepLR(made, step_size=4, gamma=0.5),
        ),
    ],
    ids=["cosine", "steps", "epochs"],
)
def test_it_is_the_loop_of_pytorchs_tutorials(data, options, schedule):
    """Written here once more, without all that `fit` does around it: two epochs of four steps."""
    train = data.train.balanced(64)
    ours, plain = network(), network().train()
    made = torch.optim.SGD(plain.parameters(), lr=0.05, momentum=0.8, nesterov=True, weight_decay=0.01)
    scheduler = schedule(made)
    for epoch in range(2):
        for batch in train.batches(16, seed=5, epoch=epoch, augment=True):
            made.zero_grad()
            nn.functional.cross_entropy(plain(batch.images), batch.labels).backward()
            made.step()
            scheduler.step()
    before = weights(ours)
    quick(
        ours, train, epochs=2, batch_size=16, seed=5, learning_rate=0.05, weight_decay=0.01,
        optimizer_options={"momentum": 0.8}, **options,
    )  # fmt: skip
    way = torch.dist(weights(plain), before)
    assert torch.dist(weights(ours), weights(plain)) < 1e-3 * way, "but for rounding"


@pytest.mark.parametrize("augment", [True, False])
def test_pictures_are_augmented_as_their_data_set_says_unless_told_otherwise(data, augment):
    train, seen = data.train.balanced(50), []

    class Watched(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = network()

        def forward(self, images):
            seen.extend(images if self.training else ())
            return self.net(images)

    quick(Watched(), train, epochs=1, batch_size=50, augment=augment)
    plain = {tuple(image.flatten().tolist()) for image in next(train.batches(50)).images}
    as_they_are = sum(tuple(image.flatten().tolist()) in plain for image in seen)
    assert as_they_are < 25 if augment else as_they_are == len(seen) == 50


def test_student_is_trained_in_training_mode_after_each_evaluation(data):
    modes = []

    class Watched(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = network()

        def forward(self, images):
            modes.append(self.training)
            return self.net(images)

    model = Watched()
    quick(model, data.train.balanced(50), test=data.test, batch_size=50)
    # First `accelerate` looks whether the network can be made faster.
    assert [mode for mode, _ in itertools.groupby(modes)] == [False, *[True, False] * 3]
    assert not model.training, "a trained network is ready to be used"


def test_what_comes_in_evaluation_mode_is_trained_in_training_mode(data):
    """As `fit` leaves it, which may be asked to go on with the same distiller."""
    distiller = Distiller(network(), None, [HardLabels()]).eval()
    quick(distiller, data.train.balanced(50), epochs=1, batch_size=10)
    assert int(distiller.student.layer1[1].num_batches_tracked) == 5


@pytest.mark.parametrize("batch_size", [1, 100, 598, 10_000])
def test_every_image_is_scored_once_whatever_the_batch_size(data, batch_size):
    model = network().eval()
    logits = predict(model, data.test, batch_size=batch_size, device="cpu")
    assert logits.shape == (len(data.test), 10)
    whole = predict(model, data.test, device="cpu")
    torch.testing.assert_close(logits, whole, rtol=1e-4, atol=1e-5)


def test_predict_leaves_the_network_as_it_was(data):
    model = network().train()
    before = weights(model)
    logits = predict(model, data.test, device="cpu")
    assert model.training
    assert torch.equal(before, weights(model))
    assert not logits.requires_grad


def test_evaluate_compares_with_the_teacher(data):
    model = network()
    assert evaluate(model, data.test, teacher=model, device="cpu")["agreement"] == 1.0


def test_a_teacher_of_other_classes_agrees_on_nothing(data):
    """It may teach by its layers; found out only after the last epoch, it would cost the whole run."""
    teacher = create_model("convnet", 20, in_channels=1, width=4, seed=1)
    distiller = Distiller(network(), teacher, [HardLabels(), Attention(layers=["layer1"])])
    record = quick(distiller, data.train.balanced(20), test=data.test, epochs=1)
    assert "accuracy" in record.final
    assert "agreement" not in record.final


def test_an_evaluation_takes_smaller_batches_where_memory_does_not_suffice(data):
    class Small(nn.Module):
        def __init__(self):
            super().__init__()
            self.network, self.sizes = network(), []

        def forward(self, images):
            self.sizes.append(len(images))
            if len(images) > 150:
                raise torch.OutOfMemoryError("too much")
            return self.network(images)

    model = Small()
    logits = predict(model, data.test, device="cpu")
    torch.testing.assert_close(logits, predict(model.network, data.test, device="cpu"))
    assert model.sizes == [599, 200, *data.test.batch_sizes(149)]
    with pytest.raises(ValueError, match="batch_size is 0; give 1 or more"):
        predict(model, data.test, batch_size=0)


@pytest.mark.parametrize(("side", "at_once"), [(32, 1024), (128, 64), (224, 20)])
def test_an_evaluation_computes_a_million_pixels_at_once(side, at_once):
    """Maps grow with the pixels: 1,024 photographs at once would take many times what a step does."""
    sizes = []

    class Seen(nn.Module):
        def forward(self, images):
            sizes.append(len(images))
            return images.flatten(1)[:, :2]

    photographs = torch.zeros(1, 3, side, side, dtype=torch.uint8).expand(2 * at_once, -1, -1, -1)
    labels = torch.zeros(len(photographs), dtype=torch.int64)
    predict(Seen(), Split(photographs, labels, ("a", "b"), (0.5,) * 3, (0.5,) * 3), device="cpu")
    assert sizes == [at_once, at_once]


def test_test_images_decide_nothing(data):
    with_test, without = network(), network()
    quick(with_test, data.train.balanced(60), test=data.test)
    quick(without, data.train.balanced(60))
    assert torch.equal(weights(with_test), weights(without))


def test_diverging_training_stops_with_a_reason(data):
    with pytest.raises(ValueError, match=r"student logits hold (nan|-?inf).*learning rate"):
        quick(network(), data.train, learning_rate=1e12)


@pytest.mark.parametrize("argument", ["epochs", "batch_size", "learning_rate"])
@pytest.mark.parametrize("value", [0, -1])
def test_arguments_out_of_range(data, argument, value):
    with pytest.raises(ValueError, match=rf"{argument} is {value}; it must be above 0"):
        quick(network(), data.train, **{argument: value})


@pytest.mark.parametrize("argument", ["epochs", "batch_size"])
def test_counts_are_whole_numbers(data, argument):
    with pytest.raises(ValueError, match=rf"{argument} is 2\.5; give a whole number"):
        quick(network(), data.train, **{argument: 2.5})


@pytest.mark.parametrize("seed", [-1, 1.5, 0.0, "0", None, 2**63])
def test_seeds_that_are_none(data, seed):
    with pytest.raises(ValueError, match=rf"^seed is {seed!r}; give a whole number, 0 or more\.$"):
        quick(network(), data.train, seed=seed)


def test_a_seed_of_numpys_is_one(data, tmp_path):
    record = quick(network(), data.train.balanced(20), epochs=1, seed=np.arange(3)[2])
    assert RunRecord.load(record.save(tmp_path / "record.json")).seed == 2


@pytest.mark.parametrize("argument", ["epochs", "batch_size", "learning_rate"])
def test_numbers_are_no_text(data, argument):
    with pytest.raises(ValueError, match=f"^{argument} is '3'; give a number"):
        quick(network(), data.train, **{argument: "3"})


@pytest.mark.parametrize("value", [0, -1, 1.5, "1"])
def test_epochs_between_two_tests(data, value):
    with pytest.raises(ValueError, match=f"^test_every is {value!r}; give a number of epochs, or None"):
        quick(network(), data.train, test_every=value)


def test_a_device_may_be_one_of_torchs(data):
    record = quick(network(), data.train.balanced(20), test=data.test, epochs=1, device=torch.device("cpu"))
    assert record.environment["device"].startswith("cpu")


@pytest.mark.parametrize("device", ["gpu", "cuda:99", None, torch.device("cuda", 99)])
def test_devices_that_are_not_there(data, device):
    with pytest.raises(ValueError, match=rf"device '{device}' cannot be used here"):
        predict(network(), data.test, device=device)


def test_progress_is_shown_where_it_is_asked_for(data, capsys):
    quick(network(), data.train.balanced(20), progress=True)
    assert "training" in capsys.readouterr().err
    quick(network(), data.train.balanced(20))
    assert capsys.readouterr().err == ""
