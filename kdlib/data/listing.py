"""What is in a folder of images: its parts, its classes, its pictures, and what is none of these."""

import os
import re
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff")

# The parts of a divided data set, by the names that their folders have in practice.
_PARTS = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "development", "eval", "evaluation"), "val"),
    **dict.fromkeys(("test", "testing", "tst", "holdout"), "test"),
}

# What systems and programs leave in folders without a dot before it.
_GENERATED = {"__MACOSX", "__pycache__", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"}

# Left in every folder that somebody has looked at, and not worth a word.
_VIEWS = {".DS_Store", "Thumbs.db", "ehthumbs.db", "desktop.ini"}


class Listing:
    """Lists folders of images, and keeps account of what it passes over.

    Hidden entries and those that programs have left are passed over at every level.
    """

    def __init__(self) -> None:
        self._skipped: dict[str, set[Path]] = {
            name: set() for name in ("other", "hidden", "loose", "beside", "link")
        }

    def folders(self, root: Path) -> list[Path]:
        """The folders in a folder, sorted by name."""
        found = []
        for child in sorted(root.iterdir()):
            if _is_hidden(child.name):
                self._skip_hidden(child)
            elif child.is_dir():
                found.append(child)
            elif child.suffix.lower() in EXTENSIONS:
                self._skipped["loose"].add(child)
        return found

    def parts(self, root: Path) -> dict[str, Path]:
        """The folders of the parts "train", "val" and "test", in any usual spelling; none if it is undivided.

        Raises:
            ValueError: two mean the same part, or there is none to train on or none to test on.
        """
        found: dict[str, Path] = {}
        beside = []
        for child in self.folders(root):
            part = part_of(child.name)
            if part is None:
                beside.append(child)
            elif part in found:
                raise ValueError(
                    f"{root} has {found[part].name!r} and {child.name!r}, and both mean {part!r}; keep one "
                    "of them there."
                )
            else:
                found[part] = child
        if found and ("train" not in found or len(found) == 1):
            there = next(iter(found.values()))
            raise ValueError(
                f"{root} has a folder {there.name!r} but {_missing(found)} beside it"
                f"{_if_a_class(there, beside)}."
            )
        if found:
            self._skipped["beside"].update(beside)
        return found

    def classes(self, root: Path, without: Collection[str] = ()) -> list[str]:
        """The names of the classes, sorted.

        Raises:
            ValueError: there are fewer than two.
        """
        folders = [child for child in self.folders(root) if child.name not in without]
        if len(folders) < 2:
            inner = f"; or give {folders[0]}" if folders and self.folders(folders[0]) else ""
            raise ValueError(
                f"{root} has {_count(len(folders), 'sub-folder')}; a data set needs two or more, one per "
                f"class, with the images inside{inner}."
            )
        return [child.name for child in folders]

    def images(self, folder: Path, fewest: int) -> list[Path]:
        """The image files of a class, at any depth, sorted.

        Raises:
            ValueError: there are fewer than `fewest`, or somewhere the parts of a data set are in the folder.
            OSError: a folder cannot be read.
        """
        found = []
        for place, folders, names in os.walk(folder, onerror=_raise):
            here = Path(place)
            self._check_undivided(here, folders)
            for path in [here / name for name in folders]:
                if _is_hidden(path.name):
                    self._skip_hidden(path)
                elif path.is_symlink():  # os.walk stays away from it, as it may lead in a circle
                    self._skipped["link"].add(path)
            for path in [here / name for name in names]:
                if _is_hidden(path.name):
                    self._skip_hidden(path)
                elif path.suffix.lower() not in EXTENSIONS:
                    self._skipped["other"].add(path)
                elif path.is_file():
                    found.append(path)
                else:
                    self._skipped["link"].add(path)
            folders[:] = [name for name in folders if not _is_hidden(name)]
        if not found:
            others = {path for path in self._skipped["other"] if path.is_relative_to(folder)}
            only = f", only {_count(len(others), 'other file')} {_kinds(others)}" if others else ""
            raise ValueError(
                f"{folder} has no image ({', '.join(EXTENSIONS)}){only}; add some, or remove the folder."
            )
        if len(found) < fewest:
            raise ValueError(
                f"{folder} has {_count(len(found), 'image')}; at least {fewest} are needed to divide a class "
                "into training and held-out images."
            )
        return sorted(found)

    def skipped(self) -> str:
        """What was passed over, with counts, in words; empty where it was nothing."""
        other, hidden, loose, beside, link = self._skipped.values()
        said = []
        if other:
            said.append(f"{_count(len(other), 'file')} of other kinds {_kinds(other)}")
        if hidden:
            names = ("._*" if path.name.startswith("._") else path.name for path in hidden)
            said.append(f"{_count(len(hidden), 'hidden or generated entr', 'y', 'ies')} {_most(names)}")
        if loose:
            said.append(f"{_count(len(loose), 'picture')} outside the folders of classes")
        if beside:
            names = (path.name for path in beside)
            said.append(f"{_count(len(beside), 'folder')} beside those of the parts {_most(names)}")
        if link:
            said.append(f"{_count(len(link), 'link')} to folders or to nothing {_kinds(link)}")
        return "; ".join(said)

    def _skip_hidden(self, path: Path) -> None:
        if path.name not in _VIEWS:
            self._skipped["hidden"].add(path)

    def _check_undivided(self, folder: Path, names: list[str]) -> None:
        parts = {part: name for name in sorted(names) if (part := part_of(name))}
        if len(parts) > 1:
            raise ValueError(
                f"{folder} is to be a class and holds {' and '.join(map(repr, parts.values()))}; give that "
                "folder if it is the data set, or put the parts above the classes."
            )


def part_of(name: str) -> str | None:
    """Which part a folder of this name is, as in "Training", "valid" and "test_set"; None for all others."""
    letters = re.sub(r"[\W\d_]", "", name.lower())
    return _PARTS.get(re.sub(r"(set|data|images|split)$", "", letters))


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in _GENERATED or name in _VIEWS


def _missing(found: Collection[str]) -> str:
    return "neither 'test' nor 'val'" if "train" in found else "no 'train'"


def _if_a_class(folder: Path, beside: list[Path]) -> str:
    if not beside:
        return f"; add one, or give {folder} to have that divided"
    return (
        f"; add one, or if {folder.name!r} is a class as {beside[0].name!r} is, give its folder another "
        f"name, such as '{folder.name} (class)'"
    )


def _raise(error: OSError) -> None:
    raise error


def _count(number: int, what: str, one: str = "", many: str = "s") -> str:
    return f"{number} {what}{one if number == 1 else many}"


def _kinds(paths: Iterable[Path]) -> str:
    return _most(path.suffix.lower() or "no suffix" for path in paths)


def _most(names: Iterable[str]) -> str:
    """The commonest, with how many there are of each."""
    counts = Counter(sorted(names))
    shown = [f"{count} {name}" for name, count in counts.most_common(5)]
    return f"({', '.join(shown)}{', …' if len(counts) > 5 else ''})"
