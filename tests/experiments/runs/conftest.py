"""A family of recipes that train in a second, and a store and results of the test's own."""

import pytest

from kdlib.experiments import Store, find_recipes

MORE = """
[singles.alone]

[singles.also-alone]

[singles.taught-otherwise]
teacher = "made/teacher@100"
terms = [{kind = "LogitMatching"}]

[singles.staged]
teacher = "made/teacher@100"
first_stage = {terms = [{kind = "Hints", layers = ["layer1"]}], epochs = 3}

[singles.tuned-wholly]
student = {name = "convnet", options = {width = 8}, start = "made/teacher@100"}

[singles.misfit]
student = {name = "convnet", options = {width = 4}, start = "made/teacher@100"}

[singles.drawn]
data = {train_images = 20, draw = "per-seed"}

[singles.taught-by-its-own]
teacher = "made/drawn@seed"
terms = [{kind = "LogitMatching"}]

[singles.long]
teacher = "made/teacher@100"
terms = [{kind = "HardLabels"}, {kind = "SoftTargets", temperature = 4.0}]
training = {epochs = 40}
"""


@pytest.fixture(autouse=True)
def places(make_places):
    """Recipes, runs and results of this test alone."""
    return make_places([0, 1], MORE)


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def made():
    """A recipe of the family, by the rest of its name."""

    def find(name, profile="quick", **settings):
        return find_recipes(f"made/{name}", profile, settings)[0]

    return find
