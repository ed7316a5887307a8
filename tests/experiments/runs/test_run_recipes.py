"""A sweep: every recipe of a pattern, every seed."""

import gc

import pytest

from kdlib.experiments import Store, run_recipes


def test_all_recipes_and_seeds_are_there_and_the_teacher_is_not():
    store = Store.temporary()
    found = run_recipes("made/*aught", "quick", device="cpu", store=store)
    assert {name: [run.seed for run in runs] for name, runs in found.items()} == {"made/taught": [0, 1]}
    assert len(list(store.root.glob("*/*/seed100/record.json"))) == 1


def test_seeds_can_be_chosen():
    found = run_recipes("made/alone", "quick", seeds=[7], device="cpu", store=Store.temporary())
    assert [run.seed for run in found["made/alone"]] == [7]


def test_an_unknown_pattern_is_told():
    with pytest.raises(ValueError, match="made/nothing"):
        run_recipes("made/nothing", "quick")


def test_a_temporary_store_is_new_and_goes():
    store, other = Store.temporary(), Store.temporary()
    root = store.root
    assert root.is_dir()
    assert root != other.root
    del store
    gc.collect()
    assert not root.exists()
