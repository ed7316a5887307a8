"""TensorBoard's view of a run."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

Curves = Mapping[str, list[float]]


class TensorBoardLog:
    """The curves of a run as scalars, one step an epoch.

    What was logged in an earlier sitting goes, and is written again from the checkpoint: epochs that were
    logged and then lost with a killed process are not there twice.

    Args:
        folder: of the run's event files.
    """

    def __init__(self, folder: Path) -> None:
        # Imported here because it takes most of a second, which `import kdlib` should not.
        from torch.utils.tensorboard import SummaryWriter

        if folder.exists():
            shutil.rmtree(folder)
        self._writer = SummaryWriter(folder)

    def curves(self, stage: str = "", test_every: int | None = 1) -> Callable[[Curves], None]:
        """What `kdlib.fit` calls after every epoch.

        Args:
            stage: stands before the names of a stage that is not the whole training.
            test_every: epochs between two tests.
        """
        written: dict[str, int] = {}

        def log(curves: Curves) -> None:
            for name, values in curves.items():
                every = (test_every or 1) if name.startswith("test_") else 1
                for number in range(written.get(name, 0), len(values)):
                    self._writer.add_scalar(_tag(stage, name), values[number], (number + 1) * every)
                written[name] = len(values)
            self._writer.flush()

        return log

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()


def _tag(stage: str, name: str) -> str:
    """The card of a curve: training and test each have their own group."""
    group, rest = ("test", name.removeprefix("test_")) if name.startswith("test_") else ("train", name)
    return f"{stage}{group}/{rest.replace(' ', '_')}"
