"""Recipes as records have them: nothing of their content is lost on the way to a file and back."""

import json

import pytest

from kdlib.experiments import RunRecord
from kdlib.experiments.identity import digest_of
from kdlib.experiments.recipes import PROFILES, find_recipes, recorded_recipe


@pytest.mark.parametrize("profile", PROFILES)
def test_every_recipe_of_the_course_comes_back_with_its_digest(profile, tmp_path):
    """Numbers with more digits than metrics keep, such as Caltech's aspect ratios, are among them."""
    for recipe in find_recipes("*", profile):
        record = RunRecord(0, {}, {}, {}, {}, {}, "", 0.0, recipe=json.loads(json.dumps(recipe.as_dict())))
        fields = RunRecord.load(record.save(tmp_path / "run.json")).recipe
        assert digest_of(fields) == fields["digest"] == recipe.digest
        assert recorded_recipe(fields).digest == recipe.digest


def test_what_is_no_recipe():
    recipe = find_recipes("lab/scratch", "quick")[0].as_dict()
    del recipe["training"]
    with pytest.raises(
        ValueError, match=r"the recorded recipe of lab/scratch lacks 'training'; run the recipe again"
    ):
        recorded_recipe(recipe)
    with pytest.raises(ValueError, match=r"its recipe is not whole \(KeyError: 'training'\)"):
        digest_of(recipe)
    unknown = find_recipes("lab/scratch", "quick")[0].as_dict() | {"terms": [{"kind": "HotLabels"}]}
    with pytest.raises(ValueError, match="the recorded recipe of lab/scratch cannot be run any more"):
        recorded_recipe(unknown)
