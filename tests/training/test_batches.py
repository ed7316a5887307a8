"""What researchers bring: loaders, optimisers, schedules, transforms of batches, callbacks."""

import itertools

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset
from torchvision.transforms import v2

from kdlib import (
    CRD,
    DKD,
    Distiller,
    HardLabels,
    Hints,
    SimilarityPreserving,
    SoftTargets,
    create_model,
    evaluate,
    fit,
    load_data,
    predict,
)
from kdlib.terms import LinearWarmUp

QUICK = {"epochs": 2, "device": "cpu", "progress": False, "learning_rate": 0.05}


def network(seed=0):
    return create_model("convnet", 10, in_channels=1, width=4, seed=seed)


def digits(count):
    """Normalised images and labels, as other people's data sets have them."""
    return next(load_data("digits").train.balanced(count).batches(count))


def tensors(count):
    return TensorDataset(*digits(count)[:2])


def same_weights(first, second):
    return all(
        torch.equal(a, b)
        for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


def as_dicts(loader, images="pixel_values", labels="labels"):
    """The batches of another loader as an HF data set's loader gives them."""

    class Dicts:
        def __iter__(self):
            return ({images: x, labels: y} for x, y in loader)

        def __len__(self):
            return len(loader)

    return Dicts()


# Batches


def test_batches_in_order_train_as_a_split_does():
    """Of one size, without augmentation, in one order: nothing else tells them apart."""
    batch = digits(30)
    parts = list(zip(batch.images.split(10), batch.labels.split(10), strict=True))
    ours, plain = network(), network().train()
    fit(ours, parts, accelerate=False, **QUICK)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = CosineAnnealingLR(optimizer, T_max=6)
    for images, labels in parts * 2:
        optimizer.zero_grad()
        nn.functional.cross_entropy(plain(images), labels).backward()
        optimizer.step()
        schedule.step()
    assert same_weights(ours, plain)


@pytest.mark.parametrize("keys", [("pixel_values", "labels"), ("image", "label"), ("images", "labels")])
def test_dicts_are_batches_too(keys):
    loader = DataLoader(tensors(30), batch_size=10)
    models = [network(), network()]
    fit(models[0], loader, **QUICK)
    record = fit(models[1], as_dicts(loader, *keys), test=as_dicts(loader, *keys), **QUICK)
    assert same_weights(*models)
    assert record.final == evaluate(models[0], loader, device="cpu")
    assert record.data == {"source": "Dicts", "batches": 3}


def test_one_seed_gives_one_order_and_what_the_network_draws_changes_it_not():
    class Watching(nn.Module):
        def __init__(self, drops):
            super().__init__()
            self.network, self.drops, self.seen = network(), drops, []

        def forward(self, images):
            if self.training:
                self.seen.append(images.sum().item())
            return nn.functional.dropout(self.network(images), 0.5) if self.drops else self.network(images)

    loader = DataLoader(tensors(40), batch_size=10, shuffle=True)
    models = [Watching(False), Watching(True), Watching(False)]
    for model, seed in zip(models, (0, 0, 1), strict=True):
        before = torch.get_rng_state()
        fit(model, loader, seed=seed, accelerate=False, **QUICK)
        assert torch.equal(before, torch.get_rng_state())
    first, drawing, other = (model.seen for model in models)
    assert first == drawing
    assert sorted(first) != first != other
    assert first[:4] != first[4:], "a new order in every epoch"


def test_workers_give_the_same_pictures():
    def noisy(batch):
        images, labels = torch.utils.data.default_collate(batch)
        return images + torch.randn(images.shape), labels

    models = [network(), network()]
    for model in models:
        fit(model, DataLoader(tensors(20), 10, shuffle=True, collate_fn=noisy, num_workers=1), **QUICK)
    assert same_weights(*models)


def test_stopped_in_an_epoch_and_resumed_gives_the_same_bits(tmp_path):
    loader = DataLoader(tensors(40), batch_size=10, shuffle=True)
    whole, stopped = network(), network()
    fit(whole, loader, **QUICK)

    def stop(step, _values):
        if step == 6:
            raise KeyboardInterrupt

    options = QUICK | {"checkpoint": tmp_path / "run"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kdlib.training.state._SECONDS_BETWEEN_CHECKPOINTS", -1)
        with pytest.raises(KeyboardInterrupt):
            fit(stopped, loader, on_step=stop, **options)
    resumed, steps = network(), []
    fit(resumed, loader, on_step=lambda step, _values: steps.append(step), **options)
    assert steps == [6, 7, 8]
    assert same_weights(resumed, whole)


def test_indices_reach_the_terms_that_remember_images():
    batch = digits(20)
    parts = [tuple(part[rows] for part in batch) for rows in (slice(0, 10), slice(10, 20))]
    terms = [CRD(labels=batch.labels, width=4, negatives=3)]
    assert fit(Distiller(network(), network(1), terms), parts, **QUICK).epochs["loss"][0] > 0
    with pytest.raises(ValueError, match="CRD has to know which images these are"):
        fit(Distiller(network(), network(1), terms), [part[:2] for part in parts], **QUICK)


def test_predict_and_evaluate_take_batches():
    data, model = tensors(25), network().eval()
    loader = DataLoader(data, batch_size=10)
    torch.testing.assert_close(predict(model, loader, device="cpu"), model(data.tensors[0]).detach())
    found = evaluate(model, loader, teacher=network(1), device="cpu")
    right = (model(data.tensors[0]).argmax(1) == data.tensors[1]).float().mean().item()
    assert found["accuracy"] == pytest.approx(right)
    shuffled = DataLoader(data, batch_size=10, shuffle=True)
    assert evaluate(model, shuffled, teacher=network(1), device="cpu") == pytest.approx(found)


@pytest.mark.parametrize(
    ("train", "words"),
    [
        (lambda: iter([]), "train is a list_iterator, which gives its batches once"),
        (lambda: (pair for pair in []), "train is a generator, which gives its batches once"),
        (lambda: [], "train is empty; give at least one batch"),
        (lambda: DataLoader(Stream()), "train is a DataLoader without a length"),
        (lambda: Short(), "train gave 1 batches, and its length is 3"),
        (lambda: [torch.zeros(2, 1, 8, 8)], "a batch of train is a Tensor; give"),
        (
            lambda: [{"x": 1, "label": 2}],
            "a batch of train has the keys 'x', 'label'; give the images as one",
        ),
        (lambda: [(torch.zeros(2, 1, 8, 8).byte(), torch.zeros(2))], "are of shape .* and type torch.uint8"),
        (lambda: [(torch.zeros(2, 1, 8, 8), [0, 1])], "the labels of a batch of train are a list"),
        (lambda: [(torch.zeros(2, 1, 8, 8), torch.zeros(3))], r"of shape \(3,\) .*, for 2 images"),
        (lambda: [(torch.zeros(0, 1, 8, 8), torch.zeros(0).long())], "a batch of train has no image"),
    ],
)
def test_what_are_no_batches(train, words):
    with pytest.raises(ValueError, match=words):
        fit(network(), train(), **QUICK)


class Stream(IterableDataset):
    def __iter__(self):
        return itertools.repeat((torch.zeros(1, 8, 8), 0))


class Short:
    def __iter__(self):
        return iter([digits(10)[:2]])

    def __len__(self):
        return 3


def test_test_images_that_change():
    class Turning:
        def __init__(self):
            self.turns = itertools.count()

        def __iter__(self):
            images, labels, _ = digits(20)
            shift = next(self.turns)
            return iter([(images, labels.roll(shift))])

        def __len__(self):
            return 1

    with pytest.raises(ValueError, match="another order the second time; give a DataLoader with shuffle=Fal"):
        evaluate(network(), Turning(), teacher=network(1), device="cpu")
    mixed = [(digits(10).images, torch.full((10, 10), 0.1))]
    with pytest.raises(
        ValueError, match=r"labels of the test images are of shape \(10, 10\); give class ind"
    ):
        evaluate(network(), mixed, device="cpu")


# Transforms of batches


@pytest.mark.parametrize("transform", [v2.MixUp, v2.CutMix])
def test_student_and_teacher_see_the_mixed_batch(transform):
    class Teacher(nn.Module):
        def __init__(self):
            super().__init__()
            self.network, self.seen = network(1), []

        def forward(self, images):
            self.seen.append(images.clone())
            return self.network(images)

    images, labels, _ = digits(20)
    teacher, mixed = Teacher(), []

    def mixing(*batch):
        mixed.append(transform(num_classes=10)(*batch))
        return mixed[-1]

    distiller = Distiller(network(), teacher, [HardLabels(0.5), SoftTargets(0.5)])
    options = QUICK | {"epochs": 1}
    record = fit(distiller, [(images, labels)], batch_transform=mixing, accelerate=False, **options)
    assert not torch.equal(mixed[0][0], images)
    assert torch.equal(teacher.seen[-1], mixed[0][0])
    before = network().train()(mixed[0][0])
    expected = nn.functional.cross_entropy(before, mixed[0][1]).item()
    assert record.epochs["hard labels"][0] == pytest.approx(expected, rel=1e-5)


def test_a_split_can_be_mixed_and_one_seed_mixes_alike():
    train, models = load_data("digits").train.balanced(40), [network() for _ in range(3)]
    for model, seed in zip(models, (0, 0, 1), strict=True):
        fit(model, train, seed=seed, batch_transform=v2.MixUp(num_classes=10), batch_size=20, **QUICK)
    assert same_weights(*models[:2])
    assert not same_weights(*models[1:])


def test_a_term_that_needs_class_indices_refuses_mixed_labels():
    distiller = Distiller(network(), network(1), [DKD()])
    with pytest.raises(ValueError, match=r"labels have shape \(20, 10\) .*; give 20 class indices"):
        fit(distiller, [digits(20)[:2]], batch_transform=v2.MixUp(num_classes=10), **QUICK)


@pytest.mark.parametrize("result", [None, (torch.zeros(3, 1, 8, 8), torch.zeros(3)), (1, 2)])
def test_a_transform_that_gives_no_batch(result):
    with pytest.raises(
        ValueError, match="batch_transform gave something else than images and labels, as many"
    ):
        fit(network(), [digits(10)[:2]], batch_transform=lambda *_: result, **QUICK)


# Optimisers and schedulers


def warm_up_and_cosine(optimizer, steps):
    warm_up = LinearLR(optimizer, start_factor=0.1, total_iters=2)
    return SequentialLR(optimizer, [warm_up, CosineAnnealingLR(optimizer, steps - 2)], milestones=[2])


def without_decay_of_norms(module):
    """Two groups, as timm and others divide them."""
    groups = [[], []]
    for weight in module.parameters():
        groups[weight.ndim < 2].append(weight)
    return torch.optim.AdamW(
        [{"params": groups[0], "weight_decay": 0.1}, {"params": groups[1], "weight_decay": 0.0}], lr=0.01
    )


def test_optimizer_and_scheduler_of_ones_own():
    batch = digits(30)
    parts = list(zip(batch.images.split(10), batch.labels.split(10), strict=True))
    ours, plain = network(), network().train()
    record = fit(
        ours, parts, optimizer=without_decay_of_norms, scheduler=warm_up_and_cosine, accelerate=False, **QUICK
    )
    optimizer = without_decay_of_norms(plain)
    schedule = warm_up_and_cosine(optimizer, 6)
    for images, labels in parts * 2:
        optimizer.zero_grad()
        nn.functional.cross_entropy(plain(images), labels).backward()
        optimizer.step()
        schedule.step()
    assert same_weights(ours, plain)
    assert record.settings["optimizer"]["function"].endswith("without_decay_of_norms")


def test_an_optimizer_that_is_made():
    models = [network(), network()]
    made = torch.optim.AdamW(models[0].parameters(), lr=0.01)
    train = load_data("digits").train.balanced(30)
    record = fit(models[0], train, optimizer=made, scheduler=None, **QUICK)
    options = QUICK | {"learning_rate": 0.01}
    fit(models[1], train, optimizer="AdamW", weight_decay=0.01, scheduler=None, **options)
    assert same_weights(*models)
    assert record.settings["optimizer"].startswith("AdamW")


def test_schedules_of_ones_own_are_resumed(tmp_path):
    train, whole, resumed = load_data("digits").train.balanced(40), network(), network()
    options = QUICK | {
        "optimizer": without_decay_of_norms, "scheduler": warm_up_and_cosine, "batch_size": 10
    }  # fmt: skip
    fit(whole, train, **options)

    def stop(step, _values):
        if step == 3:
            raise KeyboardInterrupt

    options |= {"checkpoint": tmp_path / "run"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kdlib.training.state._SECONDS_BETWEEN_CHECKPOINTS", -1)
        with pytest.raises(KeyboardInterrupt):
            fit(network(), train, on_step=stop, **options)
    fit(resumed, train, **options)
    assert same_weights(resumed, whole)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"optimizer": 3}, "optimizer is a int; give the name of a class of torch, or what makes one"),
        ({"optimizer": lambda module: module}, "optimizer makes a Distiller; have it return a Optimizer"),
        ({"optimizer": torch.optim.AdamW}, "optimizer could not be made: TypeError: 'Distiller' object"),
        (
            {"optimizer": without_decay_of_norms, "optimizer_options": {"lr": 1}},
            "there are optimizer_options",
        ),
        ({"scheduler": lambda *_: 3}, "scheduler makes a int; have it return a LRScheduler"),
        ({"scheduler": warm_up_and_cosine, "scheduler_options": {"T_max": 1}}, "there are scheduler_options"),
        ({"clip_norm": 0}, "clip_norm is 0; it must be above 0"),
        ({"accumulate": 1.5}, "accumulate is 1.5; give a whole number"),
    ],
)
def test_refused(options, words):
    with pytest.raises(ValueError, match=words):
        fit(network(), load_data("digits").train.balanced(20), **(QUICK | options))


def test_an_optimizer_that_leaves_out_a_connector():
    student = network()
    made = torch.optim.SGD(student.parameters(), lr=0.1)
    wide = create_model("convnet", 10, in_channels=1, width=8)
    distiller = Distiller(student, wide, [Hints(layers="layer2")])
    with pytest.raises(
        ValueError, match=r"the optimizer leaves out terms\.0\..*, which is to be trained; give"
    ):
        fit(distiller, load_data("digits").train.balanced(20), optimizer=made, **QUICK)
    with pytest.raises(ValueError, match=r"the optimizer leaves out student\."):
        fit(network(), load_data("digits").train.balanced(20), optimizer=made, **QUICK)


# Weights that follow the run


def test_a_weight_follows_the_progress_of_the_run():
    batch = digits(30)
    parts = list(zip(batch.images.split(10), batch.labels.split(10), strict=True))
    ours, plain, seen = network(), network().train(), []

    def weight(progress):
        seen.append(progress)
        return 0.5 + progress

    record = fit(Distiller(ours, None, [HardLabels(weight)]), parts, accelerate=False, **QUICK)
    steps = [number / 6 for number in range(6)]
    assert [place for place in seen if place in steps][-6:] == pytest.approx(steps)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule, losses = CosineAnnealingLR(optimizer, T_max=6), []
    for step, (images, labels) in enumerate(parts * 2):
        optimizer.zero_grad()
        loss = (0.5 + step / 6) * nn.functional.cross_entropy(plain(images), labels)
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
        schedule.step()
    for one, other in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    assert record.epochs["loss"] == pytest.approx([sum(losses[:3]) / 3, sum(losses[3:]) / 3], rel=1e-4)


def test_a_warm_up_goes_on_where_it_was(tmp_path):
    train, models = load_data("digits").train.balanced(40), [network(), network(), network()]

    def taught(model, **options):
        terms = [HardLabels(), SoftTargets(LinearWarmUp(1.0, 0.8))]
        options = QUICK | {"batch_size": 10, "test": load_data("digits").test} | options
        return fit(Distiller(model, network(1), terms), train, **options)

    def stop(step, _values):
        if step == 5:  # the checkpoint is from before the first epoch was evaluated
            raise KeyboardInterrupt

    whole = taught(models[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kdlib.training.state._SECONDS_BETWEEN_CHECKPOINTS", -1)
        with pytest.raises(KeyboardInterrupt):
            taught(models[1], checkpoint=tmp_path / "run", on_step=stop)
    resumed = taught(models[2], checkpoint=tmp_path / "run")
    assert same_weights(models[0], models[2])
    assert resumed.epochs == whole.epochs


# Clipping, parts of a batch, and callbacks


def test_gradients_are_clipped_to_their_common_norm():
    images, labels, _ = digits(20)
    ours, plain = network(), network().train()
    options = {"epochs": 1, "learning_rate": 0.1, "optimizer_options": {"momentum": 0, "nesterov": False}}
    fit(ours, [(images, labels)], clip_norm=0.01, weight_decay=0, accelerate=False, **(QUICK | options))
    nn.functional.cross_entropy(plain(images), labels).backward()
    norm = torch.stack([weight.grad.norm() for weight in plain.parameters()]).norm()
    assert norm > 0.01
    for own, weight in zip(ours.parameters(), plain.parameters(), strict=True):
        expected = weight.detach() - 0.1 * weight.grad * 0.01 / norm
        torch.testing.assert_close(own.detach(), expected, rtol=1e-4, atol=1e-6)


def test_a_batch_in_parts_has_the_gradients_of_the_whole():
    """Of a network without batch norm; 20 images in parts of 7, 7 and 6."""
    images, labels, _ = digits(20)
    models = [nn.Sequential(nn.Flatten(), nn.Linear(64, 10)) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    records = [
        fit(model, [(images, labels)], accumulate=parts, **QUICK)
        for model, parts in zip(models, (1, 3), strict=True)
    ]
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    assert records[1].epochs["loss"] == pytest.approx(records[0].epochs["loss"], rel=1e-5)
    assert records[1].settings["accumulate"] == 3
    assert "accumulate" not in records[0].settings


def test_relations_in_parts_are_those_of_a_part():
    images, labels, _ = digits(20)
    terms = [SimilarityPreserving(1.0, layers="layer2")]
    options = QUICK | {"epochs": 1, "learning_rate": 1e-9, "accelerate": False}
    found = [
        fit(Distiller(network(), network(1), terms), batches, accumulate=parts, **options).epochs["loss"]
        for batches, parts in (
            ([(images, labels)], 2),
            ([(images[:10], labels[:10]), (images[10:], labels[10:])], 1),
        )
    ]
    assert found[0] == pytest.approx(found[1], rel=1e-4)


def test_a_callback_sees_every_step_and_can_average_the_weights():
    student, steps = network(), []
    average = AveragedModel(student, multi_avg_fn=get_ema_multi_avg_fn(0.5))

    def each(step, values):
        steps.append((step, *values))
        average.update_parameters(student)

    fit(student, load_data("digits").train.balanced(40), batch_size=20, on_step=each, **QUICK)
    assert steps == [(number, "loss", "hard labels") for number in (1, 2, 3, 4)]
    assert not same_weights(average.module, student)
    assert evaluate(average, load_data("digits").test, device="cpu")["nll"] > 0


def test_a_callback_that_raises_says_where():
    def failing(step, _values):
        if step == 2:
            raise RuntimeError("out of order")

    with pytest.raises(RuntimeError, match="out of order") as caught:
        fit(network(), load_data("digits").train.balanced(20), on_step=failing, **QUICK)
    assert caught.value.__notes__ == ["in on_step, after step 1 of epoch 2"]
