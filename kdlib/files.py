"""Files that are written whole or not at all, whatever ends the process or the power."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from kdlib.paths import given_path

# What a killed process leaves begins so.
PART = ".part-"

# A user's share of a disk may be full, too.
FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def written_whole(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A file to write to, which takes the place of an older one of that name once all of it is on the disk.

    Raises:
        OSError: it could not be written; the older one stays.
    """
    with in_place_of(path) as whole, whole.open("wb") as file:
        yield file


@contextmanager
def in_place_of(path: str | os.PathLike[str]) -> Iterator[Path]:
    """The path of a file to write, as `written_whole` has it: for what takes a path and no open file."""
    target = given_path(path, "file")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=PART) as folder:
        whole = Path(folder) / target.name
        yield whole
        with whole.open("rb+") as file:
            os.fsync(file.fileno())
        whole.replace(target)
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    """Let the disk know the new name, too, before an older file is removed because this one is there."""
    with suppress(OSError):  # Windows and some network file systems have no such thing
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
