"""Pictures in files: what comes out does not depend on the memory they are given."""

import pytest
import torch

from kdlib.data import stream
from kdlib.data.decode import decode
from kdlib.data.stream import StreamedImages

from .conftest import write_folders


@pytest.fixture
def paths(tmp_path):
    return sorted(write_folders(tmp_path, {"a": 4, "b": 3}).rglob("*.jpg"))


@pytest.fixture
def decoded(monkeypatch):
    """Which files were decoded, in order."""
    seen = []

    def spy(path, size):
        seen.append(path)
        return decode(path, size)

    monkeypatch.setattr(stream, "decode", spy)
    return seen


PICTURE = 3 * 16 * 16


@pytest.mark.parametrize("memory", [0, 1, 2 * PICTURE, 1000 * PICTURE, None])
def test_pictures_are_the_same_whatever_the_budget(paths, memory):
    images = StreamedImages(paths, 16, memory)
    expected = torch.stack([torch.tensor(decode(path, 16)).permute(2, 0, 1) for path in paths])
    assert images.shape == expected.shape == (7, 3, 16, 16)
    for indices in ([0, 1, 2], [6, 0, 6], [3], list(range(7)), [5, 4, 2]):
        assert torch.equal(images[torch.tensor(indices)], expected[indices])


def test_nothing_is_decoded_before_it_is_asked_for_and_each_picture_once(paths, decoded):
    images = StreamedImages(paths, 16)
    part = images.subset(torch.tensor([4, 5, 6]))
    images.fingerprint()
    assert decoded == []
    part[torch.tensor([0, 2])]
    images[torch.tensor([4, 6, 1])]
    assert sorted(decoded) == [paths[1], paths[4], paths[6]]


def test_beyond_the_budget_pictures_are_decoded_again(paths, decoded):
    images = StreamedImages(paths, 16, memory=2 * PICTURE + 5)
    for _ in range(3):
        images[torch.arange(7)]
    assert len(decoded) == 7 + 5 + 5


def test_a_budget_is_not_negative(paths):
    for memory, shown in ((-1, "-1"), (1.5e9, "1500000000.0"), ("1 GB", "'1 GB'")):
        with pytest.raises(ValueError, match=f"memory is {shown}; give a number of bytes, 0 or more"):
            StreamedImages(paths, 16, memory)


def test_a_subset_keeps_its_order(paths):
    images = StreamedImages(paths, 16)
    part = images.subset(torch.tensor([5, 0])).subset(torch.tensor([1]))
    assert len(part) == 1
    assert torch.equal(part[torch.tensor([0])], images[torch.tensor([0])])


def test_fingerprints_are_of_the_files_and_the_size(paths):
    first = StreamedImages(paths, 16).fingerprint().hexdigest()
    assert first == StreamedImages(paths, 16, memory=0).fingerprint().hexdigest()
    assert first != StreamedImages(paths, 24).fingerprint().hexdigest()
    assert first != StreamedImages(paths[::-1], 16).fingerprint().hexdigest()
    paths[0].write_bytes(paths[1].read_bytes())
    assert first != StreamedImages(paths, 16).fingerprint().hexdigest()


def test_a_file_that_is_no_picture_is_named(paths):
    paths[3].write_bytes(b"not one")
    with pytest.raises(
        ValueError, match=rf"{paths[3].name} cannot be read as an image .*; repair or remove it"
    ):
        StreamedImages(paths, 16)[torch.arange(7)]
