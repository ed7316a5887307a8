"""What a stopped run needs to go on as if it had never stopped: its state, and the files that hold it.

Each is one safetensors file: tensors, and JSON in its header. Reading one runs no code.
"""

import hashlib
import json
import os
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils._pytree import tree_leaves

from kdlib.distiller import Objective
from kdlib.files import written_whole
from kdlib.losses.inputs import DivergedError
from kdlib.models.controls import generators
from kdlib.models.taps import unwrapped
from kdlib.paths import given_path
from kdlib.plain import plain
from kdlib.training import distributed
from kdlib.training.optim import restore_scheduler, scheduler_state

FORMAT = 1
_HEADER, _CHECKSUM = "kdlib", "checksum"
# A checkpoint is worth its time when at least so much work would be lost without it.
_SECONDS_BETWEEN_CHECKPOINTS = 60.0


class TrainState:
    """A training under way.

    Args:
        objective: connected, on its device.
        optimizer: of its parameters.
        scheduler: of the learning rate; None keeps it.
        identity: what tells this run from others; a checkpoint of another is refused.
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
        scheduler: LRScheduler | None,
        identity: Mapping[str, Any],
        path: str | os.PathLike[str] | None,
    ) -> None:
        self.objective, self.optimizer, self.scheduler = objective, optimizer, scheduler
        self.identity = plain(identity)
        self.path = None if path is None else given_path(path, "file")
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

    @property
    def _device(self) -> torch.device:
        return next(self.objective.parameters()).device

    def attach_precision(self, precision: Any) -> None:
        """Keep Fabric's `precision` with the run; where one was resumed, put it back as it was."""
        self._precision = precision
        if self._precision_state:
            precision.load_state_dict(self._precision_state)

    def add_step(self, values: Mapping[str, Tensor], images: int) -> None:
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

    def checkpoint_is_due(self) -> bool:
        """Whether the last checkpoint is old enough to be replaced."""
        return self.path is not None and time.monotonic() - self._kept > _SECONDS_BETWEEN_CHECKPOINTS

    def save_checkpoint(self) -> None:
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
            "schedule": None if self.scheduler is None else scheduler_state(self.scheduler),
            "epoch": self.epoch, "batch": self.batch, "images": self.images,
            "curves": self.curves, "seconds": self.elapsed,
            "precision": {} if self._precision is None else self._precision.state_dict(),
        }  # fmt: skip
        if distributed.is_rank_zero():
            save_tensors(self.path, tensors, header)
        self._kept = time.monotonic()

    def resume(self) -> None:
        """Take up the checkpoint, if there is one.

        Raises:
            ValueError: it is of another run, and the message says what differs; or it is damaged.
        """
        if self.path is None or not distributed.from_rank_zero(self.path.exists):
            return
        tensors, header = load_tensors(self.path)
        if "identity" not in header:
            raise ValueError(
                f"{self.path} has a network's weights and no run; give `checkpoint` another file."
            )
        self._check_same(header["identity"])
        state = _under("objective", tensors)
        check_fits(self.objective, state, self.path)
        self.objective.load_state_dict(state)
        restore_optimizer(self.optimizer, _under("optimizer", tensors), header["groups"])
        if self.scheduler is not None:
            restore_scheduler(self.scheduler, header["schedule"])
        self.sums = {name: value.to(self._device) for name, value in _under("sums", tensors).items()}
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
        """The state of every source of random numbers, and what puts one back.

        Of processes that train together all have these in the same state: what each draws for itself, it
        draws from other ones; see `kdlib.training.distributed`.
        """
        found: dict[str, tuple[Tensor, Callable[[Tensor], object]]] = {
            "torch": (torch.get_rng_state(), torch.set_rng_state)
        }
        if self._device.type == "cuda":
            # Of several GPUs this process's own.
            restore = partial(torch.cuda.set_rng_state, device=self._device)
            found["cuda"] = (torch.cuda.get_rng_state(self._device), restore)
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


def save_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], header: Mapping[str, Any]
) -> Path:
    """Write tensors with a header of JSON, whole or not at all; an older file of that name is replaced."""
    from safetensors.torch import save

    text = json.dumps({"format": FORMAT, **header}, allow_nan=False)
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    shared = Counter(tensor.untyped_storage().data_ptr() for tensor in plain.values())
    plain = {
        # The format has no tied weights: each name gets its own.
        name: tensor.clone() if shared[tensor.untyped_storage().data_ptr()] > 1 else tensor
        for name, tensor in plain.items()
    }
    # Not by save_file, whose error at a full disk is no OSError.
    content = save(plain, metadata={_HEADER: text, _CHECKSUM: _checksum(text, plain)})
    with written_whole(path) as file:
        file.write(content)
    return given_path(path, "file")


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise ValueError unless a file can be written there, which would be found out after an hour only."""
    target = given_path(path, "file")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=target.parent):
            pass
    except OSError as error:
        raise ValueError(
            f"checkpoint is {str(target)!r}, where nothing can be written ({error.strerror}); name another "
            "file."
        ) from error


def load_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `save_tensors` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, was not written by kdlib, or by a newer kdlib.
    """
    from safetensors import SafetensorError, safe_open

    source = given_path(path, "file")
    if not source.is_file():
        raise FileNotFoundError(f"there is no file {os.fspath(path)!r}.")
    try:
        with safe_open(source, framework="pt") as opened:
            written = opened.metadata() or {}
            header = json.loads(written[_HEADER])
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  # no mapping
        # Files of earlier versions have none.
        if written.get(_CHECKSUM, checksum := _checksum(written[_HEADER], tensors)) != checksum:
            raise ValueError("its content is not what was written")
    except (SafetensorError, KeyError, ValueError) as error:
        raise ValueError(
            f"{path} is no checkpoint of kdlib, or a damaged one ({error}); remove it, or name another."
        ) from error
    if header["format"] > FORMAT:
        raise ValueError(
            f"{path} has format {header['format']}, newer than this kdlib's {FORMAT}; update kdlib."
        )
    return tensors, header


def _checksum(text: str, tensors: Mapping[str, Tensor]) -> str:
    """Of header and tensors: a disk may lose what lies between the two ends of a file."""
    found = zlib.crc32(text.encode())
    for name in sorted(tensors):
        found = zlib.crc32(_bytes(tensors[name]), found)
    return f"{found:08x}"


def _bytes(tensor: Tensor) -> Any:
    """What a tensor holds, as `hashlib` and `zlib` read it."""
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()


def save_weights(model: nn.Module, path: str | os.PathLike[str]) -> Path:
    """Write a network's weights and buffers as safetensors, whole or not at all.

    In a wrapper of torch.compile or of data parallelism they have the network's own names all the same.
    """
    network = unwrapped(model)
    return save_tensors(path, network.state_dict(), {"network": type(network).__name__})


def load_weights(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Read weights into a network that has exactly these names and shapes, wrapped or not.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a file of kdlib, or a name is missing, unexpected, or of another shape.
    """
    tensors, _ = load_tensors(path)
    network = unwrapped(model)
    check_fits(network, tensors, path)
    network.load_state_dict(tensors)


def check_fits(model: nn.Module, tensors: Mapping[str, Tensor], path: str | os.PathLike[str]) -> None:
    """Raise ValueError, naming the weights, unless names and shapes are the network's.

    Code that drops what does not fit goes on with a partly random network, and nothing tells.
    """
    own = model.state_dict()
    missing, unexpected = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    if missing or unexpected:
        raise ValueError(
            f"{path} does not fit this {type(model).__name__}: missing {_some(missing)}; unexpected "
            f"{_some(unexpected)}. Create the network that was saved."
        )
    for name, weight in own.items():
        if weight.shape != tensors[name].shape:
            raise ValueError(
                f"{path} has {name} of shape {tuple(tensors[name].shape)} and this {type(model).__name__} of "
                f"{tuple(weight.shape)}; create the network with the classes and widths that were saved."
            )


def fingerprint(network: nn.Module) -> str:
    """A hash of a network's weights and buffers, the same on every device."""
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        for leaf in tree_leaves(value):  # quantised layers have tuples there, and types
            if not isinstance(leaf, Tensor):
                digest.update(f"{name} {leaf!r}".encode())
                continue
            digest.update(f"{name} {leaf.dtype} {tuple(leaf.shape)}".encode())
            tensor: Any = leaf.dequantize() if leaf.is_quantized else leaf
            digest.update(_bytes(tensor))
    return digest.hexdigest()[:12]


def flatten_optimizer(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """An optimiser's state as tensors by name, and its parameter groups as JSON."""
    state = optimizer.state_dict()
    tensors = {
        f"{index}.{key}": torch.as_tensor(value)
        for index, values in state["state"].items()
        for key, value in values.items()
        if value is not None
    }
    return tensors, state["param_groups"]


def restore_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], groups: list[dict[str, Any]]
) -> None:
    """The inverse of `flatten_optimizer`."""
    state: dict[int, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:3]) or "nothing"
    return shown + (f" and {len(names) - 3} more" if len(names) > 3 else "")
