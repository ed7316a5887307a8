"""A sitting: of many runs as many as fit into some minutes, the shortest first."""

import _thread
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from kdlib.experiments.packing import pack_records
from kdlib.experiments.recipes import RunName
from kdlib.experiments.runner import finished
from kdlib.experiments.store import Store
from kdlib.experiments.sweeps.cost import images_seen, measured_seconds
from kdlib.experiments.sweeps.graph import Job
from kdlib.training import choose_device
from kdlib.training.environment import environment

# What the last step, its checkpoint and the packing of the records take at most, of the time that is given.
_SHARE_TO_END, _SECONDS_TO_END = 0.1, 20.0


class Sitting:
    """A context that ends after some minutes, as if Ctrl-C were pressed: a run under way keeps a checkpoint.

    Args:
        minutes: from now on.
        clock: tells the seconds.
        alarm: calls a function after some seconds, unless it is cancelled.

    Raises:
        ValueError: there is no time.
    """

    def __init__(
        self,
        minutes: float,
        clock: Callable[[], float] = time.monotonic,
        alarm: Callable[[float, Callable[[], object]], threading.Timer] = threading.Timer,
    ) -> None:
        if not 0 < minutes < threading.TIMEOUT_MAX / 60:
            raise ValueError(f"--minutes is {minutes:g}; it must be above 0.")
        seconds = 60 * minutes
        self._clock = clock
        self._end = clock() + seconds - min(_SHARE_TO_END * seconds, _SECONDS_TO_END)
        self._alarm = alarm(self._end - clock(), _thread.interrupt_main)
        self._alarm.daemon = True

    @property
    def is_over(self) -> bool:
        return self._clock() >= self._end

    def __enter__(self) -> Self:
        self._alarm.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._alarm.cancel()
        return kind is not None and issubclass(kind, KeyboardInterrupt) and self.is_over


def shortest_first(jobs: Mapping[str, Job], asked: Sequence[RunName], device: str) -> list[RunName]:
    """The runs in the order in which the most of them are done soon, each counted with what it still needs.

    A run takes what records on such a device say; where they say nothing, as long as its images take at the
    mean rate of all, and with no record at all its images decide.

    Args:
        jobs: all runs, and what each needs.
        asked: the runs to be put in order.
        device: as `kdlib.fit` takes it.
    """
    store = Store()
    left = {name for name, job in jobs.items() if not store.folder(*job.run).is_finished}
    costs = _costs({name: jobs[name].run for name in left}, device)
    needs: dict[str, set[str]] = {}
    for name, job in jobs.items():  # each stands after those that it needs
        needs[name] = {name}.union(*(needs[needed] for needed in job.needs))
    names = {(job.run.recipe.digest, job.run.seed): name for name, job in jobs.items()}
    waiting = [(run, needs[names[run.recipe.digest, run.seed]]) for run in asked]
    order = []
    while waiting:
        first = min(waiting, key=lambda each: sum(costs[name] for name in each[1] & left))
        waiting.remove(first)
        left -= first[1]
        order.append(first[0])
    return order


def _costs(runs: Mapping[str, RunName], device: str) -> dict[str, float]:
    """The seconds that each run is expected to take, up to a common factor where no record is of use."""
    here = str(environment(choose_device(device))["device"])
    profiles = {run.recipe.profile for run in runs.values()}
    tellers = [measured_seconds([run.recipe for run in runs.values()], each, here) for each in profiles]
    images = {name: images_seen(run.recipe) for name, run in runs.items()}
    told = {name: seconds for name, run in runs.items() for tell in tellers if (seconds := tell(run))}
    rate = sum(told.values()) / sum(images[name] for name in told) if told else 1.0
    return {name: told.get(name, rate * images[name]) for name in runs}


def pack_finished(jobs: Mapping[str, Job]) -> tuple[Path, int]:
    """Pack the records of the runs that are finished; the file, in the folder of runs, and their number."""
    store = Store()
    records: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for job in jobs.values():
            record = finished(*job.run, store)
            if record is not None:
                place = f"{job.run.recipe.family}/{record.place}"
                records[place] = record.save(Path(scratch) / "record.json").read_bytes()
    file = store.root / "records.zip"
    pack_records(records, file)
    return file, len(records)
