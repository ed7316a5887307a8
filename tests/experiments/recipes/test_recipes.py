"""Reading, merging, naming and hashing of recipes, on families made up for it."""

import dataclasses
import json
import os
import subprocess
import sys

import pytest
import torch

from kdlib.experiments.recipes import DataSpec, find_recipes, load_family

from .conftest import BASE

TAUGHT = """
[singles.teacher]
student.options.width = 16
[singles.taught]
teacher = "made/teacher@100"
terms = [{kind = "HardLabels", weight = 0.1}, {kind = "SoftTargets", weight = 0.9, temperature = 4}]
"""


def one(name, profile="full", **settings):
    (recipe,) = find_recipes(name, profile, {key.replace("__", "."): text for key, text in settings.items()})
    return recipe


def test_a_single_changes_the_base_key_by_key(write):
    write("[singles.wide]\nstudent.options.width = 8\ntraining.epochs = 5\n")
    recipe = one("made/wide")
    assert recipe.student.options == {"width": 8}
    assert (recipe.training.epochs, recipe.training.batch_size) == (5, 64)
    assert (recipe.name, recipe.family, recipe.profile, recipe.seeds) == ("made/wide", "made", "full", (0, 1))
    assert recipe.as_dict()["name"] == "made/wide"
    assert json.loads(json.dumps(recipe.as_dict())) == recipe.as_dict()


def test_lists_are_replaced_whole_and_numbers_may_lack_a_point(write):
    write("[singles.a]\nterms = [{kind = 'HardLabels', weight = 2}]\ntraining.learning_rate = 1\n")
    recipe = one("made/a")
    (term,) = recipe.build_terms()
    assert term.weight == 2
    assert isinstance(recipe.training.learning_rate, float)


def test_what_belongs_to_a_name_goes_with_it(write):
    write(
        """
[singles.network]
student.name = "resnet8"
[singles.optimizer]
training.optimizer = "AdamW"
[singles.data]
data = {name = "digits", size = 16, train_images = 100}
[singles.more]
student = {name = "convnet", options = {}}
[profiles.quick.only.singles.data]
data.name = "cifar10"
"""
    )
    assert one("made/network").student.options == {}
    assert one("made/optimizer").training.optimizer_options == {}
    assert one("made/more").student.options == {"width": 4}
    assert one("made/data").data.train_images == 100
    assert one("made/data", "quick").data.train_images is None


def test_a_grid_has_every_combination_with_its_options_in_placeholders(write):
    write(
        """
[grids.g.base]
seeds = [7]
[grids.g.size.small]
student.options.width = 2
[grids.g.size.large]
student.options.width = 12
[grids.g.method.alone]
[grids.g.method.taught]
teacher = "made/g/{size}/alone@100"
terms = [{kind = "LogitMatching"}]
"""
    )
    found = find_recipes("made/g/*")
    assert [recipe.name.removeprefix("made/g/") for recipe in found] == [
        "small/alone",
        "small/taught",
        "large/alone",
        "large/taught",
    ]
    assert {recipe.seeds for recipe in found} == {(7,)}
    assert found[3].teacher.recipe.student.options == {"width": 12}
    assert str(found[3].teacher) == "made/g/large/alone@100"
    assert find_recipes("made/g/?????/taught") == [found[1], found[3]]


def test_a_teacher_of_the_runs_own_seed(write):
    write(
        """
[singles.teacher]
data = {train_images = 20, draw = "per-seed"}
[singles.taught]
teacher = "made/teacher@seed"
terms = [{kind = "LogitMatching"}]
[singles.fixed]
teacher = "made/teacher@0"
terms = [{kind = "LogitMatching"}]
"""
    )
    recipe = one("made/taught")
    assert [str(run) for run in recipe.needs(7)] == ["made/teacher@7"]
    assert recipe.as_dict()["teacher"]["seed"] is None
    assert recipe.digest != one("made/fixed").digest


def test_images_drawn_with_the_seed_of_the_run():
    spec = DataSpec("digits", train_images=20, draw="per-seed")
    first, again, other = (spec.load(seed).train for seed in (1, 1, 2))
    assert first.labels.bincount().tolist() == [2] * 10
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)
    once = DataSpec("digits", train_images=20)
    assert torch.equal(once.load(5).train.images, once.load().train.images)
    with pytest.raises(ValueError, match=r"per-seed.*add train_images"):
        DataSpec("digits", draw="per-seed")
    few = DataSpec("digits", train_images=9, draw="per-seed")
    with pytest.raises(ValueError, match=r"size is 9; choose from 10 \(one image a class\)"):
        few.load()


def test_profiles_change_size_and_schedule_and_come_last(write):
    write(
        TAUGHT
        + """
[profiles.short]
training.epochs = 1
seeds = [3]
[profiles.short.only.singles.teacher]
training.epochs = 9
"""
    )
    taught = one("made/taught", "short")
    assert (taught.training.epochs, taught.seeds) == (1, (3,))
    assert taught.teacher.recipe.training.epochs == 9
    assert taught.teacher.recipe.profile == "short"
    assert one("made/taught", "quick").digest == one("made/taught").digest != taught.digest


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("training.learning_rate = 1.0", "training.learning_rate"),
        ("student.initial = 'default'", "student.initial"),
        ("teacher = ''", "'teacher'"),
    ],
)
def test_a_profile_may_not_change_the_method(write, change, what):
    with pytest.raises(ValueError, match=rf"made\.toml: profiles\.short changes .*{what}.*schedule and size"):
        write(f"[singles.a]\n[profiles.short]\n{change}\n")


def test_a_profile_may_change_the_layers_of_a_term_and_no_more(write):
    term = "terms = [{kind = 'Hints', weight = %s, layers = ['layer1', '%s']}]\n"
    lines = TAUGHT + "[singles.hints]\nteacher = 'made/teacher@100'\n" + term % (2, "layer4")
    write(lines + "[profiles.quick.only.singles.hints]\n" + term % (2, "layer3"))
    assert one("made/hints", "quick").terms[0].options["layers"] == ["layer1", "layer3"]
    write(lines + "[profiles.quick.only.singles.hints]\n" + term % (3, "layer3"))
    with pytest.raises(ValueError, match=r"quick.*changes the terms"):
        one("made/hints", "quick")


def test_one_content_has_one_digest_and_every_change_of_it_another(write):
    write(
        TAUGHT
        + """
[singles.same]
teacher = "made/twin@100"
terms = [{kind = "HardLabels", weight = 0.1}, {weight = 0.9, kind = "SoftTargets"}]
[singles.twin]
student.options.width = 16
"""
    )
    taught = one("made/taught")
    assert taught.digest == one("made/same").digest
    assert len(taught.digest) == 12
    assert dataclasses.replace(taught, name="x/y", seeds=(9,), profile="quick").digest == taught.digest
    changes = {
        "training__epochs": "3", "training__precision": "32-true", "data__size": "16",
        "data__normalize": "0.5", "student__initial": "kaiming-xavier",
        "student__start": "made/teacher@1", "terms__1__temperature": "2",
        "teacher": "made/teacher@101", "augmentation__train": "[{kind = 'RandomFlip'}]",
        "first_stage": "{terms = [{kind = 'HardLabels'}], epochs = 1}",
    }  # fmt: skip
    digests = {one("made/taught", **{key: text}).digest for key, text in changes.items()}
    assert len(digests | {taught.digest}) == len(changes) + 1


def test_a_change_of_the_teacher_changes_its_students(write):
    write(TAUGHT)
    before = one("made/taught").digest
    write(TAUGHT, BASE.replace("batch_size = 64", "batch_size = 32"))
    changed = one("made/taught", training__batch_size="64")
    assert changed.training == dataclasses.replace(changed.training, batch_size=64)
    assert changed.digest != before


def test_a_digest_is_the_same_in_another_process(write, tmp_path):
    write(TAUGHT)
    code = "from kdlib.experiments.recipes import find_recipes; print(find_recipes('made/taught')[0].digest)"
    environment = os.environ | {"KDLIB_RECIPES": str(tmp_path), "PYTHONHASHSEED": "1"}
    answer = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == one("made/taught").digest


def test_kdlib_itself_does_without_pydantic():
    code = "import sys, kdlib; assert 'pydantic' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_settings_are_read_as_toml_and_leave_the_teacher_alone(write):
    write(TAUGHT)
    taught = one(
        "made/taught", training__epochs="3", student__name="resnet8", terms__1__temperature="2",
        data__train_images="50", training__scheduler="LinearLR",
    )  # fmt: skip
    assert (taught.training.epochs, taught.student.name, taught.student.options) == (3, "resnet8", {})
    assert taught.build_terms()[1].temperature == 2
    assert taught.data.load().train.images.shape[0] == 50
    assert taught.teacher.recipe == one("made/teacher")
    assert taught.settings["training.epochs"] == 3
    assert one("made/taught").settings == {}


def test_a_crop_takes_the_size_of_the_data(write):
    write("[singles.a]\ndata.size = 12\naugmentation = {train = [{kind = 'RandomResizedCrop'}]}\n")
    assert one("made/a").augmentation.train[0].size == 12


def test_the_data_may_be_normalised_by_a_half(write):
    write("[singles.a]\ndata.normalize = 0.5\n")
    data = one("made/a").data.load()
    for split in (data.train, data.test):
        assert (split.mean, split.std) == ((0.5,), (0.5,))


def test_a_run_may_start_from_another_and_imagenet_is_no_run(write):
    write(
        "[singles.a]\n[singles.b]\nstudent.start = 'made/a@5'\n[singles.c]\nstudent.name = 'resnet18'\n"
        "student.start = 'imagenet'\n"
    )
    assert one("made/b").start == (one("made/a"), 5)
    assert one("made/b").as_dict()["start"] == {
        "recipe": "made/a",
        "digest": one("made/a").digest,
        "seed": 5,
    }
    assert (one("made/c").start, one("made/c").student.start) == (None, "imagenet")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("training.epoch = 1", "training has no key 'epoch'; did you mean 'epochs'"),
        ("training.epochs = 'ten'", "training.epochs is 'ten'; write a whole number"),
        ("training.epochs = 2.0", "training.epochs is 2.0; write a whole number"),
        ("training.epochs = true", "training.epochs is True; write a whole number"),
        ("training.epochs = 0", "training.epochs is 0; it must be above 0"),
        ("training.scheduler_step = 'week'", "scheduler_step is 'week'; write 'step' or 'epoch'"),
        ("training.optimizer = 'SDG'", "no optimiser called 'SDG'; did you mean 'SGD'"),
        ("training.optimizer_options = {momentun = 1}", "SGD has no option 'momentun'"),
        ("training.scheduler = 'StepLr'", "did you mean 'StepLR'"),
        ("training.scheduler_options = {gamma = 1}", "scheduler_options and no scheduler"),
        ("training.weight_decay = -1", "weight_decay is -1.0; it must be 0 or more"),
        ("training.weight_decay = nan", "training: weight_decay is nan; it must be 0 or more, and finite"),
        ("training.learning_rate = inf", "training.learning_rate is inf; it must be finite"),
        ("training.learning_rate = nan", "training.learning_rate is nan; it must be finite"),
        ("training.test_every = 1.5", r'test_every is 1.5; write a whole number or nothing \(""\)'),
        ("training.batch_size = 2.5", "training.batch_size is 2.5; write a whole number"),
        ("training.batch_size = true", "training.batch_size is True; write a whole number"),
        ("training.optimizer_options = {momentum = 'high'}", "training: momentum of SGD is 'high'"),
        ("training.optimizer_options = {nesterov = 'no'}", "nesterov of SGD is 'no'; write true or false"),
        (
            "training = {scheduler = 'StepLR', scheduler_options = {step_size = 'x'}}",
            "training: step_size of StepLR is 'x'; write a finite number",
        ),
        (
            "training = {scheduler = 'MultiStepLR', scheduler_options = {milestones = '3,5'}}",
            r"training: milestones of MultiStepLR is '3,5'; write a list of whole numbers .* \[3, 5\]",
        ),
        ("training.scheduler = 'StepLR'", "StepLR needs other options than {}: .*step_size"),
        ("training.optimizer_options = {momentum = 1979-05-27}", "momentum is the date 1979-05-27; write"),
        ("student.options.width = 07:32:00", "student.options.width is the time 07:32:00; write a"),
        ("training.precision = 'bf16'", "precision is 'bf16'; there are: auto"),
        ("data.name = 'cifar'", "'cifar', which is no data set; did you mean 'cifar10'"),
        ("data.division = 'mine'", "data.division is 'mine'; write 'published' or 'honest'"),
        ("student.name = 'resnet-20'", "did you mean 'resnet20'"),
        ("student.options.wide = 1", "convnet does not take these options"),
        ("student.options.weights = 'DEFAULT'", 'write start = "imagenet" instead'),
        ("student = 'convnet'", "student is 'convnet'; write a table"),
        ("terms = []", "terms is empty; write at least one"),
        ("terms = {kind = 'HardLabels'}", "write a list"),
        ("terms = [3]", "terms.0 is 3; write a table"),
        ("terms = [{kind = 'SoftTarget'}]", "no term 'SoftTarget'; did you mean 'SoftTargets'"),
        ("terms = [{kind = 'HardLabels', wait = 1}]", "'wait'; did you mean 'weight'"),
        ("terms = [{kind = 'HardLabels', weight = -1}]", "the weight of HardLabels"),
        ("terms = [{kind = 'HardLabels', weight = 'x'}]", "HardLabels.weight is 'x'; write a number"),
        ("terms = [{kind = 'HardLabels', weight = true}]", "HardLabels.weight is True; write a number"),
        ("terms = [{kind = 'SoftTargets', standardize = 'no'}]", "standardize is 'no'; write true or false"),
        ("terms = [{kind = 'Attention', layers = true}]", "Attention refuses"),
        ("terms = [{kind = 'Attention', layers = ['a'], weights = 'b'}]", "weights is 'b'; write a list"),
        ("terms = [{kind = 'CRD', labels = [0]}]", "terms: CRD has no key 'labels'; did you mean 'layers'"),
        ("terms = [{kind = 'Attention'}]", "terms: Attention has no 'layers'; add it"),
        ("terms = [{kind = 'SoftTargets'}]", "SoftTargets, which needs a teacher"),
        ("teacher = 'made/b@1'\n[singles.b]", 'no term listens to it; write teacher = ""'),
        ("teacher = 'made/b'", 'teacher is \'made/b\'; write a recipe and a seed'),
        ("teacher = 'made/aa@1'", "no recipe is called 'made/aa'; did you mean 'made/a'"),
        ("teacher = 'mad/a@1'", "no family of recipes 'mad'; did you mean 'made'"),
        ("augmentation = {train = [{kind = 'Flip'}]}", "the kind 'Flip'; there are: .*RandomFlip"),
        ("augmentation = {train = [{kind = 'RandomCrop', pad = 1}]}", "has no key 'pad'"),
        ("augmentation = {train = [{kind = 'RandomCrop', padding = true}]}", "RandomCrop.padding is True"),
        ("augmentation = {train = [{kind = 'RandomErasing', scale = 1}]}", "scale is 1; write a list"),
        ("augmentation = {train = [{kind = 'RandomErasing', scale = [1, 2, 3]}]}", "write a list of 2"),
        ("augmentation = {training = []}", "'training'; did you mean 'train'"),
        ("first_stage = {terms = [{kind = 'HardLabels'}]}", "first_stage has no 'epochs'; add it"),
        ("seeds = [0.5]", "seeds.0 is 0.5; write a whole number"),
        ("seeds = [true]", "seeds.0 is True; write a whole number"),
        ("seeds = []", r"seeds is \[\]; write one whole number or more, none below 0"),
        ("seeds = [1, -1]", r"seeds is \[1, -1\]; write one whole number or more, none below 0"),
        ("seeds = [1, 1]", r"seeds is \[1, 1\]; write one whole number or more, none below 0 and none twice"),
    ],
)  # fmt: skip
def test_bad_recipes_say_file_recipe_key_value_and_remedy(write, lines, said):
    write(f"[singles.a]\n{lines}")
    with pytest.raises(ValueError, match=rf"made\.toml, made/a \(full\): .*{said}"):
        find_recipes("made/a")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("[single.a]", "has no key 'single'; did you mean 'singles'"),
        ("[singles.a]\nstudents = {}", "singles.a has no key 'students'; did you mean 'student'"),
        ("[grids.g.axis.a]\ntraing.epochs = 1", "axis.a has no key 'traing'; did you mean 'training'"),
        ("[grids.g]\naxis = 1", "grids.g.axis is 1; write a table"),
        ("[singles.a]\n[profiles.slow]\n", "profiles has no key 'slow'"),
        ("[singles.a]\n[profiles.short.only.singles.b]", "only.singles has no key 'b'"),
        ("[singles.a]\n[profiles.short.only.axis.b]", "profiles.short.only has no key 'axis'"),
        ("[singles.a]\ntraining.epochs = ", "is not TOML: "),
    ],
)  # fmt: skip
def test_bad_families_say_where(write, lines, said):
    with pytest.raises(ValueError, match=rf"made\.toml.*{said}"):
        write(lines)


def test_a_family_needs_a_title_a_source_seeds_and_a_base(write):
    with pytest.raises(ValueError, match=r"made\.toml: it has no 'source'; add it"):
        write("", 'title = "x"\nseeds = [0]\n[base]\n')


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("title = 3", "title is 3; write text"),
        ("source = ['x']", r"source is \['x'\]; write text"),
        ("seeds = []", r"seeds is \[\]; write one whole number or more"),
        ("seeds = [-1]", r"seeds is \[-1\]; write one whole number or more, none below 0"),
        ("seeds = 0", "seeds is 0; write a list"),
    ],
)
def test_title_source_and_seeds_of_a_family_are_what_they_should_be(write, line, said):
    key = line.partition(" ")[0]
    lines = [line if old.startswith(f"{key} =") else old for old in BASE.splitlines()]
    with pytest.raises(ValueError, match=rf"made\.toml: {said}"):
        write("\n[singles.a]\n", "\n".join(lines))


def test_a_cosine_and_its_restarts_need_no_more_than_the_source_gives(write):
    write(
        """
[singles.cosine]
training.scheduler = "CosineAnnealingLR"
[singles.restarts]
training = {scheduler = "CosineAnnealingWarmRestarts", scheduler_options = {T_0 = 3, T_mult = 2}}
[singles.steps]
training = {scheduler = "MultiStepLR", scheduler_options = {milestones = [3, 5], gamma = 1}}
"""
    )
    assert one("made/cosine").training.scheduler_options == {}
    assert one("made/restarts").training.scheduler_options == {"T_0": 3, "T_mult": 2}
    assert one("made/steps").training.scheduler_options["milestones"] == [3, 5]


def test_a_base_needs_its_parts(write):
    write("[singles.a]", BASE.replace('data = {name = "digits"}\n', ""))
    with pytest.raises(ValueError, match=r"made\.toml, made/a \(full\): it has no 'data'; add it"):
        find_recipes("made/a")
    write("[singles.a]", BASE.replace("epochs = 2\n", ""))
    with pytest.raises(ValueError, match="training has no 'epochs'; add it"):
        find_recipes("made/a")
    write("[singles.a]", BASE.replace("epochs = 2\n", "epoch = 2\n"))
    with pytest.raises(ValueError, match="training has no key 'epoch'; did you mean 'epochs'"):
        find_recipes("made/a")


def test_teachers_in_a_circle_are_shown(write):
    taught = "teacher = 'made/%s@0'\nterms = [{kind = 'SoftTargets'}]\n"
    write(f"[singles.a]\n{taught % 'b'}[singles.b]\n{taught % 'c'}[singles.c]\n{taught % 'b'}")
    with pytest.raises(ValueError, match="in a circle, made/b → made/c → made/b"):
        find_recipes("made/a")


def test_a_start_may_close_a_circle_too(write):
    write("[singles.a]\nstudent.start = 'made/a@0'\n")
    with pytest.raises(ValueError, match="in a circle, made/a → made/a"):
        find_recipes("made/a")


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("made/teache", "no recipe is called 'made/teache'; did you mean 'made/teacher'"),
        ("mode/taught", "no family of recipes 'mode'; did you mean 'made'"),
        ("made", "no recipe is called 'made'"),
        ("", "no family of recipes ''"),
    ],
)
def test_an_unknown_name_lists_the_near_ones(write, pattern, said):
    write(TAUGHT)
    with pytest.raises(ValueError, match=said):
        find_recipes(pattern)


def test_an_unknown_profile_lists_them(write):
    write(TAUGHT)
    with pytest.raises(ValueError, match=r"no profile 'fast'.*full, short, quick"):
        find_recipes("made/taught", "fast")


@pytest.mark.parametrize(
    ("setting", "text", "said"),
    [
        ("training.epoch", "3", "training has no key 'epoch'"),
        ("terms.7.weight", "3", "terms.7.weight leads nowhere; the list has 2 items"),
        ("terms.x.weight", "3", "terms.x.weight leads nowhere"),
        ("training.epochs.x", "3", "training.epochs.x leads nowhere"),
        ("nothing", "3", "has no key 'nothing'"),
        ("seeds", "[-1]", r"seeds is \[-1\]; write one whole number or more, none below 0"),
        ("training.optimizer_options.nesterov", "False", "nesterov of SGD is 'False'; write true or false"),
        ("training.optimizer_options.momentum", "high", "momentum of SGD is 'high'; write a finite number"),
    ],
)
def test_bad_settings(write, setting, text, said):
    write(TAUGHT)
    with pytest.raises(ValueError, match=said):
        find_recipes("made/taught", settings={setting: text})


def test_milestones_without_their_brackets_are_no_list(write):
    write("[singles.a]\ntraining = {scheduler = 'MultiStepLR', scheduler_options = {milestones = [1]}}\n")
    with pytest.raises(ValueError, match="milestones of MultiStepLR is '3,5'; write a list of whole numbers"):
        find_recipes("made/a", settings={"training.scheduler_options.milestones": "3,5"})


def test_a_family_of_ones_own_may_not_hide_one_of_the_package(write, tmp_path):
    write(TAUGHT)
    (tmp_path / "cifar.toml").write_text(BASE, encoding="utf-8")
    with pytest.raises(ValueError, match=r"cifar\.toml has the name of a family of kdlib; rename it"):
        find_recipes("made/taught")


def test_there_is_no_family_of_that_name():
    with pytest.raises(ValueError, match="no family of recipes 'cifer'; did you mean 'cifar'"):
        load_family("cifer")
