"""A family of recipes that train in a second, and a store and results of the test's own."""

import pytest

from kdlib.recipes import find_recipes
from kdlib.runs import Store

MADE = """
title = "Made for the tests"
source = "none"
seeds = [0, 1]

[base]
data = {name = "digits", train_images = 60}
student = {name = "convnet", options = {width = 4}}
terms = [{kind = "HardLabels"}]
training = {epochs = 4, batch_size = 16, learning_rate = 0.1, weight_decay = 5e-4, optimizer = "SGD"}

[singles.teacher]
seeds = [100]
student = {name = "convnet", options = {width = 8}}

[singles.alone]

[singles.also-alone]

[singles.taught]
teacher = "made/teacher@100"
terms = [{kind = "HardLabels"}, {kind = "SoftTargets", temperature = 4.0}]

[singles.taught-otherwise]
teacher = "made/teacher@100"
terms = [{kind = "LogitMatching"}]

[singles.staged]
teacher = "made/teacher@100"
first_stage = {terms = [{kind = "Hints", layers = ["layer1"]}], epochs = 3}

[singles.tuned]
student = {name = "convnet", options = {width = 8}, start = "made/teacher@100", head_only = true}

[singles.tuned-wholly]
student = {name = "convnet", options = {width = 8}, start = "made/teacher@100"}

[singles.misfit]
student = {name = "convnet", options = {width = 4}, start = "made/teacher@100"}

[singles.long]
teacher = "made/teacher@100"
terms = [{kind = "HardLabels"}, {kind = "SoftTargets", temperature = 4.0}]
training = {epochs = 40}

[singles.diverging]
training = {learning_rate = 1e30}
"""


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    """Recipes, runs and results of this test alone."""
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "made.toml").write_text(MADE)
    for name in ("recipes", "runs", "results"):
        monkeypatch.setenv(f"KDLIB_{name.upper()}", str(tmp_path / name))
    return tmp_path


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def made():
    """A recipe of the family, by the rest of its name."""

    def find(name, profile="quick", **settings):
        return find_recipes(f"made/{name}", profile, settings)[0]

    return find
