"""A recorded run is repeated, and told from one that is not what its record says."""

import json
import sys
from dataclasses import replace

import pytest

from kdlib.experiments import RunRecord, Store, run_recipe, verify
from kdlib.experiments.recipes import recorded_recipe


def quietly(recipe, seed=0, **options):
    return run_recipe(recipe, seed, device="cpu", progress=False, **options)


def repeat(record, **options):
    return verify(record, progress=False, **options)


def elsewhere(record, **environment):
    return replace(record, environment=record.environment | environment)


def tree(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


NAMES = ["alone", "taught", "staged", "tuned"]


@pytest.mark.parametrize("name", NAMES)
def test_a_run_is_the_same_to_the_digit(made, name):
    found = repeat(quietly(made(name)))
    assert found.same
    assert found.exact
    assert found.warnings == ()
    assert found.reused == (() if name == "alone" else ("made/teacher@100",))
    assert found.again.started >= found.record.started
    assert found.again.epochs == found.record.epochs


@pytest.mark.parametrize(("name", "reused"), [("drawn", ()), ("taught-by-its-own", ("made/drawn@1",))])
def test_a_run_on_images_of_its_own_draw_is_the_same_to_the_digit(made, name, reused):
    found = repeat(quietly(made(name), seed=1))
    assert (found.same, found.exact, found.reused) == (True, True, reused)


def test_store_and_results_are_left_alone(made, places):
    record = quietly(made("taught", "short"), publish=False)
    before = tree(places)
    assert repeat(record).same
    assert tree(places) == before


def test_a_teacher_that_is_not_in_the_store_is_trained(made, places, capsys):
    record = quietly(made("taught"))
    found = verify(record, store=Store(places / "empty"))
    assert (found.same, found.exact, found.reused) == (True, True, ())
    assert "made/teacher@100 (quick): training" in capsys.readouterr().err
    assert not (places / "empty").exists()


def test_what_differs_is_said(made):
    record = quietly(made("alone"))
    curve = [*record.epochs["loss"][:2], 1.0, 2.0]
    final = record.final | {"accuracy": 0.125}
    found = repeat(replace(record, final=final, epochs=record.epochs | {"loss": curve}))
    assert not found.same
    assert found.differences == (
        f"accuracy is {record.final['accuracy']}, and 0.125 in the record",
        "the curve loss differs from value 3 on",
    )


@pytest.mark.parametrize("what", ["torch", "threads", "device", "processor"])
def test_elsewhere_a_tolerance_is_kept(made, what):
    here = quietly(made("alone"))
    off = here.final["accuracy"] + 0.015
    record = elsewhere(replace(here, final=here.final | {"accuracy": off}), **{what: "cpu, another"})
    near, far = repeat(record), repeat(record, tolerance=0.01)
    assert (near.same, near.exact, far.same) == (True, False, False)
    assert near.warnings == (f"{what} is {here.environment[what]} here, and cpu, another in the record",)
    assert "accuracy" in far.differences[0]
    assert "more than 0.01 apart" in far.differences[0]


def test_a_gpu_is_not_asked_for_digits(made, monkeypatch):
    """Stood for by a CPU that says it is one: what decides is what the repeat says of itself."""
    record = quietly(made("alone"))
    monkeypatch.setattr(
        sys.modules["kdlib.training.fit"],
        "environment",
        lambda _device: record.environment | {"device": "cuda (H200)"},
    )
    record = elsewhere(record, device="cuda (H200)")
    found = repeat(record, device="cpu")
    assert (found.same, found.exact, found.warnings) == (True, False, ())
    assert found.verdict.endswith("to the last digit")
    assert repeat(replace(record, final=record.final | {"accuracy": 0.0}), device="cpu").differences


def test_a_record_that_does_not_say_which_processor(made):
    record = quietly(made("alone"))
    environment = {key: value for key, value in record.environment.items() if key != "processor"}
    assert repeat(replace(record, environment=environment)).exact


def test_another_commit_is_told_and_the_digits_are_asked_for(made):
    found = repeat(elsewhere(quietly(made("alone")), commit="0123456789ab", python="3.0"))
    assert found.exact
    assert found.same
    assert [warning.split()[0] for warning in found.warnings] == ["commit", "python"]


def rewrite(places, old, new):
    path = places / "recipes" / "made.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_recipe_that_has_changed_since_is_repeated_as_it_was(made, places):
    record = quietly(made("alone"))
    rewrite(places, "epochs = 4,", "epochs = 2,")
    found = repeat(record)
    assert found.same
    assert found.exact
    assert len(found.again.epochs["loss"]) == 4
    (warning,) = found.warnings
    assert f"made/alone has changed since, and is {made('alone').digest} today" in warning


def test_a_recipe_that_is_gone_is_repeated_as_it_was(made, places):
    record = quietly(made("alone"))
    rewrite(places, "[singles.alone]", "[singles.renamed]")
    found = repeat(record)
    assert found.same
    assert "is not there today" in found.warnings[0]


def test_a_changed_teacher_is_warned_of(made, places):
    record = quietly(made("taught"))
    rewrite(places, "width = 8}}\n\n[singles.taught]", "width = 12}}\n\n[singles.taught]")
    found = repeat(record)
    assert not found.exact
    assert "its teacher, the run that it starts from" in found.warnings[0]


def test_settings_by_hand_are_kept(made):
    changed = made("alone", **{"training.epochs": "2", "terms.0.weight": "0.123456789"})
    found = repeat(quietly(changed))
    assert (found.same, found.exact, found.warnings) == (True, True, ())


def test_other_images_are_told_before_anything_is_trained(made, monkeypatch):
    record = quietly(made("alone"))
    monkeypatch.setattr("kdlib.experiments.verification.run_recipe", None)
    found = repeat(replace(record, data=record.data | {"fingerprint": "other"}))
    assert (found.same, found.again) == (False, None)
    assert "the images' fingerprint is" in found.verdict


def test_records_that_cannot_be_repeated(made):
    record = quietly(made("alone"))
    with pytest.raises(ValueError, match=r"x\.json has no recipe, as a chapter made it"):
        repeat(replace(record, recipe=None), name="x.json")
    forged = record.recipe | {"training": record.recipe["training"] | {"epochs": 9}}
    with pytest.raises(ValueError, match=r"x\.json says that its recipe has the digest"):
        repeat(replace(record, recipe=forged), name="x.json")
    with pytest.raises(ValueError, match="tolerance is nan; give 0 or more"):
        repeat(record, tolerance=float("nan"))


@pytest.mark.parametrize("name", [*NAMES, "teacher", "tuned-wholly", "taught-otherwise"])
def test_a_recipe_comes_back_from_its_record(made, tmp_path, name):
    """Through JSON and all, with the same content and so the same digest."""
    recipe = made(name)
    again = recorded_recipe(json.loads(json.dumps(recipe.as_dict())))
    assert again.digest == recipe.digest
    assert again.as_dict() == recipe.as_dict()


def test_the_digits_of_a_recipe_are_kept(made, tmp_path):
    record = quietly(made("alone", **{"training.learning_rate": "0.0123456789"}))
    path = record.save(tmp_path / "run.json")
    assert RunRecord.load(path).recipe["training"]["learning_rate"] == 0.0123456789
