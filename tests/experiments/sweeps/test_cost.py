"""What runs cost: measured, or not said."""

import pytest

from kdlib.experiments import RunRecord, find_recipes
from kdlib.experiments.sweeps import run_graph
from kdlib.experiments.sweeps.cost import (
    NOT_MEASURED,
    cost_table,
    images_seen,
    longest_chain,
    measured_seconds,
)


@pytest.fixture
def graph():
    return run_graph(find_recipes("made/ta*", "full"))


def keep(places, recipe, seed, seconds, device="cuda (NVIDIA H200)", processes=1):
    record = RunRecord(
        seed=seed, settings={}, data={}, epochs={}, final={}, started="", seconds=seconds, label=recipe.name,
        environment={"device": device, "processes": processes}, profile="full", recipe=recipe.as_dict(),
    )  # fmt: skip
    record.save(places / "results/made" / record.place)


def row(table, name):
    (found,) = [row for row in table.rows if row[0] == name]
    return found


def test_images_are_epochs_times_training_images():
    (recipe,) = find_recipes("made/taught", "full")
    assert images_seen(recipe) == 4 * 60
    (cifar,) = find_recipes("cifar/methods/cifar10/20-20/st", "full")
    assert images_seen(cifar) == 200 * 50_000


def test_nothing_is_said_that_was_not_measured(places):
    assert row(cost_table("made/ta*", "full", device="H200"), "all recipes")[1:] == (
        "4", "0.0", NOT_MEASURED, "",
    )  # fmt: skip
    keep(places, find_recipes("made/taught", "full")[0], 0, 3600.0)
    assert NOT_MEASURED in row(cost_table("made/ta*", "full", device="H200"), "all recipes")


def test_a_run_takes_what_its_record_says_and_another_seed_the_same(places):
    (recipe,) = find_recipes("made/taught", "full")
    keep(places, recipe, 0, 3600.0)
    seconds = measured_seconds([recipe], "full", "H200")
    jobs = run_graph([recipe], seeds=[0, 1])
    assert [seconds(job.run) for job in jobs.values()] == [None, 3600.0, 3600.0]
    assert measured_seconds([recipe], "full", "A100")(jobs["made/taught@0"].run) is None


def test_hours_of_all_devices_count(places):
    (recipe,) = find_recipes("made/taught", "full")
    keep(places, recipe, 0, 100.0, processes=8)
    assert measured_seconds([recipe], "full", "H200")(run_graph([recipe])["made/taught@0"].run) == 800.0


def test_the_longest_chain_is_a_run_and_its_teacher(graph):
    assert list(graph) == [
        "made/teacher@100", "made/taught@0", "made/long-teacher@100", "made/taught-long@0",
    ]  # fmt: skip
    assert longest_chain(graph, dict(zip(graph, [2.0, 1.0, 3.0, 4.0], strict=True))) == 7.0
    assert longest_chain(graph, dict(zip(graph, [2.0, 9.0, 3.0, 4.0], strict=True))) == 11.0


def test_an_estimate_says_that_it_is_one():
    found = cost_table("cifar/methods/cifar10/20-20/*", "full", device="H200", images_per_second=10_000)
    assert "not measured" in found.caption
    assert row(found, "001-methods")[3:] == ("5.3", "0.6"), "19 runs of 10 million images"
    with pytest.raises(ValueError, match="images_per_second is 0"):
        cost_table("made/*", "full", device="H200", images_per_second=0)
