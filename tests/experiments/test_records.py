"""Run records, summaries over seeds, and tables."""

import importlib
import json
import math
import os
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from kdlib import experiments
from kdlib.data.catalogue import user_cache
from kdlib.experiments import RunRecord, Summary, results_folder


def record(seed=0, **changes):
    values = {
        "seed": seed,
        "settings": {"epochs": 2},
        "data": {"fingerprint": "ab"},
        "epochs": {"loss": [2.0, 1.0]},
        "final": {"accuracy": 0.9},
        "environment": {"torch": "2"},
        "started": f"2026-01-0{seed + 1}T00:00:00+00:00",
        "seconds": 1.5,
    }
    return RunRecord(**(values | changes))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("KDLIB_RESULTS", str(tmp_path / "results"))
    return tmp_path / "results"


def test_records_come_back_as_they_were(tmp_path):
    path = record().save(tmp_path / "deep" / "run.json")
    assert RunRecord.load(path) == record()


def test_floats_are_kept_to_six_digits(tmp_path):
    path = record(seconds=1.23456789, epochs={"loss": [math.pi]}).save(tmp_path / "run.json")
    fields = json.loads(path.read_text())
    assert (fields["seconds"], fields["epochs"]["loss"]) == (1.23457, [3.14159])


def test_a_record_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = record().save(tmp_path / "run.json")
    before = path.read_text()
    with pytest.raises(ValueError, match="not JSON compliant"):
        record(seconds=math.nan).save(path)

    def full_disk(*_arguments, **_options):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        record(seed=1).save(path)
    assert [child.name for child in tmp_path.iterdir()] == ["run.json"]
    assert path.read_text() == before


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 1}', '{"format": 1, "wing": 2}'])
def test_files_that_are_no_records(tmp_path, text):
    path = tmp_path / "run.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"run\.json is not a run record"):
        RunRecord.load(path)


def test_records_of_a_newer_version(tmp_path):
    path = replace(record(), format=99).save(tmp_path / "run.json")
    with pytest.raises(ValueError, match="format 99, newer than this kdlib's 2"):
        RunRecord.load(path)


def test_kept_runs_come_back_by_label_and_seed(folder):
    runs = {"taught": [record(2), record(0)], "alone": [record(1)]}
    assert experiments.keep(runs, "01-why", "short") == 3
    found = experiments.recorded("01-why", "short")
    assert {label: [run.seed for run in kept] for label, kept in found.items()} == {
        "taught": [0, 2],
        "alone": [1],
    }
    assert {run.profile for kept in found.values() for run in kept} == {"short"}
    assert (folder / "01-why" / "short" / "taught-seed2.json").exists()


def test_a_quick_run_writes_nothing(folder):
    assert experiments.keep({"taught": [record()]}, "01-why", "quick") == 0
    assert not folder.exists()
    assert experiments.recorded("01-why", "quick") == {}


def test_profiles_are_kept_apart(folder):
    experiments.keep({"taught": [record()]}, "01-why", "short")
    assert folder.exists()
    assert experiments.recorded("01-why", "full") == {}


def test_summary_is_mean_and_sample_standard_deviation():
    values = [0.91, 0.92, 0.945]
    summary = Summary.of(values)
    assert summary.mean == pytest.approx(np.mean(values))
    assert summary.sd == pytest.approx(np.std(values, ddof=1))
    assert str(summary) == "92.5 ± 1.8 % (3 seeds)"
    assert str(Summary.of([0.5])) == "50.0 % (1 seed)"
    with pytest.raises(ValueError, match="nothing to summarise"):
        Summary.of([])


def test_intervals_of_several_comparisons_hold_together():
    """Bonferroni: each of five at 99 %, as scipy has it."""
    first, second = np.array([0.81, 0.84, 0.79, 0.86]), np.array([0.80, 0.80, 0.77, 0.81])
    found = experiments.paired_difference(list(first), list(second), comparisons=5)
    expected = stats.ttest_rel(first, second).confidence_interval(0.99)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert str(found).endswith(
        f"(95 % interval, 5 together, −{-100 * found.low:.1f} to +{100 * found.high:.1f})"
    )
    with pytest.raises(ValueError, match="comparisons is 0; give how many there are, 1 or more"):
        experiments.paired_difference([0.1, 0.2], [0.1, 0.3], comparisons=0)


def test_paired_difference_is_the_t_interval_of_the_differences():
    first, second = np.array([0.92, 0.93, 0.91, 0.95]), np.array([0.88, 0.90, 0.89, 0.90])
    found = experiments.paired_difference(list(first), list(second))
    expected = stats.ttest_rel(first, second).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.mean == pytest.approx((first - second).mean())
    assert str(found) == "+3.5 points (95 % interval +1.4 to +5.6)"
    assert str(experiments.paired_difference(list(second), list(first))) == (
        "−3.5 points (95 % interval −5.6 to −1.4)"
    )


@pytest.mark.parametrize(("first", "second"), [([0.1, 0.2], [0.1]), ([0.1], [0.2]), ([], [])])
def test_differences_that_are_not_paired(first, second):
    with pytest.raises(ValueError, match="one per seed"):
        experiments.paired_difference(first, second)


def test_the_best_weight_is_that_of_the_validation_images():
    def runs(*accuracies):
        return [record(seed, final={"val": value}) for seed, value in enumerate(accuracies)]

    kept = {
        "PKT, weight 1000": runs(0.9, 0.8),
        "PKT, weight 30": runs(0.7, 0.7),
        "PKT, weight 0.5": runs(0.8, 0.9),
        "NST, weight 30": runs(1.0),
        "PKT": runs(1.0),
        "PKT, weight 30, slow": runs(1.0),
    }
    assert experiments.validation_by_weight(kept, "PKT") == pytest.approx({0.5: 0.85, 30: 0.7, 1000: 0.85})
    assert list(experiments.validation_by_weight(kept, "PKT")) == [0.5, 30, 1000]
    assert experiments.best_weight(kept, "PKT") == "PKT, weight 0.5", "the smallest of equally good ones"
    assert experiments.validation_by_weight(kept, "RKD") == {}
    assert experiments.best_weight(kept, "RKD") is None


def test_table_in_a_page_a_notebook_and_a_terminal():
    shown = experiments.table(["method", "accuracy"], [["taught <4>", Summary.of([0.5])]], "On the digits")
    assert "<caption>On the digits</caption>" in shown._repr_html_()
    assert '<th scope="row">taught &lt;4&gt;</th><td>50.0 % (1 seed)</td>' in shown._repr_html_()
    assert "| taught <4> | 50.0 % (1 seed) |" in shown._repr_markdown_()
    assert repr(shown).splitlines()[2] == "taught <4>  50.0 % (1 seed)"
    with pytest.raises(ValueError, match="has 1 cells, and the header 2"):
        experiments.table(["a", "b"], [["c"]], "")


def test_every_part_of_a_table_is_escaped():
    shown = experiments.table(["<b>", "<b>"], [["<b>", "<b>"]], "<b>")._repr_html_()
    assert "<b>" not in shown
    assert shown.count("&lt;b&gt;") == 5


def test_a_record_of_format_1_has_no_recipe(tmp_path):
    path = record(recipe={"name": "cifar/teacher", "digest": "0123456789ab"}).save(tmp_path / "run.json")
    fields = json.loads(path.read_text())
    assert RunRecord.load(path).recipe == {"name": "cifar/teacher", "digest": "0123456789ab"}
    del fields["recipe"]
    path.write_text(json.dumps(fields | {"format": 1}))
    assert RunRecord.load(path) == record()


def test_the_code_of_a_run_is_what_computes(tmp_path, monkeypatch):
    """Comments, docstrings and layout compute nothing, and neither do other rooms of the package."""
    environment = importlib.import_module("kdlib.training.environment")
    rooms = {"losses/logits.py": "def loss(x):\n    return x * x\n", "tables.py": "WIDTH = 1\n"}
    for name, text in rooms.items():
        file = tmp_path / "kdlib" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    monkeypatch.setattr(environment, "REPOSITORY", tmp_path)

    def found(name, text):
        (tmp_path / "kdlib" / name).write_text(text)
        return environment.code_fingerprint.__wrapped__()

    before = environment.code_fingerprint.__wrapped__()
    said = 'def loss(x):\n    """Squared."""\n    # as published\n    return (x*x)\n'
    assert found("losses/logits.py", said) == before
    assert found("tables.py", "WIDTH = 2\n") == before
    assert found("losses/logits.py", said.replace("x*x", "x*x*4")) != before


def test_records_of_an_installed_package_are_not_among_the_packages(tmp_path, monkeypatch):
    monkeypatch.delenv("KDLIB_RESULTS", raising=False)
    assert results_folder().parts[-2:] == ("data", "results")
    monkeypatch.setattr("kdlib.experiments.records.REPOSITORY", tmp_path)
    assert results_folder() == user_cache() / "results"
