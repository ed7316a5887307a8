"""Where runs are kept: a folder for each, which one process at a time may write in."""

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kdlib.data.catalogue import user_cache
from kdlib.experiments.recipes import Recipe
from kdlib.files import PART
from kdlib.paths import folder_from, given_path
from kdlib.training.distributed import from_rank_zero, is_rank_zero
from kdlib.training.environment import code_fingerprint
from kdlib.training.record import RunRecord


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
        """Close the run: the record says that it is whole, and what it needed on the way goes.

        If a process is killed in between, its checkpoint stays, and nobody reads it.
        """
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
        # Imported here because it takes asyncio along, which `import kdlib` should not.
        from filelock import FileLock, Timeout

        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / "lock", poll_interval=0.5)

        def is_acquired(seconds: float) -> bool:
            try:
                lock.acquire(timeout=seconds)
            except Timeout:
                return False
            return True

        if not from_rank_zero(lambda: is_acquired(0)):
            on_waiting()
            # Again and again, because those who train together wait for the first a limited time only.
            while not from_rank_zero(lambda: is_acquired(60)):
                pass
        try:
            if is_rank_zero():
                # Of processes that were killed while they wrote.
                for left in self.path.glob(f"{PART}*"):
                    shutil.rmtree(left)
            yield
        finally:
            lock.release()


class Store:
    """All runs, by the code that trained them, the digest of their recipe and their seed.

    Runs of other code stay beside, and are not taken for today's: a loss that was mended computes another
    run.

    Args:
        root: the folder; KDLIB_RUNS if not given, or ``kdlib/runs`` in the user's cache folder.
    """

    def __init__(self, root: str | os.PathLike[str] | None = None) -> None:
        named = folder_from("KDLIB_RUNS") if root is None else given_path(root, "folder")
        self.root = named or user_cache() / "runs"

    @classmethod
    def temporary(cls) -> "Store":
        """A new and empty store that goes with the process: what comes from it was made just now."""
        folder = tempfile.TemporaryDirectory(prefix="kdlib-runs-")
        store = cls(folder.name)
        weakref.finalize(store, folder.cleanup)
        return store

    @property
    def answers(self) -> Path:
        """What teachers have answered, for other runs that show them the same."""
        return self.root / "answers"

    def folder(self, recipe: Recipe, seed: int) -> RunFolder:
        """The folder of a run, there or not: two names for the same content have one."""
        code = "-".join(filter(None, ("code", code_fingerprint(), recipe.own_code)))
        return RunFolder(self.root / code / recipe.digest / f"seed{seed}")
