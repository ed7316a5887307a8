"""What the tests of recipes share."""

from functools import cache

import pytest

from kdlib.experiments.recipes import load_family

BASE = """
title = "made up"
source = "these tests"
seeds = [0, 1]
[base]
data = {name = "digits"}
student = {name = "convnet", options = {width = 4}}
terms = [{kind = "HardLabels"}]
[base.training]
epochs = 2
batch_size = 64
learning_rate = 0.1
weight_decay = 0
optimizer = "SGD"
optimizer_options = {momentum = 0.9}
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a family called "made" of the base and these lines."""
    monkeypatch.setenv("KDLIB_RECIPES", str(tmp_path))

    def write(lines, base=BASE):
        (tmp_path / "made.toml").write_text(base + lines, encoding="utf-8")
        return load_family("made")

    return write


@pytest.fixture(scope="session")
def quick_data():
    """The images of a `DataSpec`, loaded once."""
    return cache(lambda spec: spec.load())
