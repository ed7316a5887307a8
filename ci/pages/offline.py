"""The built pages as one archive that opens from disk with everything alive, for readers and from runners."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from ci.chapters import CourseError, Repository

NAME = "kd-course-offline"
FOLDER = "kd-course"
# Maps of minified files, fonts for browsers without woff2, and what no reader's browser asks for.
NOT_NEEDED = {".map", ".ttf", ".inv"}
NOT_FOR_READERS = {".buildinfo", ".course-key", "404.html", "sitemap.xml"}


def pack(html: Path, target: Path) -> int:
    """Write the archive beside its place, rename it, and return how many files are in it.

    Raises:
        CourseError: there are no pages.
    """
    if not (html / "index.html").is_file():
        raise CourseError(f"There are no pages in {html}: run `make book` first.")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f"{target.stem}.", delete=False) as scratch:
        made = Path(scratch.name)
    try:
        files = list(needed(html))
        with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for path in files:
                place = f"{FOLDER}/{path.relative_to(html).as_posix()}"
                # The same pages give the same archive: no times of this machine.
                entry = zipfile.ZipInfo(place)
                entry.external_attr = 0o644 << 16
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, path.read_bytes())
        made.chmod(0o644)
        made.replace(target)
    finally:
        made.unlink(missing_ok=True)
    return len(files)


def needed(html: Path) -> Iterator[Path]:
    """The files that a reader's browser can ask for, in a fixed order."""
    for path in sorted(html.rglob("*")):
        if path.is_file() and path.suffix not in NOT_NEEDED and path.name not in NOT_FOR_READERS:
            yield path


def offline(repository: Repository) -> int:
    """Pack the pages, and say where the archive is and how to open it."""
    target = repository.build / f"{NAME}.zip"
    count = pack(repository.html, target)
    size = target.stat().st_size / 1e6
    print(f"{target}: {count} files, {size:.1f} MB. Unpack it anywhere and open {FOLDER}/index.html.")
    return 0
