"""Getting a data set: downloaded, resumed where it stopped, checked, and unpacked as a whole."""

import errno
import hashlib
import lzma
import os
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from tqdm.auto import tqdm

from kdlib.data.catalogue import Source, data_root, sources
from kdlib.files import FULL, PART

_BLOCK = 1 << 20
_SECONDS_OF_SILENCE = 60
# What unpacking raises at a damaged archive, besides OSErrors. A damaged header may ask for a password, or
# for a way of packing that nobody knows: a RuntimeError.
_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError)


def download_data(name: str, root: str | os.PathLike[str] | None = None, progress: bool = True) -> Path:
    """Put a data set below the data root, unless it is there already.

    The archive goes to a file that ends in ".part" and is taken up there if it was interrupted; it is
    compared with its checksum before it is opened, and unpacked beside its place and then renamed: a data set
    is there as a whole or not at all. Of two processes that want it, one gets it and the other waits.

    Args:
        name: of an entry in ``datasets.toml`` that has an address.
        root: the data root; KDLIB_DATA if not given.
        progress: whether to show a bar.

    Returns:
        The folder of the data set.

    Raises:
        ValueError: there is no such data set or no address for it, the archive is not the published one, or
            it holds something that would be written outside its folder.
        OSError: the server cannot be reached, or the disk is full.
    """
    source = sources().get(name)
    if source is None or source.url is None:
        known = ", ".join(key for key, entry in sources().items() if entry.url)
        raise ValueError(f"there is nothing to download for {name!r}; there is for {known}.")
    place = data_root(root)
    target = place / source.folder
    if target.is_dir():
        return target
    # Imported here because it takes asyncio along, which `import kdlib` should not.
    from filelock import FileLock

    try:
        place.mkdir(parents=True, exist_ok=True)
        # Two processes that wrote to one ".part" would spoil it; the second finds the data set there.
        with FileLock(place / f".{source.name}.lock"):
            if not target.is_dir():
                archive = fetch(source.url, place / Path(source.url).name, source.md5, progress)
                unpack(archive, target, source)
                archive.unlink(missing_ok=True)
    except OSError as error:
        if error.errno in FULL:
            said = f"the disk of {place} is full; make room, or name another with KDLIB_DATA, and try again"
            raise OSError(error.errno, said) from error
        raise
    return target


def fetch(url: str, target: Path, md5: str | None, progress: bool = True) -> Path:
    """Download a file, going on where an earlier attempt stopped, and check it.

    Raises:
        ValueError: it is not the file that the checksum is of; what was downloaded is removed.
        OSError: the server cannot be reached, or it stopped in the middle: what came is kept.
    """
    part = target.with_name(target.name + ".part")
    try:
        _receive(url, part, progress)
    except urllib.error.URLError as error:
        raise OSError(
            f"{url} cannot be downloaded ({error}); what has come is kept, so that the same command goes on."
        ) from error
    if md5 is not None and (found := _md5(part)) != md5:
        part.unlink()
        raise ValueError(
            f"{url} has the checksum {found} and not {md5}; it was removed. Try again, and if that does not "
            "help, the file has been changed at its source."
        )
    return part.replace(target)


def unpack(archive: Path, target: Path, source: Source) -> None:
    """Unpack the data set's folder from an archive, or from the one archive in it, and move it to its place.

    Raises:
        ValueError: it is damaged, holds something outside its own folder, or does not hold what the catalogue
            says.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=PART) as scratch:
        inside = Path(scratch)
        try:
            holder = archive if source.inner is None else _extract(archive, source.inner, inside)
            found = _extract(holder, target.name, inside) if holder.is_file() else holder
        except (OSError, *_DAMAGED) as error:
            # These are a checksum that does not fit, and a place before the beginning; others are the disk's.
            if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
                raise
            raise ValueError(
                f"{archive} cannot be unpacked ({error}); remove it and get {source.name} again."
            ) from error
        if not found.is_dir():
            what = f"file {source.inner!r}" if found == holder else f"folder {target.name!r}"
            raise ValueError(f"{archive} holds no {what}; it is not {source.title}.")
        try:
            found.rename(target)
        except OSError:
            if not target.is_dir():  # somebody else has just put it there, the same one
                raise


def _receive(url: str, part: Path, progress: bool) -> None:
    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        answer = urllib.request.urlopen(request, timeout=_SECONDS_OF_SILENCE)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing is left to send
            return
        raise
    with answer:
        is_rest = answer.status == 206
        length = answer.headers.get("Content-Length")
        total = None if length is None else int(length) + (done if is_rest else 0)
        with (
            part.open("ab" if is_rest else "wb") as file,
            tqdm(
                total=total, initial=done if is_rest else 0, desc=part.stem, unit="B", unit_scale=True,
                disable=not progress, leave=False,
            ) as bar,
        ):  # fmt: skip
            while block := answer.read(_BLOCK):
                file.write(block)
                bar.update(len(block))
            arrived = file.tell()
    if total is not None and arrived < total:
        raise urllib.error.URLError(f"{arrived} of {total} bytes came")


def _extract(archive: Path, name: str, folder: Path) -> Path:
    """Unpack one member of an archive, with all that is below it; where it then is, if it was there."""
    # A tar file that ends with a zip file looks like one itself.
    if zipfile.is_zipfile(archive) and not tarfile.is_tarfile(archive):
        with zipfile.ZipFile(archive) as opened:
            for member in opened.namelist():
                if not (folder / member).resolve().is_relative_to(folder.resolve()):
                    raise ValueError(f"{archive} holds {member!r}, outside its own folder; do not use it.")
            opened.extractall(folder, [member for member in opened.namelist() if _is_below(member, name)])
        return folder / name
    with tarfile.open(archive) as opened:
        try:
            opened.extractall(folder, _safe_below(opened, name, folder), filter="data")
        except tarfile.FilterError as error:
            raise ValueError(f"{archive} holds something unsafe ({error}); do not use it.") from error
    return folder / name


def _safe_below(archive: tarfile.TarFile, name: str, folder: Path) -> Iterator[tarfile.TarInfo]:
    """The members of this name and below it; all others are looked at, too, before they are left out."""
    for member in archive:
        if _is_below(tarfile.data_filter(member, str(folder)).name, name):
            yield member


def _is_below(member: str, name: str) -> bool:
    return PurePosixPath(member).is_relative_to(name)


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
