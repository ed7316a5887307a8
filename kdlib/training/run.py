"""`Run`: all that changes while a network is trained, and how it is kept and taken up again."""

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from kdlib.distiller import Objective
from kdlib.losses.inputs import DivergedError
from kdlib.models.controls import generators
from kdlib.training import processes
from kdlib.training.checkpoints import (
    check_fits,
    flatten_optimizer,
    load_tensors,
    restore_optimizer,
    save_tensors,
)
from kdlib.training.optimisers import scheduler_state

# A checkpoint is worth its time when at least so much work would be lost without it.
_SECONDS_BETWEEN_CHECKPOINTS = 60.0


class Run:
    """A training under way.

    Args:
        objective: connected, on its device.
        optimizer: of its parameters.
        schedule: of the learning rate; None keeps it.
        identity: what tells this run from others, JSON; a checkpoint of another is refused.
        path: of the checkpoint; None keeps none.

    Attributes:
        epoch: the epoch that is under way, from 0.
        batch: how many batches of it are done.
        images: how many images these were.
        sums: of the loss and its terms over these images.
        curves: for each name one value per finished epoch.
        seconds: wall time of the earlier sittings.
    """

    def __init__(
        self,
        objective: Objective,
        optimizer: Optimizer,
        schedule: LRScheduler | None,
        identity: Mapping[str, Any],
        path: str | os.PathLike[str] | None,
    ) -> None:
        self.objective, self.optimizer, self.schedule = objective, optimizer, schedule
        self.identity = json.loads(json.dumps(identity, default=str))
        self.path = None if path is None else Path(path)
        self.epoch = self.batch = self.images = 0
        self.sums: dict[str, Tensor] = {}
        self.curves: dict[str, list[float]] = {}
        self.seconds = 0.0
        self._began = self._kept = time.monotonic()
        # How float16 scales the loss; empty for the other precisions.
        self._precision: Any = None
        self._precision_state: dict[str, Any] = {}

    @property
    def elapsed(self) -> float:
        """Seconds of training in all sittings."""
        return self.seconds + time.monotonic() - self._began

    def take_up_precision(self, precision: Any) -> None:
        """Keep Fabric's `precision` with the run; where one was resumed, put it back as it was."""
        self._precision = precision
        if self._precision_state:
            precision.load_state_dict(self._precision_state)

    def count(self, values: Mapping[str, Tensor], images: int) -> None:
        """Add what a step measured."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0) + value.detach() * images
        self.images += images
        self.batch += 1

    def finish_epoch(self, measured: Mapping[str, float]) -> dict[str, float]:
        """Close the epoch: means over its images, and what was measured besides, go to the curves."""
        # Read once an epoch: a GPU is not made to wait at every step.
        values = {name: float(value) / self.images for name, value in self.sums.items()} | dict(measured)
        for name, value in values.items():
            self.curves.setdefault(name, []).append(value)
        self.epoch, self.batch, self.images, self.sums = self.epoch + 1, 0, 0, {}
        return values

    def is_due(self) -> bool:
        """Whether the last checkpoint is old enough to be replaced."""
        return self.path is not None and time.monotonic() - self._kept > _SECONDS_BETWEEN_CHECKPOINTS

    def keep(self) -> None:
        """Write the checkpoint, if there is to be one; the first process does.

        Raises:
            DivergedError: a weight is NaN or infinite; the checkpoint from before stays.
        """
        if self.path is None:
            return
        self._check_weights()
        optimizer, groups = flatten_optimizer(self.optimizer)
        tensors = {
            **_prefixed("objective", self.objective.state_dict()),
            **_prefixed("optimizer", optimizer),
            **_prefixed("sums", self.sums),
            **_prefixed("generator", {name: state for name, (state, _) in self._generators().items()}),
        }
        header = {
            "identity": self.identity,
            "groups": groups,
            "schedule": None if self.schedule is None else scheduler_state(self.schedule),
            "epoch": self.epoch, "batch": self.batch, "images": self.images,
            "curves": self.curves, "seconds": self.elapsed,
            "precision": {} if self._precision is None else self._precision.state_dict(),
        }  # fmt: skip
        if processes.is_first():
            save_tensors(self.path, tensors, header)
        self._kept = time.monotonic()

    def resume(self) -> None:
        """Take up the checkpoint, if there is one.

        Raises:
            ValueError: it is of another run, and the message says what differs.
        """
        if self.path is None or not processes.from_first(self.path.exists):
            return
        tensors, header = load_tensors(self.path)
        self._check_same(header["identity"])
        state = _under("objective", tensors)
        check_fits(self.objective, state, self.path)
        self.objective.load_state_dict(state)
        restore_optimizer(self.optimizer, _under("optimizer", tensors), header["groups"])
        if self.schedule is not None:
            self.schedule.load_state_dict(header["schedule"])
        device = next(self.objective.parameters()).device
        self.sums = {name: value.to(device) for name, value in _under("sums", tensors).items()}
        states = _under("generator", tensors)
        for name, (_, restore) in self._generators().items():
            if name in states:  # a run that began on a CPU has none of a GPU's
                restore(states[name])
        self.epoch, self.batch, self.images = header["epoch"], header["batch"], header["images"]
        self.curves, self.seconds = header["curves"], header["seconds"]
        self._precision_state = header.get("precision", {})

    def _check_weights(self) -> None:
        named = dict(self.objective.named_parameters())
        finite = torch.stack([weight.isfinite().all() for weight in named.values()]).tolist()
        for name, is_finite in zip(named, finite, strict=True):
            if not is_finite:
                raise DivergedError(
                    f"the weights of {name} became NaN or infinite in epoch {self.epoch + 1}; try a lower "
                    "learning rate."
                )

    def _check_same(self, other: Mapping[str, Any]) -> None:
        names = [*self.identity, *(name for name in other if name not in self.identity)]
        for name in names:
            ours, theirs = self.identity.get(name), other.get(name)
            if ours != theirs:
                raise ValueError(
                    f"{self.path} is of another run: its {name} is {theirs!r}, and here it is {ours!r}; "
                    "give another file, or the arguments that it was made with."
                )

    def _generators(self) -> dict[str, tuple[Tensor, Callable[[Tensor], object]]]:
        """The state of every source of random numbers, and what puts one back."""
        found: dict[str, tuple[Tensor, Callable[[Tensor], object]]] = {
            "torch": (torch.get_rng_state(), torch.set_rng_state)
        }
        if torch.cuda.is_available():
            found["cuda"] = (torch.cuda.get_rng_state(), torch.cuda.set_rng_state)
        networks = {"objective": self.objective, "teacher": self.objective.teacher}
        for whose, network in networks.items():
            for path, generator in () if network is None else generators(network):
                found[f"{whose}.{path}"] = (generator.get_state(), generator.set_state)
        return found


def _prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}/"
    return {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}
