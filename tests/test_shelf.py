"""Records on the shelf: by what they computed, what is kept before what is live, what has changed counted."""

from types import SimpleNamespace

import pytest

from kdlib.results import RunRecord, Shelf

RECIPE = SimpleNamespace(family="lab", profile="short", digest="today", seeds=(0, 1))


def record(seed, digest="today", profile="short", accuracy=0.5):
    return RunRecord(
        seed=seed,
        settings={},
        data={},
        epochs={},
        final={"accuracy": accuracy},
        environment={},
        started="2026-01-01T00:00:00+00:00",
        seconds=1.0,
        label=f"base-{digest}",
        profile=profile,
        recipe={"name": "lab/base", "digest": digest},
    )


@pytest.fixture
def keep(monkeypatch, tmp_path):
    monkeypatch.setenv("KDLIB_RESULTS", str(tmp_path))
    return lambda run: run.save(tmp_path / "lab" / run.place)


def test_runs_are_found_by_what_they_computed(keep):
    for run in (record(1), record(0), record(0, profile="full"), record(2, digest="then")):
        keep(run)
    found = Shelf().runs(RECIPE)
    assert [(seed, found[seed].file) for seed in found] == [
        (0, "lab/short/base-today-seed0.json"),
        (1, "lab/short/base-today-seed1.json"),
    ]


def test_what_is_kept_counts_where_both_have_it(keep):
    keep(record(0, accuracy=0.25))
    live = [record(0, accuracy=0.75), record(1), record(3, profile="quick"), record(4, digest="then")]
    found = Shelf(live).runs(RECIPE)
    assert [(seed, each.run.final["accuracy"], bool(each.file)) for seed, each in found.items()] == [
        (0, 0.25, True),
        (1, 0.5, False),
    ]


def test_a_teachers_run_counts_only_where_it_is_asked_for(keep):
    keep(record(100))
    shelf = Shelf()
    assert shelf.runs(RECIPE) == {}
    assert list(shelf.runs(SimpleNamespace(**vars(RECIPE) | {"seeds": (100,)}))) == [100]
    assert shelf.run(RECIPE, 100).seed == 100
    assert shelf.run(RECIPE, 101) is None


def test_runs_of_a_recipe_that_has_changed_are_counted_by_name(keep):
    for run in (record(0), record(1, digest="then"), record(100, digest="then")):
        keep(run)
    shelf = Shelf([record(2, digest="then")])
    assert shelf.outdated(RECIPE, ["lab/base", "lab/again"]) == {"lab/short/base-then-seed1.json"}
    assert shelf.outdated(RECIPE, ["lab/again"]) == set()


def test_an_empty_shelf_says_so(keep):
    keep(record(0))
    assert Shelf().has("lab", "short")
    assert not Shelf().has("lab", "quick")
    assert Shelf([record(0, profile="quick")]).has("lab", "quick")
