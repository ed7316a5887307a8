"""The course's data sets from tiny files in their true formats: classes, labels, divisions."""

import hashlib
import tarfile
from dataclasses import replace

import pytest
import torch
from torchvision import datasets

from kdlib.data import load_data
from kdlib.data.stream import StreamedImages

from .conftest import cifar_archive, picture, write_folders


@pytest.fixture
def cifar(tmp_path, monkeypatch):
    """Puts a tiny CIFAR below the data root and makes its checksums torchvision's."""

    def put(name):
        archive = cifar_archive(name, tmp_path / "archive.tar.gz")
        with tarfile.open(archive) as opened:
            opened.extractall(tmp_path, filter="data")
        kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
        folder = tmp_path / kind.base_folder
        for attribute in ("train_list", "test_list"):
            sums = [[file, md5(folder / file)] for file, _ in getattr(kind, attribute)]
            monkeypatch.setattr(kind, attribute, sums)
        monkeypatch.setattr(kind, "meta", kind.meta | {"md5": md5(folder / kind.meta["filename"])})
        return folder

    return put


def md5(path):
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


@pytest.mark.parametrize(("name", "images", "classes"), [("cifar10", 100, 10), ("cifar100", 20, 100)])
def test_cifar_in_its_own_files(cifar, tmp_path, name, images, classes):
    cifar(name)
    data = load_data(name, root=tmp_path, division="published")
    theirs = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name](tmp_path)
    assert len(data.train) == images
    assert data.num_classes == classes
    assert data.classes == tuple(f"class {k}" for k in range(classes))
    assert torch.equal(data.train.images.permute(0, 2, 3, 1), torch.tensor(theirs.data))
    assert data.train.labels.tolist() == theirs.targets
    assert data.val.fingerprint() == data.test.fingerprint()
    assert data.train.source == f"{name}, train (published)"


def test_honest_division_cuts_validation_from_training(cifar, tmp_path):
    cifar("cifar10")
    published = load_data("cifar10", root=tmp_path, division="published")
    data = load_data("cifar10", root=tmp_path)
    assert len(data.train) + len(data.val) == len(published.train)
    assert data.test.fingerprint() == published.test.fingerprint()
    rows = {tuple(row) for row in data.train.images.flatten(1).tolist()}
    assert not rows & {tuple(row) for row in data.val.images.flatten(1).tolist()}
    assert data.train.fingerprint() == load_data("cifar10", root=tmp_path).train.fingerprint()
    assert "stratified, seed 0" in data.train.source


def test_a_damaged_file_is_not_unpickled(cifar, tmp_path, monkeypatch):
    """The checksum is compared before: a pickle that nobody knows could run anything."""
    folder = cifar("cifar10")
    (folder / "data_batch_3").write_bytes(b"changed")

    def refuse(*_arguments, **_options):
        raise AssertionError("it was unpickled")

    monkeypatch.setattr("pickle.load", refuse)
    with pytest.raises(ValueError, match=r"CIFAR-10 in .* missing or damaged; .* kd data get cifar10"):
        load_data("cifar10", root=tmp_path)


def test_caltech_101_has_torchvisions_classes_and_no_background(tmp_path):
    root = tmp_path / "caltech101" / "101_ObjectCategories"
    write_folders(root, {"Faces": 10, "BACKGROUND_Google": 9, "ant": 10, "zebra": 10})
    picture(1, mode="L").save(root / "ant" / "image_0001.jpg")
    data = load_data("caltech101", root=tmp_path, size=32, division="published")
    theirs = datasets.Caltech101(tmp_path)
    assert list(data.classes) == theirs.categories == ["Faces", "ant", "zebra"]
    assert len(data.train) + len(data.test) == len(theirs) == 30
    counts = data.train.labels.bincount() + data.test.labels.bincount()
    assert counts.tolist() == torch.tensor(theirs.y).bincount().tolist()
    assert data.in_channels == 3, "the grey picture has become RGB"
    assert data.test.labels.bincount().tolist() == [1, 1, 1]


def test_caltech_256_keeps_its_clutter(tmp_path):
    root = tmp_path / "caltech256" / "256_ObjectCategories"
    names = ["001.ak47", "002.american-flag", "257.clutter"]
    for number, name in enumerate(names, 1):
        (root / name).mkdir(parents=True)
        for k in range(1, 8):
            picture(k).save(root / name / f"{number:03d}_{k:04d}.jpg")
    data = load_data("caltech256", root=tmp_path, size=32)
    theirs = datasets.Caltech256(tmp_path)
    assert list(data.classes) == theirs.categories == names
    assert sum(len(part) for part in (data.train, data.val, data.test)) == len(theirs) == 21


def test_large_pictures_are_streamed_cropped_and_not_decoded_when_loaded(tmp_path):
    write_folders(tmp_path / "hymenoptera_data" / "train", {"ants": 8, "bees": 8}, size=(200, 150))
    write_folders(tmp_path / "hymenoptera_data" / "val", {"ants": 3, "bees": 2}, size=(200, 150))
    data = load_data("hymenoptera", root=tmp_path, size=112)
    assert isinstance(data.train.images, StreamedImages)
    assert (len(data.train), len(data.val), len(data.test)) == (14, 2, 5)
    for options in ({}, {"seed": 0, "augment": True}):
        batches = list(data.train.batches(4, **options))
        assert [tuple(batch.images.shape) for batch in batches[:1]] == [(4, 3, 112, 112)]
        assert sorted(torch.cat([batch.indices for batch in batches]).tolist()) == list(range(14))
    whole = next(data.test.batches(5)).images
    parts = torch.cat([batch.images for batch in data.test.batches(2)])
    assert torch.equal(whole, parts)


def test_streamed_images_are_augmented_as_those_in_memory_are(tmp_path):
    write_folders(tmp_path / "a" / "train", {"x": 6, "y": 6}, size=(150, 150))
    write_folders(tmp_path / "a" / "test", {"x": 2, "y": 2}, size=(150, 150))
    streamed = load_data(f"folder:{tmp_path / 'a'}", size=100, division="published").train
    in_memory = replace(streamed, images=streamed.images[torch.arange(12)])
    pairs = zip(
        streamed.batches(5, seed=1, augment=True), in_memory.batches(5, seed=1, augment=True), strict=True
    )
    assert all(torch.equal(ours.images, theirs.images) for ours, theirs in pairs)


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "caltech101", "caltech256", "hymenoptera"])
def test_a_data_set_that_is_not_there(tmp_path, monkeypatch, name):
    monkeypatch.setenv("KDLIB_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=rf"is not in {tmp_path}.*kd data get {name}"):
        load_data(name)


def test_jpeg_cifar_cannot_be_downloaded_and_says_so(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"'cifar10-jpeg' is not in .*shared/datasets/unpack.* take cifar10"
    ):
        load_data("cifar10-jpeg", root=tmp_path)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cifar11", {}, "no data set is called 'cifar11'; did you mean 'cifar10'"),
        ("cifar10", {"size": 32}, "has no option 'size'; its options are root, division"),
        ("caltech101", {"division": "mine"}, "division is 'mine'; choose one of honest, published"),
        ("caltech101", {"size": 2}, "size is 2"),
    ],
)
def test_names_and_options_that_do_not_exist(name, options, message):
    with pytest.raises(ValueError, match=message):
        load_data(name, **options)
