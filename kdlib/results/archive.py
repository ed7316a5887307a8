"""Records on their way between machines: packed into one file, checked one by one, merged."""

import gzip
import hashlib
import io
import json
import os
import re
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO

from kdlib.results.identity import check_digest
from kdlib.results.records import RunRecord, results_folder

_MANIFEST = "manifest.json"
_FORMAT = 1
# A record has a few thousand bytes; a member that says more is none.
_LARGEST = 16 * 2**20
_PLACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*/(short|full)/[a-z0-9.-]+\.json", re.ASCII)


@dataclass(frozen=True)
class Packed:
    """An archive that was written.

    Attributes:
        file: where it is.
        records: in it.
        size: in bytes.
        sha256: of the file, to be compared after a copy.
    """

    file: Path
    records: int
    size: int
    sha256: str


@dataclass(frozen=True)
class Merged:
    """What came of a merge; places are paths below ``data/results``.

    Attributes:
        added: records that were not there.
        replaced: records that took the place of another, as was asked for.
        there: records that were there already, the same.
        refused: records in whose place another one stays, each with what differs.
    """

    added: tuple[str, ...]
    replaced: tuple[str, ...]
    there: tuple[str, ...]
    refused: Mapping[str, str]


def pack(pattern: str, file: str | os.PathLike[str]) -> Packed:
    """Write records of ``data/results`` into one archive, with a checksum of each.

    The same records give the same bytes. Records without a recipe (format 1, chapters 1 to 8) are known by
    their path and content.

    Args:
        pattern: as a shell has it, of a path or a folder below ``data/results``, or of a recipe's name.
        file: to be written, a tar file compressed with gzip.

    Raises:
        ValueError: no record fits, or one is damaged or does not belong to its recipe.
        FileExistsError: the file is there already.
    """
    target = Path(file)
    if target.exists():
        raise FileExistsError(f"{target} is there already; remove it, or give another name.")
    contents = dict(_kept(pattern))
    if not contents:
        raise ValueError(
            f"no record in {results_folder()} fits {pattern!r}; write a folder such as '01-why-distil', a "
            "recipe's name, or '*' for all."
        )
    manifest = {"format": _FORMAT, "records": {place: _checksum(text) for place, text in contents.items()}}
    members = {_MANIFEST: json.dumps(manifest, indent=1).encode(), **contents}
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".part-") as folder:
        whole = Path(folder) / target.name
        with whole.open("wb") as out:
            _write(out, members)
        packed = Packed(target, len(contents), whole.stat().st_size, _checksum(whole.read_bytes()))
        whole.replace(target)
    return packed


def merge(files: Sequence[str | os.PathLike[str]], *, replace: bool = False) -> Merged:
    """Put the records of archives into ``data/results``, those that are there already left out.

    All archives are read and checked before anything is written, and all records are written before the first
    is put in its place. A merge that was stopped is completed by another one; one more changes nothing.

    Args:
        files: that `pack` wrote.
        replace: whether a record takes the place of a different one; otherwise that stays and is reported.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: one is no whole archive of records; or a record in it has another digest than its recipe,
            or is not in its place. Nothing is merged then.
    """
    incoming = [(Path(file), read_archive(file)) for file in files]
    folder = results_folder()
    new: dict[str, bytes] = {}
    added, replaced, there = [], [], []
    refused: dict[str, str] = {}
    for file, contents in incoming:
        for place, text in contents.items():
            ours = new.get(place) or _read(folder / place)
            if ours is None:
                added.append(place)
                new[place] = text
            elif not (different := _difference(_record(ours, place), _record(text, place))):
                there.append(place)
            elif replace:
                replaced.append(place)
                new[place] = text
            else:
                refused[place] = f"{file} has another record of it: {different}"
    _put(new, folder)
    return Merged(tuple(added), tuple(replaced), tuple(there), refused)


def read_archive(file: str | os.PathLike[str]) -> dict[str, bytes]:
    """The contents of an archive by their places, every one checked; nothing is unpacked to the disk.

    Raises:
        FileNotFoundError, ValueError: as `merge`.
    """
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; `kd results pack --to {path}` writes one.")
    with _as_archive(path) as tar:
        members = iter(tar)
        sums = _manifest(next(members, None), tar, path)
        contents = {}
        for member in members:
            if not member.isreg() or member.name not in sums or member.name in contents:
                raise ValueError(
                    f"{path} has a member {member.name!r}, which is no record of its manifest; use another."
                )
            contents[member.name] = _content(member, tar, path)
    for place, expected in sums.items():
        if place not in contents:
            raise ValueError(f"{path} lacks {place}, which its manifest has; copy the file again.")
        if _checksum(contents[place]) != expected:
            raise ValueError(
                f"{place} in {path} has another checksum than its manifest; copy the file again."
            )
        _check(contents[place], place, f"{place} in {path}")
    return contents


def _kept(pattern: str) -> Iterator[tuple[str, bytes]]:
    """Place and content of every record that fits."""
    folder, patterns = results_folder(), (pattern, f"{pattern.removesuffix('/')}/*")
    for path in sorted(folder.glob("[!.]*/*/[!.]*.json")):
        place, text = path.relative_to(folder).as_posix(), path.read_bytes()
        names = [place, str((_record(text, str(path)).recipe or {}).get("name", ""))]
        if any(fnmatchcase(name, wanted) for name in names for wanted in patterns):
            yield place, _check(text, place, str(path))


def _check(text: bytes, place: str, name: str) -> bytes:
    """The content, if it is a record that belongs to this place and to its recipe."""
    record = _record(text, name)
    if not _PLACE.fullmatch(place) or not place.endswith(f"/{record.place}"):
        raise ValueError(f"{name} holds a record that belongs to …/{record.place}; move it there.")
    check_digest(record.recipe, name)
    return text


def _record(text: bytes, name: str) -> RunRecord:
    return RunRecord.parse(text, name)


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _difference(ours: RunRecord, theirs: RunRecord) -> str:
    """What tells two records of one place from each other, in words; "" where they are the same."""
    if ours == theirs:
        return ""
    old, new = ((record.recipe or {}).get("digest") for record in (ours, theirs))
    if old != new:
        return f"of a recipe with the digest {new}, and here it is {old}"
    for name in sorted(ours.final.keys() | theirs.final.keys()):
        if ours.final.get(name) != theirs.final.get(name):
            return f"{name} {theirs.final.get(name)}, and here it is {ours.final.get(name)}"
    if ours.epochs != theirs.epochs:
        return "with other values on the way to the same end"
    where = ours.environment.get("device"), theirs.environment.get("device")
    return f"the same numbers, made {theirs.started} on {where[1]}, and here {ours.started} on {where[0]}"


def _put(contents: Mapping[str, bytes], folder: Path) -> None:
    """Write all, then rename each: what can fail for want of room does so before the first is in place."""
    if not contents:
        return
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".part-") as part:
        for number, (place, text) in enumerate(contents.items()):
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            (Path(part) / str(number)).write_bytes(text)
        for number, place in enumerate(contents):
            (Path(part) / str(number)).replace(folder / place)


def _write(out: IO[bytes], members: Mapping[str, bytes]) -> None:
    """A compressed tar file that says nothing of who wrote it, and when."""
    with (
        gzip.GzipFile(filename="", fileobj=out, mode="wb", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name, text in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(text)
            tar.addfile(about, io.BytesIO(text))


@contextmanager
def _as_archive(path: Path) -> Iterator[tarfile.TarFile]:
    try:
        with gzip.open(path) as packed, tarfile.open(fileobj=packed, mode="r:") as tar:
            yield tar
            packed.read(_LARGEST)  # to the end, where gzip has a checksum of its own
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(
            f"{path} is no archive of `kd results pack`, or not a whole one ({error}); copy it again."
        ) from error


def _manifest(member: tarfile.TarInfo | None, tar: tarfile.TarFile, path: Path) -> dict[str, str]:
    """The checksum of every record, by its place."""
    if member is None or member.name != _MANIFEST or not member.isreg():
        raise ValueError(f"{path} does not begin with {_MANIFEST}; give a file that `kd results pack` wrote.")
    try:
        manifest = json.loads(_content(member, tar, path))
        written, sums = int(manifest["format"]), dict(manifest["records"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} has a manifest that cannot be read ({error}); copy it again.") from error
    if written > _FORMAT:
        raise ValueError(f"{path} has format {written}, newer than this kdlib's {_FORMAT}; update kdlib.")
    for place in sums:
        if not _PLACE.fullmatch(place) or ".." in place:
            raise ValueError(
                f"{path} names {place!r}, which is no place of a record; nothing of it is merged."
            )
    return sums


def _content(member: tarfile.TarInfo, tar: tarfile.TarFile, path: Path) -> bytes:
    if member.size > _LARGEST:
        raise ValueError(
            f"{member.name} in {path} has {member.size} bytes, too many for a record; use another file."
        )
    file = tar.extractfile(member)
    assert file is not None
    return file.read()


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
