"""The catalogue of data sets: where they are looked for, and that its figures are those of the real data."""

from pathlib import Path

import pytest
import torch

from kdlib.data import load_data
from kdlib.data.catalogue import data_root, sources
from kdlib.data.split import channel_statistics


def test_the_data_root(monkeypatch, tmp_path):
    monkeypatch.setenv("KDLIB_DATA", str(tmp_path))
    assert data_root() == tmp_path
    assert data_root("elsewhere") == Path("elsewhere")
    monkeypatch.delenv("KDLIB_DATA")
    assert data_root().name == "kdlib"


def test_checksums_are_torchvisions():
    from torchvision import datasets

    for name, kind in (("cifar10", datasets.CIFAR10), ("cifar100", datasets.CIFAR100)):
        assert (sources()[name].url, sources()[name].md5) == (kind.url, kind.tgz_md5)
        assert sources()[name].folder == kind.base_folder


def check_counts(data):
    source = sources()[data.name]
    assert (len(data.train) + len(data.test), data.num_classes) == (source.images, source.classes)


@pytest.mark.parametrize("name", ["caltech101", "hymenoptera"])
def test_real_data_sets_have_the_images_and_classes_of_the_catalogue(real_data, name):
    check_counts(load_data(name, root=real_data, division="published"))


def test_the_real_small_pictures_have_the_images_classes_and_statistics_of_the_catalogue(real_data):
    """In one test: the sixty thousand are decoded when they are loaded, in a quarter of a minute."""
    data = load_data("cifar10-jpeg", root=real_data, division="published")
    check_counts(data)
    mean, std = channel_statistics(data.train.images)
    assert mean == pytest.approx(data.train.mean, abs=1e-4)
    assert std == pytest.approx(data.train.std, abs=1e-4)


def test_statistics_of_the_real_large_pictures(real_data):
    """Of every twelfth: all of them take minutes to decode."""
    train = load_data("caltech101", root=real_data, division="published").train
    mean, std = channel_statistics(train.images[torch.arange(0, len(train), 12)])
    assert mean == pytest.approx(train.mean, abs=0.01)
    assert std == pytest.approx(train.std, abs=0.01)
