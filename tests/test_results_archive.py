"""Records in archives: the same again after a journey, and nothing believed that does not fit."""

import gzip
import hashlib
import io
import json
import os
import re
import tarfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlib.results import RunRecord
from kdlib.results.archive import merge, pack
from kdlib.results.identity import digest_of

CONTENT = dict.fromkeys(("data", "student", "training", "augmentation", "terms", "first_stage", "start"))


def recipe(name="lab/alone", epochs=3):
    fields = {"name": name, **CONTENT, "training": {"epochs": epochs}, "teacher": None}
    return fields | {"digest": digest_of(fields)}


def record(seed=0, label="alone", profile="short", accuracy=0.9, made_by=None):
    return RunRecord(
        seed=seed,
        settings={},
        data={},
        epochs={"loss": [2.0, 1.0]},
        final={"accuracy": accuracy},
        environment={"device": "cpu (x86_64)"},
        started="2026-01-01T00:00:00+00:00",
        seconds=1.0,
        label=label,
        profile=profile,
        recipe=made_by,
    )


class Machine:
    """A folder of records; packing and merging happen in it."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.results = self.folder / "results"

    def keep(self, run, experiment="lab"):
        return run.save(self.results / experiment / run.place)

    def files(self):
        return {
            path.relative_to(self.results).as_posix(): path.read_bytes()
            for path in sorted(self.results.rglob("*"))
            if path.is_file()
        }

    def pack(self, name="a.tar.gz", pattern="*"):
        with here(self.results):
            return pack(pattern, self.folder / name).file

    def merge(self, *files, **options):
        with here(self.results):
            return merge(files, **options)


@contextmanager
def here(results):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDLIB_RESULTS", str(results))
        yield


@pytest.fixture
def ours(tmp_path):
    return Machine(tmp_path / "ours")


@pytest.fixture
def theirs(tmp_path):
    machine = Machine(tmp_path / "theirs")
    machine.keep(record(0, "lab/alone", made_by=recipe()))
    machine.keep(record(1, "lab/alone", made_by=recipe()))
    machine.keep(record(0, "taught"), "01-why-distil")
    return machine


def archive(path, members, manifest=None, **changes):
    """An archive by hand: members by name, a manifest that fits them unless another is given."""
    sums = {name: hashlib.sha256(text).hexdigest() for name, text in members.items()}
    manifest = {"format": 1, "records": sums} if manifest is None else manifest
    with tarfile.open(path, "w:gz") as tar:
        for name, text in {"manifest.json": json.dumps(manifest).encode(), **members}.items():
            about = tarfile.TarInfo(name)
            about.size = len(text)
            for key, value in changes.get(name, {}).items():
                setattr(about, key, value)
            tar.addfile(about, io.BytesIO(text))
    return path


def test_records_come_through_byte_for_byte(ours, theirs):
    merged = ours.merge(theirs.pack())
    assert ours.files() == theirs.files()
    assert merged.added == tuple(theirs.files())
    assert (merged.there, merged.replaced, merged.refused) == ((), (), {})


def test_the_same_records_make_the_same_archive(theirs):
    assert theirs.pack("a.tar.gz").read_bytes() == theirs.pack("b.tar.gz").read_bytes()


@pytest.mark.parametrize(
    ("pattern", "count"),
    [("*", 3), ("lab", 2), ("lab/", 2), ("lab/alone", 2), ("*/short/*", 3), ("*seed1.json", 1), ("01-*", 1)],
)
def test_patterns(theirs, pattern, count):
    with here(theirs.results):
        assert pack(pattern, theirs.folder / "a.tar.gz").records == count


def test_a_pattern_that_fits_nothing(theirs):
    with pytest.raises(ValueError, match=r"no record in .* fits 'lba'"):
        theirs.pack(pattern="lba")
    assert not (theirs.folder / "a.tar.gz").exists()


def test_an_archive_is_not_written_over(theirs):
    before = theirs.pack().read_bytes()
    with pytest.raises(FileExistsError, match=r"a\.tar\.gz is there already"):
        theirs.pack(pattern="lab")
    assert (theirs.folder / "a.tar.gz").read_bytes() == before


def test_a_different_record_of_the_same_run_stays_and_is_named(ours, theirs):
    ours.keep(record(0, "lab/alone", accuracy=0.8, made_by=recipe()))
    before, file = ours.files(), theirs.pack()
    merged = ours.merge(file)
    assert merged.refused == {
        "lab/short/lab-alone-seed0.json": f"{file} has another record of it: accuracy 0.9, and here it is 0.8"
    }
    assert {place: ours.files()[place] for place in before} == before
    assert len(merged.added) == 2


def test_a_different_record_is_taken_when_asked_for(ours, theirs):
    ours.keep(record(0, "lab/alone", accuracy=0.8, made_by=recipe()))
    assert ours.merge(theirs.pack(), replace=True).replaced == ("lab/short/lab-alone-seed0.json",)
    assert ours.files() == theirs.files()


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (record(0, "lab/alone", made_by=recipe(epochs=9)), "of a recipe with the digest"),
        (
            replace(record(0, "lab/alone", made_by=recipe()), epochs={"loss": [1.0]}),
            "other values on the way",
        ),
        (
            replace(record(0, "lab/alone", made_by=recipe()), environment={"device": "cuda (H200)"}),
            r"the same numbers, made 2026-01-01T\S+ on cpu \(x86_64\), and here .* on cuda \(H200\)",
        ),
    ],
)
def test_what_differs_is_said(ours, theirs, other, words):
    ours.keep(other)
    (why,) = ours.merge(theirs.pack()).refused.values()
    assert re.search(words, why)


def test_records_of_two_archives_that_disagree(ours, theirs):
    first = theirs.pack("first.tar.gz")
    theirs.keep(record(1, "lab/alone", accuracy=0.5, made_by=recipe()))
    merged = ours.merge(first, theirs.pack("second.tar.gz"))
    assert list(merged.refused) == ["lab/short/lab-alone-seed1.json"]
    assert len(merged.added) == 3


def test_a_record_whose_digest_is_not_its_recipes(ours, theirs, tmp_path):
    forged = record(5, "lab/alone", made_by=recipe() | {"training": {"epochs": 4}})
    path = theirs.keep(forged)
    said = r"lab-alone-seed5\.json.* says that its recipe has the digest"
    with pytest.raises(ValueError, match=said):
        theirs.pack()
    file = archive(tmp_path / "a.tar.gz", {"lab/short/lab-alone-seed5.json": path.read_bytes()})
    with pytest.raises(ValueError, match=said):
        ours.merge(file)
    assert not ours.results.exists()


def test_a_recipe_that_is_not_whole(ours, tmp_path):
    text = record(0, "x", made_by={"name": "x", "digest": "0"}).save(tmp_path / "r.json").read_bytes()
    with pytest.raises(ValueError, match="its recipe is not whole"):
        ours.merge(archive(tmp_path / "a.tar.gz", {"lab/short/x-seed0.json": text}))


PLACES = [
    "../lab/short/x-seed0.json", "/lab/short/x-seed0.json", "lab/../../x-seed0.json",
    "..//short/x-seed0.json", "lab/short/../x-seed0.json", "lab\\short\\x-seed0.json",
    "lab/quick/x-seed0.json", "-lab/short/x-seed0.json", "lab/short/.x-seed0.json",
    "C:/short/x-seed0.json", "lab/short/x-seed0.sh", "lab/short/x-seed0.json\n",
]  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_places_that_no_record_has(ours, tmp_path, place):
    text = record(0, "x").save(tmp_path / "r.json").read_bytes()
    with pytest.raises(ValueError, match=r"no place of a record|belongs to"):
        ours.merge(archive(tmp_path / "a.tar.gz", {place: text}))
    assert not ours.results.exists()
    assert {path.name for path in tmp_path.iterdir()} == {"a.tar.gz", "r.json"}


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE]
)
def test_members_that_are_no_files(ours, tmp_path, kind):
    place = "lab/short/x-seed0.json"
    change = {place: {"type": kind, "linkname": "/etc/passwd", "size": 0}}
    with pytest.raises(ValueError, match="no record of its manifest"):
        ours.merge(archive(tmp_path / "a.tar.gz", {place: b""}, **change))
    assert not ours.results.exists()


def test_a_member_too_large_for_a_record(ours, tmp_path):
    place = "lab/short/x-seed0.json"
    file = archive(tmp_path / "a.tar.gz", {place: bytes(16 * 2**20 + 1)})
    with pytest.raises(ValueError, match="16777217 bytes, too many for a record"):
        ours.merge(file)


def test_members_and_manifest_are_the_same(ours, tmp_path):
    place, text = "lab/short/x-seed0.json", record(0, "x").save(tmp_path / "r.json").read_bytes()
    none = {"format": 1, "records": {}}
    with pytest.raises(ValueError, match="no record of its manifest"):
        ours.merge(archive(tmp_path / "a.tar.gz", {place: text}, none))
    with pytest.raises(ValueError, match="lacks lab/short/x-seed0"):
        ours.merge(archive(tmp_path / "a.tar.gz", {}, {"format": 1, "records": {place: "0"}}))
    with pytest.raises(ValueError, match="another checksum than its manifest"):
        ours.merge(archive(tmp_path / "a.tar.gz", {place: text}, {"format": 1, "records": {place: "0"}}))
    with pytest.raises(ValueError, match="has format 2, newer than this kdlib's 1"):
        ours.merge(archive(tmp_path / "a.tar.gz", {place: text}, {"format": 2, "records": {}}))
    with pytest.raises(ValueError, match="manifest that cannot be read"):
        ours.merge(archive(tmp_path / "a.tar.gz", {place: text}, ["x"]))


def test_a_record_in_the_place_of_another(ours, tmp_path):
    text = record(0, "x").save(tmp_path / "r.json").read_bytes()
    with pytest.raises(ValueError, match=r"belongs to …/short/x-seed0\.json"):
        ours.merge(archive(tmp_path / "a.tar.gz", {"lab/short/y-seed0.json": text}))


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"format": 2, "label": 5}', b"\xff\xfe"])
def test_members_that_are_no_records(ours, tmp_path, text):
    with pytest.raises(ValueError, match="is not a run record"):
        ours.merge(archive(tmp_path / "a.tar.gz", {"lab/short/x-seed0.json": text}))


def test_one_bad_archive_among_good_ones_stops_all(ours, theirs, tmp_path):
    bad = tmp_path / "bad.tar.gz"
    bad.write_bytes(theirs.pack().read_bytes()[:-20])
    with pytest.raises(
        ValueError, match=r"bad\.tar\.gz is no archive of `kd results pack`, or not a whole one"
    ):
        ours.merge(theirs.folder / "a.tar.gz", bad)
    assert not ours.results.exists()


@pytest.mark.parametrize("text", [b"", b"text", gzip.compress(b"text")], ids=["empty", "text", "gzip"])
def test_files_that_are_no_archives(ours, tmp_path, text):
    (tmp_path / "a.tar.gz").write_bytes(text)
    with pytest.raises(ValueError, match=r"a\.tar\.gz"):
        ours.merge(tmp_path / "a.tar.gz")


def test_no_such_file(ours, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file .*b\.tar\.gz"):
        ours.merge(tmp_path / "b.tar.gz")


def test_a_full_disk_changes_nothing(ours, theirs, monkeypatch):
    file = theirs.pack()
    ours.keep(record(7))
    before, write, left = ours.files(), Path.write_bytes, [2]

    def fill(path, text):
        if not left[0]:
            raise OSError(28, os.strerror(28))
        left[0] -= 1
        return write(path, text)

    monkeypatch.setattr(Path, "write_bytes", fill)
    with pytest.raises(OSError, match="No space left"):
        ours.merge(file)
    assert ours.files() == before
    monkeypatch.undo()
    ours.merge(file)
    assert ours.files() == before | theirs.files()


def test_a_merge_that_was_stopped_is_completed_by_the_next(ours, theirs, monkeypatch):
    file, move, moved = theirs.pack(), Path.replace, []

    def stop(path, target):
        if len(moved) == 2:
            raise KeyboardInterrupt
        moved.append(target)
        return move(path, target)

    monkeypatch.setattr(Path, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        ours.merge(file)
    monkeypatch.undo()
    assert ours.files().items() < theirs.files().items()
    merged = ours.merge(file)
    assert (len(merged.added), len(merged.there)) == (1, 2)
    assert ours.files() == theirs.files()


RUNS = st.builds(
    record,
    seed=st.integers(0, 3),
    label=st.sampled_from(["alone", "taught, 4 · T"]),
    profile=st.sampled_from(["short", "full"]),
    accuracy=st.sampled_from([0.5, 0.75]),
    made_by=st.sampled_from([None, recipe(), recipe(epochs=5)]),
)
FOLDERS = st.lists(st.tuples(st.sampled_from(["lab", "01-why-distil"]), RUNS), max_size=8)


@settings(max_examples=60, deadline=None)
@given(FOLDERS, FOLDERS, FOLDERS)
def test_merging_is_idempotent_and_loses_nothing(mine, first, second):
    """Whatever lies where: all that was here stays, all that is new comes, and once more changes nothing."""
    with TemporaryDirectory() as folder:
        machines = [Machine(Path(folder) / name) for name in ("mine", "first", "second")]
        for machine, runs in zip(machines, (mine, first, second), strict=True):
            for experiment, run in runs:
                machine.keep(run, experiment)
        me, *others = machines
        files = [other.pack() for other in others if other.files()]
        before, arriving = me.files(), [other.files() for other in others]
        merged = me.merge(*files)
        after = me.files()
        assert before.items() <= after.items()
        assert after.keys() == before.keys() | arriving[0].keys() | arriving[1].keys()
        assert all(
            text in [place_of.get(place) for place_of in (before, *arriving)] for place, text in after.items()
        )
        assert set(merged.refused) == {
            place for others in arriving for place, text in others.items() if text != after[place]
        }
        again = me.merge(*files)
        assert me.files() == after
        assert (again.added, again.replaced, again.refused) == ((), (), merged.refused)
        # One by one is the same as all at once.
        if len(files) == 2 and not merged.refused:
            other_way = Machine(Path(folder) / "other way")
            for experiment, run in mine:
                other_way.keep(run, experiment)
            for file in reversed(files):
                other_way.merge(file)
            assert other_way.files() == after
