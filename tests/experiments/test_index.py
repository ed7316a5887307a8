"""Records in the index: by what they computed, what is kept before what is live, what has changed counted."""

from types import SimpleNamespace

import pytest

from kdlib.experiments import RecordIndex, RunRecord

RECIPE = SimpleNamespace(family="lab", profile="short", digest="today", seeds=(0, 1))


def record(seed, digest="today", profile="short", accuracy=0.5, precision="32-true"):
    return RunRecord(
        seed=seed,
        settings={"precision": precision},
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
    found = RecordIndex().runs(RECIPE)
    assert [(seed, found[seed].file) for seed in found] == [
        (0, "lab/short/base-today-seed0.json"),
        (1, "lab/short/base-today-seed1.json"),
    ]


def test_what_is_kept_counts_where_both_have_it(keep):
    keep(record(0, accuracy=0.25))
    live = [record(0, accuracy=0.75), record(1), record(3, profile="quick"), record(4, digest="then")]
    found = RecordIndex(live).runs(RECIPE)
    assert [(seed, each.run.final["accuracy"], bool(each.file)) for seed, each in found.items()] == [
        (0, 0.25, True),
        (1, 0.5, False),
    ]


def test_a_teachers_run_counts_only_where_it_is_asked_for(keep):
    keep(record(100))
    index = RecordIndex()
    assert index.runs(RECIPE) == {}
    assert list(index.runs(SimpleNamespace(**vars(RECIPE) | {"seeds": (100,)}))) == [100]
    assert index.run(RECIPE, 100).seed == 100
    assert index.run(RECIPE, 101) is None


def test_a_seed_above_the_teachers_is_shown(keep):
    keep(record(123))
    assert list(RecordIndex().runs(RECIPE)) == [123]


def test_two_precisions_are_not_two_seeds(keep):
    keep(record(0, precision="bf16-mixed"))
    live = [record(1, precision="bf16-mixed"), record(2)]
    assert list(RecordIndex(live).runs(RECIPE)) == [0, 1]
    keep(record(2, accuracy=0.75))
    assert RecordIndex(live).outdated(RECIPE, ["lab/base"]) == {"lab/short/base-today-seed2.json"}


def test_runs_of_a_recipe_that_has_changed_are_counted_by_name(keep):
    for run in (record(0), record(1, digest="then"), record(100, digest="then")):
        keep(run)
    index = RecordIndex([record(2, digest="then")])
    assert index.outdated(RECIPE, ["lab/base", "lab/again"]) == {"lab/short/base-then-seed1.json"}
    assert index.outdated(RECIPE, ["lab/again"]) == set()


def test_an_empty_index_says_so(keep):
    keep(record(0))
    assert RecordIndex().has("lab", "short")
    assert not RecordIndex().has("lab", "quick")
    assert RecordIndex([record(0, profile="quick")]).has("lab", "quick")
