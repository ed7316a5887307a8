"""Records in one file: all of them or none come out, and nothing else ever does."""

import hashlib
import json
import zipfile

import pytest

from kdlib.experiments.packing import SUMS, pack_records, unpack_records


def record(label, profile, seed):
    fields = {
        "settings": {},
        "data": {},
        "epochs": {},
        "final": {},
        "environment": {},
        "started": "",
        "seconds": 1,
    }
    return json.dumps({"seed": seed, "label": label, "profile": profile, "format": 2, **fields}).encode()


RECORDS = {
    "made/full/a-seed0.json": record("a", "full", 0),
    "made/short/b.1-seed1.json": record("b.1", "short", 1),
}

EMPTY = hashlib.sha256(b"{}").hexdigest()


@pytest.fixture
def packed(tmp_path):
    pack_records(RECORDS, tmp_path / "records.zip")
    return tmp_path / "records.zip"


def test_what_goes_in_comes_out(packed, tmp_path):
    assert unpack_records(packed) == RECORDS
    pack_records({}, tmp_path / "none.zip")
    assert unpack_records(tmp_path / "none.zip") == {}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["none.zip", "records.zip"]


@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.99])
def test_a_file_that_was_cut_short(packed, kept):
    whole = packed.read_bytes()
    packed.write_bytes(whole[: kept if isinstance(kept, int) else int(kept * len(whole))])
    with pytest.raises(ValueError, match=r"records\.zip cannot be used, and no record of it was taken"):
        unpack_records(packed)


def test_a_record_in_anothers_place_is_not_taken(tmp_path):
    pack_records({"made/full/b-seed0.json": record("a", "full", 0)}, tmp_path / "records.zip")
    with pytest.raises(ValueError, match=r"made/full/b-seed0\.json is the record of full/a-seed0\.json"):
        unpack_records(tmp_path / "records.zip")


def write(file, sums, **members):
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(SUMS, sums)
        for place, content in members.items():
            archive.writestr(place, content)


@pytest.mark.parametrize(
    ("sums", "members", "reason"),
    [
        ("", {"made/full/a.json": b"{}"}, "its list and its members differ in 'made/full/a.json'"),
        ("0  made/full/a.json\n", {}, "differ in 'made/full/a.json'"),
        ("0  made/full/a.json\n", {"made/full/a.json": b"{}"}, "a.json has another digest than its list"),
        (
            "0  ../../a.json\n",
            {"../../a.json": b"{}"},
            "it names '../../a.json', which is no place of a record",
        ),
        ("0  /etc/full/a.json\n", {"/etc/full/a.json": b"{}"}, "which is no place of a record"),
        ("0  ../full/a.json\n", {"../full/a.json": b"{}"}, "which is no place of a record"),
        ("0  made/full/.git\n", {"made/full/.git": b"{}"}, "which is no place of a record"),
        ("one word\n", {}, "no record of it was taken"),
        (f"{EMPTY}  made/full/a.json\n", {"made/full/a.json": b"{}"}, "made/full/a.json is not a run record"),
    ],
)
def test_what_is_no_record_is_not_taken(tmp_path, sums, members, reason):
    file = tmp_path / "records.zip"
    write(file, sums, **members)
    with pytest.raises(ValueError, match="cannot be used") as raised:
        unpack_records(file)
    assert reason in str(raised.value)
