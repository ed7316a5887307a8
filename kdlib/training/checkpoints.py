"""Checkpoints: everything that a stopped run needs to go on as if it had never stopped; and weights alone.

Each is one safetensors file: tensors, and JSON in its header. Reading one runs no code.
"""

import hashlib
import json
import os
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

FORMAT = 1
_HEADER = "kdlib"


def save_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], header: Mapping[str, Any]
) -> Path:
    """Write tensors with a header of JSON, whole or not at all; an older file of that name is replaced."""
    from safetensors.torch import save

    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"format": FORMAT, **header}, allow_nan=False)
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    shared = Counter(tensor.untyped_storage().data_ptr() for tensor in plain.values())
    plain = {
        # The format has no tied weights: each name gets its own.
        name: tensor.clone() if shared[tensor.untyped_storage().data_ptr()] > 1 else tensor
        for name, tensor in plain.items()
    }
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".part-") as folder:
        whole = Path(folder) / target.name
        # Not by save_file, whose error at a full disk is no OSError.
        with whole.open("wb") as written:
            written.write(save(plain, metadata={_HEADER: text}))
            written.flush()
            os.fsync(written.fileno())
        return whole.replace(target)


def load_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `save_tensors` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, was not written by kdlib, or by a newer kdlib.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {os.fspath(path)!r}.")
    try:
        with safe_open(path, framework="pt") as opened:
            header = json.loads((opened.metadata() or {})[_HEADER])
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  # no mapping
    except (SafetensorError, KeyError, ValueError) as error:
        raise ValueError(
            f"{path} is no checkpoint of kdlib ({error}); remove it, or name another."
        ) from error
    if header["format"] > FORMAT:
        raise ValueError(
            f"{path} has format {header['format']}, newer than this kdlib's {FORMAT}; update kdlib."
        )
    return tensors, header


def save_weights(model: nn.Module, path: str | os.PathLike[str]) -> Path:
    """Write a network's weights and buffers as safetensors, whole or not at all."""
    return save_tensors(path, model.state_dict(), {"network": type(model).__name__})


def load_weights(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Read weights into a network that has exactly these names and shapes.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a file of kdlib, or a name is missing, unexpected, or of another shape.
    """
    tensors, _ = load_tensors(path)
    check_fits(model, tensors, path)
    model.load_state_dict(tensors)


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
    for name, tensor in network.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
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
