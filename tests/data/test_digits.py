"""The embedded digits: complete, divided without overlap, and always the same."""

import pytest
import torch
from sklearn.datasets import load_digits

from kdlib import load_data


@pytest.fixture(scope="module")
def data():
    return load_data("digits")


def test_every_digit_is_in_exactly_one_part(data):
    parts = [data.train, data.val, data.test]
    pictures = torch.cat([part.images for part in parts]).flatten(1)
    original = torch.from_numpy(load_digits().images).flatten(1)
    restored = (pictures.double() * 16 / 255).round()
    rows = sorted(map(tuple, restored.int().tolist()))
    assert rows == sorted(map(tuple, original.int().tolist()))


def test_labels_go_with_their_pictures(data):
    bunch = load_digits()
    label_of = {
        tuple(row): label for row, label in zip(bunch.data.astype(int).tolist(), bunch.target, strict=True)
    }
    for part in (data.train, data.val, data.test):
        rows = (part.images.double() * 16 / 255).round().int().flatten(1).tolist()
        assert [label_of[tuple(row)] for row in rows] == part.labels.tolist()


def test_parts_have_the_stated_shares_of_every_class(data):
    totals = torch.bincount(torch.from_numpy(load_digits().target))
    for part, share in ((data.train, 1 / 2), (data.val, 1 / 6), (data.test, 1 / 3)):
        assert (part.labels.bincount(minlength=10) - totals * share).abs().max() <= 1


def test_the_division_never_changes(data):
    again = load_data("digits")
    assert again.train.fingerprint() == data.train.fingerprint()
    assert again.train.fingerprint() != data.test.fingerprint()


def test_statistics_are_those_of_the_training_images(data):
    batch = torch.cat([batch.images for batch in data.train.batches(200)])
    torch.testing.assert_close(batch.mean(), torch.tensor(0.0), atol=1e-5, rtol=0)
    torch.testing.assert_close(batch.std(correction=0), torch.tensor(1.0), atol=1e-5, rtol=0)
    assert data.val.mean == data.test.mean == data.train.mean


def test_pictures_can_be_enlarged():
    assert load_data("digits", size=32).train.images.shape[1:] == (1, 32, 32)


@pytest.mark.parametrize("size", [0, 4, 8.5, "32"])
def test_size_that_is_none(size):
    with pytest.raises(ValueError, match="whole number of pixels, 8 or more"):
        load_data("digits", size=size)


def test_names_that_do_not_exist():
    with pytest.raises(ValueError, match=r"'digit'; did you mean 'digits'\?"):
        load_data("digit")
    with pytest.raises(ValueError, match=r"'CIFAR10'; did you mean 'cifar10' or 'cifar100'"):
        load_data("CIFAR10")
    for nothing in (None, 3, b"digits"):
        with pytest.raises(ValueError, match="the name of a data set is text"):
            load_data(nothing)
    with pytest.raises(ValueError, match=r"no option 'colour'"):
        load_data("digits", colour=True)
    with pytest.raises(ValueError, match=r"'folder:'"):
        load_data("folder:")
