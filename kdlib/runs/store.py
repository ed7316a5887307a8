"""Where runs are kept: a folder for each, which one process at a time may write in."""

import os
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kdlib.data.catalogue import user_cache
from kdlib.recipes import Recipe
from kdlib.results import RunRecord
from kdlib.runs.locks import RunLock
from kdlib.training.processes import from_first


@dataclass(frozen=True)
class RunFolder:
    """The files of one run.

    Attributes:
        path: of the folder; it is there from the first training on.
    """

    path: Path

    @property
    def checkpoint(self) -> Path:
        """The run as far as it is, while it is under way."""
        return self.path / "checkpoint.safetensors"

    @property
    def first_checkpoint(self) -> Path:
        """The same of a first stage."""
        return self.path / "first-stage.safetensors"

    @property
    def student(self) -> Path:
        """The trained weights."""
        return self.path / "student.safetensors"

    @property
    def record(self) -> Path:
        return self.path / "record.json"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def is_finished(self) -> bool:
        return self.record.is_file() and self.student.is_file()

    @property
    def is_under_way(self) -> bool:
        """Whether a later sitting would go on where this one is."""
        return not self.is_finished and (self.checkpoint.is_file() or self.first_checkpoint.is_file())

    def load_record(self) -> RunRecord:
        """The record of a finished run.

        Raises:
            ValueError: the file is damaged; the message names it.
        """
        return RunRecord.load(self.record)

    def finish(self, record: RunRecord) -> None:
        """Close the run: the record says that it is whole, and what it needed on the way goes."""
        record.save(self.record)
        self.checkpoint.unlink(missing_ok=True)
        self.first_checkpoint.unlink(missing_ok=True)

    @contextmanager
    def held(self, on_waiting: Callable[[], object]) -> Iterator[None]:
        """Keep other processes out meanwhile.

        The system lets go of the lock when its process ends, in whatever way. Of processes that train
        together the first has it for all.

        Args:
            on_waiting: called once if another process is in.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = RunLock(self.path)
        if not from_first(lambda: lock.acquire(0)):
            on_waiting()
            # Again and again, because those who train together wait for the first a limited time only.
            while not from_first(lambda: lock.acquire(60)):
                pass
        try:
            yield
        finally:
            lock.release()


class Store:
    """All runs, by the digest of their recipe and their seed.

    Args:
        root: the folder; KDLIB_RUNS if not given, or ``kdlib/runs`` in the user's cache folder.
    """

    def __init__(self, root: str | os.PathLike[str] | None = None) -> None:
        named = root if root is not None else os.environ.get("KDLIB_RUNS")
        self.root = Path(named).expanduser() if named else user_cache() / "runs"

    @classmethod
    def temporary(cls) -> "Store":
        """A new and empty store that goes with the process: what comes from it was made just now."""
        folder = tempfile.TemporaryDirectory(prefix="kdlib-runs-")
        store = cls(folder.name)
        weakref.finalize(store, folder.cleanup)
        return store

    def folder(self, recipe: Recipe, seed: int) -> RunFolder:
        """The folder of a run, there or not: two names for the same content have one."""
        return RunFolder(self.root / recipe.digest / f"seed{seed}")
