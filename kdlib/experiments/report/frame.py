"""Records as a pandas frame, for whoever wants to look at them in another way."""

from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from kdlib.experiments.records import results_folder
from kdlib.names import near
from kdlib.training.record import RunRecord

if TYPE_CHECKING:
    import pandas as pd

# Numbers that are whole, and may be missing.
_WHOLE = ("n", "published_n")


def frame(pattern: str = "*") -> "pd.DataFrame":
    """The records of ``data/results``, one row a run.

    Columns: name, profile, seed, the metrics after the last epoch (accuracy and the others, as fractions),
    seconds, device, and file, the record's path. A run's name is that of its recipe; for a chapter's run it
    is the chapter's and the run's, such as "01-why-distil/student alone".

    Args:
        pattern: a name, or a pattern as a shell has it, such as ``cifar/*``.

    Raises:
        ValueError: no record's name fits; the message has near ones.
    """
    records = [(name, run, file) for name, run, file in _records(pattern.partition("/")[0])]
    rows = [_row(*each) for each in records if fnmatchcase(each[0], pattern)]
    if not rows:
        known = dict.fromkeys(name for name, _, _ in records or _records("*"))
        raise ValueError(f"no record in {results_folder()} is called {pattern!r}; {near(pattern, known)}")
    return as_frame(rows)


def as_frame(rows: Iterable[Mapping[str, Any]]) -> "pd.DataFrame":
    """A frame from rows in plain Python."""
    # Imported here because it takes more than a second, which `import kdlib` should not.
    import pandas as pd

    found = pd.DataFrame(list(rows))
    return found.astype({name: "Int64" for name in _WHOLE if name in found})


def _records(folder: str) -> Iterator[tuple[str, RunRecord, str]]:
    """Names, records and paths of the folders that fit."""
    root = results_folder()
    for path in sorted(root.glob(f"{folder}/*/[!.]*.json")):
        run, file = RunRecord.load(path), path.relative_to(root).as_posix()
        yield run.label if run.recipe else f"{file.partition('/')[0]}/{run.label}", run, file


def _row(name: str, run: RunRecord, file: str) -> dict[str, Any]:
    return {
        "name": name, "profile": run.profile, "seed": run.seed, **run.final, "seconds": run.seconds,
        "device": run.environment.get("device"), "file": file,
    }  # fmt: skip
