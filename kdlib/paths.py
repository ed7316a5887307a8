"""Paths as users write them: every one from outside comes through here before it is used."""

import os
from pathlib import Path
from typing import Literal

# Of a checkout; of an installed package the folder that it lies in, where none of the course's files are.
REPOSITORY = Path(__file__).resolve().parents[1]


def given_path(path: str | os.PathLike[str], kind: Literal["file", "folder"]) -> Path:
    """The path that a user gave; a ``~`` at its beginning is their home.

    Args:
        path: of a file or a folder, there or not.
        kind: which of the two is meant.

    Raises:
        ValueError: it is empty, its home is nobody's, it is a file where a folder is meant; or where a file
            is meant it is a folder, ends as one does, or has a name that begins with a dash.
    """
    written = os.fspath(path)
    if not written.strip():
        raise ValueError(f"the path of a {kind} is empty; give one.")
    try:
        found = Path(written).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{written!r} begins with the home of nobody here; write the folder out.") from error
    if kind == "folder":
        if found.is_file():
            raise ValueError(f"{written!r} is a file, and a folder is meant; give the folder.")
    elif os.path.basename(written) in ("", ".", "..") or found.is_dir():  # noqa: PTH119  # a Path drops the end
        raise ValueError(f"{written!r} is a folder, and a file is meant; add the file's name.")
    elif found.name.startswith("-"):
        # f"{folder}-student.pt2", where the folder was written with a slash at its end.
        raise ValueError(
            f"{written!r} names a file that begins with a dash; if it was to stand beside the folder, leave "
            "out the slash before it, or give the file another name."
        )
    return found


def folder_from(variable: str) -> Path | None:
    """The folder that an environment variable names; None where it names none.

    Raises:
        ValueError: as `given_path`.
    """
    named = os.environ.get(variable)
    return given_path(named, "folder") if named else None
