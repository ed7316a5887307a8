"""The families that the package ships: what each seed says, in every profile."""

import math

import pytest
import torch

from kdlib import Distiller, create_model
from kdlib.experiments.recipes import PROFILES, families, find_recipes
from kdlib.training.optim import make_optimizer, make_scheduler

SEEDS_FAMILIES = ("caltech", "cifar", "hymenoptera", "lab")
FAMILIES = (*SEEDS_FAMILIES, "few-labels")


def one(name, profile="full"):
    (recipe,) = find_recipes(name, profile)
    return recipe


def weights(recipe):
    return {term.kind: term.options["weight"] for term in recipe.terms}


def distinct(profile):
    found = [recipe for family in FAMILIES for recipe in find_recipes(f"{family}/*", profile)]
    return list({recipe.digest: recipe for recipe in found}.values())


def test_there_is_one_family_for_each_seed_and_one_of_ours():
    assert set(families()) == set(FAMILIES)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_recipe_resolves_and_keeps_its_method_in_every_profile(family, profile):
    found = find_recipes(f"{family}/*", profile)
    for recipe, full in zip(found, find_recipes(f"{family}/*"), strict=True):
        assert recipe.name == full.name
        assert [term.kind for term in recipe.terms] == [term.kind for term in full.terms]
        assert weights(recipe) == weights(full)
        assert recipe.training.learning_rate == full.training.learning_rate
        assert recipe.seeds
        for run in filter(None, (recipe.teacher, recipe.start)):
            assert run.recipe.profile == profile
            assert run.seed in (None, 100, *run.recipe.seeds)


@pytest.mark.parametrize("recipe", distinct("quick"), ids=lambda recipe: recipe.name)
def test_every_quick_recipe_builds_its_networks_and_terms_on_a_few_digits(recipe, quick_data):
    data = quick_data(recipe.data)
    networks = [
        create_model(spec.name, data.num_classes, in_channels=data.in_channels, **spec.options)
        for spec in (recipe.student, *([recipe.teacher.recipe.student] if recipe.teacher else []))
    ]
    student, teacher = (*networks, None)[:2]
    numbers = recipe.augmentation.draw(4, torch.Generator().manual_seed(0))
    images = recipe.augmentation(data.train.images[:4], data.train.mean, data.train.std, numbers)
    for terms in (recipe.build_terms(), *([recipe.first_stage.build_terms()] if recipe.first_stage else [])):
        distiller = Distiller(student, teacher, terms).connect(images)
        loss, _ = distiller(images, data.train.labels[:4])
        assert math.isfinite(float(loss.detach()))
    options = recipe.training
    optimizer = make_optimizer(
        options.optimizer, student, options.learning_rate, options.weight_decay,
        options.optimizer_options,
    )  # fmt: skip
    make_scheduler(options.scheduler, optimizer, 10, options.scheduler_options)


def test_cifar_is_as_its_table_of_settings_has_it():
    recipe = one("cifar/methods/cifar100/110-110/st-at")
    training = recipe.training
    assert (recipe.data.name, recipe.student.name, recipe.student.initial) == (
        "cifar100",
        "resnet110",
        "kaiming-xavier",
    )
    assert (training.epochs, training.batch_size, training.learning_rate, training.weight_decay) == (
        200,
        128,
        0.1,
        1e-4,
    )
    assert (training.optimizer, training.optimizer_options["momentum"]) == ("SGD", 0.9)
    assert not training.optimizer_options["nesterov"]
    assert training.scheduler_options["milestones"] == [100, 150]
    assert training.scheduler_step == "epoch"
    assert [type(step).__name__ for step in recipe.augmentation.train] == ["RandomCrop", "RandomFlip"]
    assert str(recipe.teacher) == "cifar/methods/cifar100/110-110/baseline@100"
    assert recipe.seeds == (0, 1, 2)
    names = {name.rpartition("/")[2] for name in (r.name for r in find_recipes("cifar/methods/*"))}
    assert names == {"baseline", "logit", "st", "at", "st-at", "fsp"}


def test_cifar_students_of_a_larger_teacher_share_their_baseline():
    assert one("cifar/methods/cifar10/110-20/baseline").digest == (
        one("cifar/methods/cifar10/20-20/baseline").digest
    )
    student = one("cifar/methods/cifar10/110-20/st")
    assert student.student.name == "resnet20"
    assert student.teacher.recipe.student.name == "resnet110"


def test_cifar_in_short_lowers_its_rate_where_full_does():
    full, short = (one("cifar/methods/cifar10/20-20/st", profile).training for profile in ("full", "short"))
    steps = math.ceil(50_000 / short.batch_size) * short.epochs
    for late, soon in zip(
        full.scheduler_options["milestones"], short.scheduler_options["milestones"], strict=True
    ):
        assert soon / steps == pytest.approx(late / full.epochs, abs=1 / steps)
    assert short.scheduler_step == "step"


def test_the_lab_searches_first_the_temperature_and_then_alpha_the_weight_of_the_soft_loss():
    for number in range(1, 11):
        searched = one(f"lab/temperature/{number}")
        assert searched.terms[1].options["temperature"] == number
        assert weights(searched) == {"HardLabels": 0.9, "SoftTargets": 0.1}
        searched = one(f"lab/alpha/{number / 10}")
        assert searched.terms[1].options["temperature"] == 4
        assert weights(searched) == pytest.approx({"HardLabels": 1 - number / 10, "SoftTargets": number / 10})
    assert one("lab/alpha/0.1").digest == one("lab/temperature/4").digest
    assert one("lab/alpha/0.5").digest == one("lab/response").digest
    assert one("lab/features").terms[1].options["layers"] == ["layer1", "layer2", "layer3", "layer4"]
    assert weights(one("lab/features")) == {"HardLabels": 1.0, "Hints": 0.1}
    training = one("lab/scratch").training
    assert (training.epochs, training.learning_rate) == (20, 0.001)


def test_caltech_has_eight_rows_and_no_t_squared():
    rows = find_recipes("caltech/schedule/*")
    assert len(rows) == 8
    assert len({row.digest for row in rows}) == 8
    taught = one("caltech/kd/with")
    assert taught.digest == one("caltech/schedule/1e-4/with").digest
    assert weights(taught) == pytest.approx({"HardLabels": 0.3, "SoftTargets": 0.7 / 5**2})
    assert weights(one("caltech/kd/squared")) == {"HardLabels": 0.3, "SoftTargets": 0.7}
    for recipe in find_recipes("caltech/temperature/*"):
        temperature = recipe.terms[1].options["temperature"]
        assert recipe.name == f"caltech/temperature/{temperature:g}"
        assert recipe.terms[1].options["weight"] == pytest.approx(0.7 / temperature**2, rel=1e-4)
    for recipe in find_recipes("caltech/alpha/*"):
        alpha = float(recipe.name.rpartition("/")[2])
        assert recipe.terms[0].options["weight"] == alpha
        if recipe.teacher is not None:
            assert recipe.terms[1].options["weight"] == pytest.approx((1 - alpha) / 9, rel=1e-4)


def test_caltech_teachers_are_pretrained_and_then_tuned_at_their_heads():
    for epochs in (30, 60):
        teacher = one(f"caltech/teacher-{epochs}")
        assert teacher.student.head_only
        assert teacher.training.epochs == epochs
        assert (teacher.start.recipe.data.name, teacher.start.seed) == ("caltech256", 100)
    pretrained = one("caltech/pretrained")
    assert pretrained.training.scheduler_options == {"T_0": 34560, "T_mult": 2, "eta_min": 9e-6}
    assert pretrained.training.epochs == 300
    assert {one(f"caltech/kd/{kd}").teacher.recipe.name for kd in ("with", "squared")} == {
        "caltech/teacher-30"
    }


@pytest.mark.parametrize("rate", ["1e-4", "2e-4"])
def test_caltechs_cosine_goes_from_one_to_a_tenth_as_its_formula_does(rate):
    recipe = one(f"caltech/schedule/{rate}-cosine/with").training
    steps = 40
    optimizer = make_optimizer(recipe.optimizer, torch.nn.Linear(1, 1), recipe.learning_rate, 0)
    schedule = make_scheduler(recipe.scheduler, optimizer, steps, recipe.scheduler_options)
    for step in range(steps + 1):
        factor = (1 + math.cos(step * math.pi / steps)) / 2 * (1 - 0.1) + 0.1
        assert optimizer.param_groups[0]["lr"] == pytest.approx(float(rate) * factor)
        optimizer.step()
        schedule.step()


def test_hymenoptera_mixes_labels_and_logits_by_the_weight_of_the_labels():
    for grid in ("alpha", "alpha-whole"):
        for alpha in (0, 0.5, 1):
            recipe = one(f"hymenoptera/{grid}/{alpha}")
            assert weights(recipe) == {"HardLabels": alpha, "LogitMatching": 1 - alpha}
            assert recipe.seeds == (0, 1, 2, 3)
            assert recipe.student.head_only == (grid == "alpha")
    training = one("hymenoptera/teacher").training
    assert (training.epochs, training.batch_size, training.learning_rate) == (25, 32, 0.001)
    assert training.scheduler_options == {"step_size": 7, "gamma": 0.1}


def test_hymenoptera_starts_from_imagenet_and_in_short_from_caltech():
    full, short = (one("hymenoptera/alpha/0.5", profile) for profile in ("full", "short"))
    assert (full.student.start, full.start) == ("imagenet", None)
    assert str(short.start) == "hymenoptera/backbone-resnet18@100"
    assert (short.start.recipe.data.name, short.start.recipe.data.size) == ("caltech101", 96)
    assert str(short.teacher.recipe.start) == "hymenoptera/backbone-resnet50@100"
    assert short.start.recipe.start is None


def test_hymenoptera_has_a_pretrained_teacher_on_any_machine():
    for student, first in (("lite0-short", None), ("resnet18", "hymenoptera/backbone-resnet18@100")):
        for trained in ("last", "whole"):
            recipe = one(f"hymenoptera/lite/{student}/{trained}/0.5", "short")
            assert recipe.student.head_only == (trained == "last")
            assert (recipe.start and str(recipe.start)) == first
            assert (recipe.student.normalize, recipe.data.size) == (None if first else 0.5, 128)
            teacher = recipe.teacher.recipe.student
            assert (teacher.name, teacher.start, teacher.normalize) == ("efficientnet_lite0", "imagenet", 0.5)


@pytest.mark.parametrize("profile", ["full", "short"])
@pytest.mark.parametrize("labels", [1, 3, 10])
def test_with_few_labels_all_arms_take_as_many_steps_and_a_teacher_knows_no_more_labels(labels, profile):
    arms = [one(f"few-labels/{arm}/{labels}", profile) for arm in ("labels", "same-pictures", "all-pictures")]
    images = [recipe.data.train_images or 6071 for recipe in arms]
    assert images == [101 * labels, 101 * labels, 6071]
    steps = [
        recipe.training.epochs * math.ceil(count / recipe.training.batch_size)
        for recipe, count in zip(arms, images, strict=True)
    ]
    assert max(steps) <= 1.02 * min(steps)
    for recipe in arms[1:]:
        assert recipe.teacher.seed is None
        taught = recipe.teacher.recipe
        assert (taught.data.train_images, taught.data.draw) == (101 * labels, "per-seed")
        assert (taught.student.head_only, taught.student.batch_norm) == (True, "kept")
