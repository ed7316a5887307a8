"""Recipes in a file that lies anywhere, with modules of their own; and settings that reach other runs."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from kdlib.experiments import Store, find_recipes
from kdlib.experiments.recipes import recorded_recipe
from kdlib.experiments.recipes.family import _FAMILIES

from .conftest import BASE

LINES = """
[singles.teacher]
student.options.width = 8
[singles.taught]
teacher = "mine/teacher@100"
terms = [{kind = "HardLabels"}, {kind = "SoftTargets"}]
[singles.twice]
teacher = "mine/taught@seed"
terms = [{kind = "SoftTargets"}]
[singles.tuned]
student.start = "mine/teacher@100"
[grids.g.width.2]
student.options.width = 2
[grids.g.width.3]
student.options.width = 3
"""

TERM = """
from kdlib import create_model, data, models, terms


@terms.register("Gap")
class Gap(terms.Term):
    name = "gap"

    def __init__(self, weight: float = 1.0, power: int = 2, odd=None):
        super().__init__(weight, power=power, odd=odd)
        self.power = power

    def forward(self, outputs):
        return (outputs.student_logits - outputs.taught()).abs().pow(self.power).mean()


@models.register("tiny")
def tiny(num_classes, in_channels, width=2):
    return create_model("convnet", num_classes, in_channels=in_channels, width=width)


@data.register("halves")
def halves():
    return data.load_data("digits")
"""

USING = """
[singles.gap]
teacher = "mine/teacher@100"
terms = [{kind = "Gap", power = 3}]
[singles.tiny]
student = {name = "tiny", options = {width = 3}}
[singles.halves]
data = {name = "halves"}
"""


@pytest.fixture(autouse=True)
def nothing_registered(monkeypatch, tmp_path):
    """And nothing left behind."""
    monkeypatch.setattr("kdlib.own._OWN", {"term": {}, "network": {}, "data set": {}})
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delenv("KDLIB_RECIPES", raising=False)
    yield
    forget(tmp_path)


def forget(folder):
    """The modules from there, as a new process would."""
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(folder)):
            del sys.modules[name]


@pytest.fixture
def own(tmp_path):
    """Write mine.toml of the base, these lines and modules, in a folder of its own; its path."""

    def write(lines=LINES, name="mine", **modules):
        folder = tmp_path / "there"
        folder.mkdir(exist_ok=True)
        for module, text in modules.items():
            (folder / f"{module}.py").write_text(text)
        file = folder / f"{name}.toml"
        file.write_text((f"modules = {json.dumps(list(modules))}\n" if modules else "") + BASE + lines)
        return file

    return write


def names(pattern, **options):
    return [recipe.name for recipe in find_recipes(str(pattern), **options)]


def one(pattern, **settings):
    (recipe,) = find_recipes(
        str(pattern), "full", {key.replace("__", "."): text for key, text in settings.items()}
    )
    return recipe


def test_a_file_is_all_its_recipes_and_a_pattern_behind_it_some(own, monkeypatch):
    file = own()
    everything = ["mine/teacher", "mine/taught", "mine/twice", "mine/tuned", "mine/g/2", "mine/g/3"]
    assert names(file) == everything
    assert names(f"{file}:g/*") == ["mine/g/2", "mine/g/3"]
    monkeypatch.chdir(file.parent)
    for written in ("mine.toml", "./mine.toml", "../there/mine.toml"):
        assert names(written) == everything
    assert one("mine.toml:taught").teacher.recipe.name == "mine/teacher"


def test_a_recipe_finds_itself_and_its_family_again(own):
    (recipe,) = find_recipes(f"{own()}:g/2")
    assert find_recipes(recipe.among()) == [recipe]
    assert len(find_recipes(recipe.among("*"))) == 6
    (ours,) = find_recipes("cifar/methods/cifar10/20-20/st")
    assert (ours.among(), ours.among("*")) == (ours.name, "cifar/*")
    assert ours.file is None


def test_the_place_of_a_file_is_in_no_digest(own, monkeypatch):
    file = own()
    monkeypatch.setenv("KDLIB_RECIPES", str(file.parent))
    assert [recipe.digest for recipe in find_recipes("mine/*")] == [
        each.digest for each in find_recipes(str(file))
    ]
    assert one("mine/taught").own_code == ""


def test_teachers_may_be_those_of_the_course(own):
    file = own("[singles.a]\nteacher = 'lab/tangent/teacher@100'\nterms = [{kind = 'SoftTargets'}]\n")
    with pytest.raises(ValueError, match="no recipe is called 'lab/tangent/teacher'"):
        find_recipes(str(file))
    there = find_recipes("cifar/methods/cifar10/20-20/baseline", "quick")[0]
    file = own(f"[singles.a]\nteacher = '{there.name}@0'\nterms = [{{kind = 'SoftTargets'}}]\n")
    assert find_recipes(str(file), "quick")[0].teacher.recipe == there


def test_the_file_of_a_family_of_the_course_is_that_family():
    pattern = f"{_FAMILIES / 'lab.toml'}:response"
    assert find_recipes(pattern) == find_recipes("lab/response")


@pytest.mark.parametrize(
    ("pattern", "kind", "said"),
    [
        (
            "there/nothing.toml",
            FileNotFoundError,
            "there is no file 'there/nothing.toml'; give one of recipes",
        ),
        ("there/mine.toml:g/4", ValueError, r"mine\.toml has no recipe called 'g/4'; did you mean 'g/[23]'"),
        ("there/empty.toml", ValueError, r"empty\.toml has no recipe; add one, such as \[singles\.mine\]"),
        ("there/lab.toml", ValueError, r"lab\.toml has the name of a family of kdlib; rename it"),
        ("there", ValueError, "no family of recipes 'there'"),
    ],
)
def test_a_file_that_cannot_be_used_is_told(own, tmp_path, monkeypatch, pattern, kind, said):
    own(), own("", "empty"), own(name="lab")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind, match=said):
        find_recipes(pattern)


def test_what_was_registered_is_in_recipes(own):
    file = own(LINES + USING, my_things=TERM)
    (term,) = one(f"{file}:gap").build_terms()
    assert (type(term).__name__, term.power, term.needs_teacher) == ("Gap", 3, True)
    assert one(f"{file}:gap").as_dict()["terms"] == [{"kind": "Gap", "weight": 1.0, "power": 3, "odd": None}]
    assert one(f"{file}:tiny").student.options == {"width": 3}
    assert one(f"{file}:halves").data.load().num_classes == 10
    assert one(f"{file}:halves", data__size="8").data.division == "honest"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("terms = [{kind = 'Gap', power = 'x'}]", "Gap.power is 'x'; write a whole number"),
        ("terms = [{kind = 'Gap', pow = 3}]", "Gap has no key 'pow'; did you mean 'power'"),
        ("terms = [{kind = 'Gaps'}]", "there is no term 'Gaps'; did you mean 'Gap'"),
        ("student = {name = 'tiny', options = {wide = 3}}", "tiny does not take these options"),
        ("data = {name = 'halfs'}", "'halfs', which is no data set; did you mean 'halves'"),
    ],
)
def test_mistakes_in_what_was_registered_are_told(own, lines, said):
    file = own(f"{LINES}[singles.a]\nteacher = 'mine/teacher@100'\n{lines}\n", my_things=TERM)
    with pytest.raises(ValueError, match=rf"mine\.toml, mine/a \(full\): .*{said}"):
        find_recipes(f"{file}:a")


def test_annotations_may_be_text(own):
    text = "from __future__ import annotations\nfrom collections.abc import Sequence as Several\n"
    file = own(LINES + USING, my_things=text + TERM.replace("odd=None", "odd: Several[int] | None = None"))
    with pytest.raises(ValueError, match=r"Gap.odd.0 is 'x'; write a whole number"):
        one(f"{file}:gap", terms="[{kind = 'Gap', odd = ['x']}]")
    with pytest.raises(ValueError, match=r"Gap.power is 'x'"):
        one(f"{file}:gap", terms="[{kind = 'Gap', power = 'x'}]")


def test_other_code_is_another_run_and_a_comment_is_not(own, tmp_path):
    def folders():
        forget(tmp_path)
        pattern = own(LINES + USING, my_things=text)
        return {each.name[5:]: Store(tmp_path).folder(each, 0).path for each in find_recipes(str(pattern))}

    text = TERM
    before = folders()
    text = TERM + "# why\n"
    assert folders() == before
    text = TERM.replace(".abs()", "")
    after = folders()
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"gap", "tiny", "halves"}, "the others have nothing from there"
    assert {each.parent.name for each in before.values()} == {each.parent.name for each in after.values()}


def test_a_student_of_ones_own_teacher_is_another_run_with_it(own, tmp_path):
    lines = "[singles.a]\nstudent = {name = 'tiny'}\n[singles.b]\nteacher = 'mine/a@0'\n"
    lines += "terms = [{kind = 'SoftTargets'}]\n"
    first = one(f"{own(lines, my_things=TERM)}:b").own_code
    forget(tmp_path)
    assert one(f"{own(lines, my_things=TERM.replace('width=2', 'width=4'))}:b").own_code != first != ""


@pytest.mark.parametrize(
    ("modules", "said"),
    [
        ({}, r"modules has 'nowhere', which cannot be imported: ModuleNotFoundError: No module [^(]+\.$"),
        ({"broken": "x = 1\nx.y\n"}, r"'broken', .* AttributeError: .*'y' \(.*broken\.py, line 2\)"),
        ({"unread": "x = (\n"}, r"'unread', .* SyntaxError: .*\(unread\.py, line 1\)"),
        ({"json": ""}, r"'json', which is beside the file and in .*; give yours another name"),
        ({"taken": "from kdlib import models\n@models.register('vgg8')\ndef f(): ..."}, "'vgg8' already"),
    ],
)  # fmt: skip
def test_a_module_that_cannot_be_imported_is_told(own, modules, said):
    file = own(**modules)
    if not modules:
        file.write_text('modules = ["nowhere"]\n' + file.read_text())
    with pytest.raises(ValueError, match=rf"mine\.toml: .*{said}"):
        find_recipes(str(file))


def test_a_recorded_recipe_finds_its_file_and_its_modules(own, tmp_path):
    file = own(LINES + USING, my_things=TERM)
    fields = json.loads(json.dumps(one(f"{file}:gap").as_dict()))
    assert fields["file"] == str(file)
    import kdlib.own

    kdlib.own._OWN["term"].clear()
    forget(tmp_path)  # as in a new process
    assert recorded_recipe(fields).digest == fields["digest"]
    fields = json.loads(json.dumps(one(f"{file}:tiny").as_dict()))
    kdlib.own._OWN["network"].clear()
    forget(tmp_path)
    assert recorded_recipe(fields).digest == fields["digest"], "no run that it needs is of the file"
    fields = json.loads(json.dumps(one(f"{file}:gap").as_dict()))
    file.unlink()
    kdlib.own._OWN["term"].clear()
    with pytest.raises(
        ValueError, match="mine/gap cannot be run any more: there is no family of recipes 'mine'"
    ):
        recorded_recipe(fields)


@pytest.fixture
def pets(tmp_path):
    """A folder of pictures in two classes."""
    noise = np.random.default_rng(0)
    for label in ("ants", "bees"):
        (tmp_path / "pets" / label).mkdir(parents=True)
        for number in range(10):
            pixels = noise.integers(0, 256, (20, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pets" / label / f"{number}.png")
    return tmp_path / "pets"


def test_other_pictures_are_those_of_all_runs_before_too(own, pets):
    pictures = {"data__size": "24", "data__name": f"folder:{pets}"}
    recipe = one(f"{own()}:twice", **pictures, training__epochs="1", data__train_images="6")
    taught, teacher = recipe.teacher.recipe, recipe.teacher.recipe.teacher.recipe
    for each in (recipe, taught, teacher):
        assert (each.data.name, each.data.size, each.data.division) == (f"folder:{pets}", 24, "honest")
        assert each.data.load().num_classes == 2
    assert [each.training.epochs for each in (recipe, taught, teacher)] == [1, 2, 2]
    assert [each.data.train_images for each in (recipe, taught, teacher)] == [6, None, None]
    assert one(f"{own()}:tuned", **pictures).start.recipe == teacher
    ours = one("cifar/methods/cifar10/20-20/st", **pictures)
    assert {each.data.division for each in (ours, ours.teacher.recipe)} == {"honest"}


def test_a_start_on_other_pictures_keeps_them(own, pets):
    lines = "[singles.a]\ndata = {name = 'cifar10'}\n[singles.b]\nstudent.start = 'mine/a@0'\n"
    assert one(f"{own(lines)}:b", data__name=f"folder:{pets}").start.recipe == one(f"{own(lines)}:a")


def test_settings_for_the_teacher_and_the_first_weights(own):
    file = own()
    recipe = one(f"{file}:twice", teacher__training__epochs="5", teacher__teacher__training__epochs="7")
    taught, teacher = recipe.teacher.recipe, recipe.teacher.recipe.teacher.recipe
    assert [each.training.epochs for each in (recipe, taught, teacher)] == [2, 5, 7]
    assert taught == one(f"{file}:taught", training__epochs="5", teacher__training__epochs="7")
    assert one(f"{file}:tuned", start__seeds="[3]").start.recipe.seeds == (3,)
    sized = one(f"{file}:taught", data__size="16", teacher__data__size="12")
    assert (sized.data.size, sized.teacher.recipe.data.size) == (16, 12)
    assert one(f"{file}:taught", teacher="mine/g/2@1").teacher.recipe.name == "mine/g/2"


def test_what_was_set_for_a_teacher_is_in_the_record(own):
    recipe = one(f"{own()}:twice", teacher__training__epochs="5", data__size="16")
    fields = json.loads(json.dumps(recipe.as_dict()))
    assert fields["teacher"]["settings"] == {"data.size": 16, "training.epochs": 5}
    again = recorded_recipe(fields)
    assert again.digest == recipe.digest
    assert again.teacher.recipe == recipe.teacher.recipe


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"teacher__training__epochs": "3"},
            "teacher.training.epochs is set, and there is no teacher; leave it out",
        ),
        (
            {"start__training__epochs": "3"},
            "start.training.epochs is set, and there is no start; leave it out",
        ),
    ],
)
def test_settings_for_a_run_that_is_not_there(own, settings, said):
    with pytest.raises(ValueError, match=rf"mine/teacher \(full\): {said}"):
        one(f"{own()}:teacher", **settings)


def test_settings_of_the_teacher_are_checked_as_the_teachers(own):
    with pytest.raises(ValueError, match=r"mine/teacher \(full\): training has no key 'epoch'"):
        one(f"{own()}:taught", teacher__training__epoch="3")


def test_a_folder_is_the_same_from_everywhere(own, pets, tmp_path, monkeypatch):
    lines = "[singles.a]\ndata = {name = 'folder:../pets', size = 16}\n"
    here = one(f"{own(lines)}:a")
    assert here.data.load().num_classes == 2, "a path in a file begins at the file"
    monkeypatch.chdir(tmp_path)
    assert one(f"{own(lines)}:a").digest == here.digest
    assert one(f"{own()}:teacher", data__name="folder:pets").data.name == f"folder:{pets}", (
        "one of --set here"
    )


def test_a_crop_of_a_folders_pictures_has_their_size(own, pets):
    lines = "[singles.a]\naugmentation = {train = [{kind = 'RandomResizedCrop'}]}\n"
    assert one(f"{own(lines)}:a", data__name=f"folder:{pets}").augmentation.train[0].size == 32
