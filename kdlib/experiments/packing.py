"""Records in one file, to go from one machine to another: a zip of named members, with their digests."""

import hashlib
import os
import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from kdlib.files import in_place_of
from kdlib.training.record import RunRecord

SUMS = "SHA256SUMS"
# As `data/results` has them: experiment, profile, run.
_PLACE = re.compile(r"[\w.-]*\w/(quick|short|full)/\w[\w.-]*\.json")
# A record is some kilobytes; one that unpacks to more is none.
_LARGEST = 10_000_000


def pack_records(records: Mapping[str, bytes], file: str | os.PathLike[str]) -> None:
    """Write records into one file, whole or not at all; an older one is replaced.

    Args:
        records: the contents of each by its place below ``data/results``.
        file: to write.
    """
    sums = "".join(f"{_digest(records[place])}  {place}\n" for place in sorted(records))
    with in_place_of(file) as whole, zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(SUMS, sums)
        for place in sorted(records):
            archive.writestr(place, records[place])


def unpack_records(file: Path) -> dict[str, bytes]:
    """The records in a file of `pack_records`, by place: all of them or none. Nothing is written.

    Raises:
        ValueError: the file is damaged or was cut short, or holds what is no record.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            lines = [line.split("  ", 1) for line in archive.read(SUMS).decode().splitlines()]
            sums = {place: digest for digest, place in lines}
            if odd := [place for place in sums if not _PLACE.fullmatch(place)]:
                raise ValueError(f"it names {odd[0]!r}, which is no place of a record")
            if differing := {*archive.namelist()} ^ {SUMS, *sums}:
                raise ValueError(f"its list and its members differ in {sorted(differing)[0]!r}")
            if large := [place for place in sums if archive.getinfo(place).file_size > _LARGEST]:
                raise ValueError(f"{large[0]} is too large for a record")
            records = {place: archive.read(place) for place in sums}
        if other := [place for place, content in records.items() if _digest(content) != sums[place]]:
            raise ValueError(f"{other[0]} has another digest than its list")
        for place, content in records.items():
            if place.partition("/")[2] != (right := RunRecord.parse(content, place).place):
                raise ValueError(f"{place} is the record of {right}")
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError) as error:
        raise ValueError(
            f"{file} cannot be used, and no record of it was taken ({error}): hand it in again."
        ) from error
    return records


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
