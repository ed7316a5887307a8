"""TensorBoard's view of a run."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

Curves = Mapping[str, list[float]]


class TensorBoardLog:
    """The curves of a run as scalars, one step an epoch.

    What was logged in an earlier sitting goes, and is written again from the checkpoint: epochs that were
    logged and then lost with a killed process are not there twice.

    Args:
        folder: of the run's event files.
        name: of the run, as TensorBoard shows it behind the folders.
    """

    def __init__(self, folder: Path, name: str = "") -> None:
        self._folder, self._name = folder, name
        self._writer: Any = None

    def curves(self, stage: str = "", test_every: int | None = 1) -> Callable[[Curves], None]:
        """What `kdlib.fit` calls after every epoch.

        Args:
            stage: stands before the names of a stage that is not the whole training.
            test_every: epochs between two tests.
        """
        written: dict[str, int] = {}

        def log(curves: Curves) -> None:
            writer = self._begun()
            for name, values in curves.items():
                every = (test_every or 1) if name.startswith("test_") else 1
                for number in range(written.get(name, 0), len(values)):
                    writer.add_scalar(_tag(stage, name), values[number], (number + 1) * every)
                written[name] = len(values)
            writer.flush()

        return log

    def _begun(self) -> Any:
        """The writer; made at the first entry, because of processes that train together one makes entries."""
        if self._writer is None:
            # Imported here because it takes most of a second, which `import kdlib` should not.
            from torch.utils.tensorboard import SummaryWriter

            if self._folder.exists():
                shutil.rmtree(self._folder)
            self._writer = SummaryWriter(self._folder / self._name)
        return self._writer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()


def _tag(stage: str, name: str) -> str:
    """The card of a curve: training and test each have their own group."""
    group, rest = ("test", name.removeprefix("test_")) if name.startswith("test_") else ("train", name)
    return f"{stage}{group}/{rest.replace(' ', '_')}"
