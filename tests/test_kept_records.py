"""The records in data/results: a number that was changed by hand is no share of the test images any more."""

import json
from collections import Counter
from pathlib import Path

import pytest

from kdlib.experiments.identity import check_digest
from kdlib.training.record import RunRecord

RESULTS = Path(__file__).parents[1] / "data" / "results"
# By what a source begins with: a third of scikit-learn's 1,797 digits, or 15 % of each class; CIFAR-10's own
# test images; a tenth or 15 % of Caltech-101 without its background in each class; hymenoptera's validation
# images.
TEST_IMAGES = {
    "digits,": 599,
    "digits as PNG files, train (stratified 0.7/": 269,
    "cifar10-jpeg,": 10_000,
    "caltech101, train (stratified 0.9/": 868,
    "caltech101, train (stratified 0.7/": 1303,
    "hymenoptera,": 153,
}
SHARES = ("accuracy", "top_5_accuracy", "agreement")


@pytest.fixture(scope="module")
def records() -> dict[str, RunRecord]:
    found = {str(path.relative_to(RESULTS)): RunRecord.load(path) for path in RESULTS.rglob("*.json")}
    assert found
    return found


def test_every_share_is_one_of_the_test_images(records):
    wrong = []
    for name, record in records.items():
        (images,) = (n for start, n in TEST_IMAGES.items() if record.data["source"].startswith(start))
        for share in SHARES:
            # A record keeps six digits.
            counted = record.final.get(share, 0.0) * images
            if abs(counted - round(counted)) > 1e-6 * images:
                wrong.append(f"{name}: {share} {record.final[share]}")
    assert wrong == []


def test_the_last_epoch_is_the_one_that_is_reported(records):
    curves = {name: record for name, record in records.items() if "test_accuracy" in record.epochs}
    assert curves
    wrong = {
        name: (record.epochs["test_accuracy"][-1], record.final["accuracy"])
        for name, record in curves.items()
        if record.epochs["test_accuracy"][-1] != record.final["accuracy"]
    }
    assert wrong == {}


def test_every_recipe_has_the_digest_that_the_record_says(records):
    for name, record in records.items():
        check_digest(record.recipe, name)


def test_no_seed_of_a_run_is_there_twice(records):
    def content(record: RunRecord) -> str:
        told = {"profile": record.profile, "settings": record.settings, "data": record.data}
        return json.dumps([told, record.label, record.seed], sort_keys=True)

    counted = Counter(f"{Path(name).parts[0]} {content(record)}" for name, record in records.items())
    assert [run for run, times in counted.items() if times > 1] == []
