"""Records that machines hand in: packed where they were made, and put into data/results where they meet."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from ci.chapters import Repository
from ci.execute import write_whole

NAME = "records.zip"


def pack(repository: Repository) -> None:
    """Pack the records that the commit does not have, for another machine, into _build/records.zip.

    Where there are none, there is no such file afterwards.
    """
    places = new_places(repository)
    if not places:
        (repository.build / NAME).unlink(missing_ok=True)
        return
    # Imported here because it takes torch along, which is seconds.
    from kdlib.experiments.packing import pack_records

    results = repository.root / "data" / "results"
    pack_records({place: (results / place).read_bytes() for place in places}, repository.build / NAME)


def new_places(repository: Repository) -> list[str]:
    """Where below data/results records are that the commit does not have, or has otherwise."""
    results = repository.root / "data" / "results"
    git = ["git", "-C", str(repository.root), "status", "--porcelain", "-z", "--untracked-files=all"]
    done = subprocess.run([*git, "--", "data/results"], capture_output=True, text=True)
    if done.returncode == 0:
        files = [repository.root / entry[3:] for entry in done.stdout.split("\0") if entry]
    else:  # no checkout: nothing is known of the commit, so all are handed in
        files = list(results.rglob("*.json"))
    return sorted(file.relative_to(results).as_posix() for file in files if file.is_file())


def take_in(repository: Repository, folders: Sequence[Path]) -> Iterator[str]:
    """Put the records below some folders into data/results; what is wrong with them, in sentences.

    A file is taken as a whole or not at all. Where two have one record otherwise, it stays as it was.
    """
    handed_in = sorted(path for folder in folders for path in folder.rglob(NAME))
    if not handed_in:
        return
    from kdlib.experiments.packing import unpack_records  # seconds, as above

    taken: dict[str, tuple[bytes, Path]] = {}
    disputed: set[str] = set()
    for file in handed_in:
        try:
            records = unpack_records(file)
        except ValueError as error:
            yield str(error)
            continue
        for place, content in records.items():
            first, where = taken.setdefault(place, (content, file))
            if content != first and place not in disputed:
                disputed.add(place)
                yield f"data/results/{place} stays as it was: {where} and {file} have it otherwise; keep one."
    for place in sorted(taken.keys() - disputed):
        write_whole(repository.root / "data" / "results" / place, taken[place][0])
