"""Device and precision: what "auto" means, and what cannot be done here."""

import inspect
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from kdlib.distiller import Distiller, Objective
from kdlib.models import count_parameters
from kdlib.models.answers import FullPrecision
from kdlib.models.trials import can_answer
from kdlib.training import distributed

PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")
_AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}

# ResNet-20 has 270,000. Below this, casting costs about what the faster arithmetic saves, and the small
# networks of the course's first chapters give the same numbers on every processor.
_WORTH_CASTING = 250_000


def choose_device(device: str | torch.device = "auto") -> torch.device:
    """The device of this name, or this device; "auto" is the GPU where there is one, and the CPU elsewhere.

    Where torchrun started several processes, "auto" and "cuda" are each process's own GPU.

    Raises:
        ValueError: there is no such device here.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
        if chosen == torch.device("cuda") and distributed.world_size() > 1:
            chosen = distributed.local_gpu()
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(f"device {str(device)!r} cannot be used here; try 'auto' or 'cpu'.") from error
    return chosen


def choose_precision(precision: str, device: torch.device, *networks: nn.Module | None) -> str:
    """One of Lightning Fabric's names for a precision.

    - "32-true": everything in float32.
    - "bf16-mixed": convolutions and products in bfloat16, weights, optimiser and losses in float32.
    - "16-mixed": the same with float16, whose small range needs the loss scaled; GPUs only.
    - "auto": "bf16-mixed" where the hardware computes in bfloat16 itself and the networks, the teacher's
      included, have 250,000 weights or more; "32-true" elsewhere.

    Args:
        precision: one of these.
        device: where the networks run.
        networks: what is computed; None is skipped.

    Raises:
        ValueError: there is no such precision, or the device has it not.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}; choose one of {', '.join(PRECISIONS)}.")
    if precision == "16-mixed" and device.type == "cpu":
        raise ValueError("precision is '16-mixed', which needs a GPU; a CPU has 'bf16-mixed' or '32-true'.")
    if precision != "auto":
        return precision
    weights = sum(count_parameters(network) for network in networks if network is not None)
    return "bf16-mixed" if weights >= _WORTH_CASTING and has_bfloat16(device) else "32-true"


def has_bfloat16(device: torch.device) -> bool:
    """Whether the hardware itself computes in bfloat16, so that it is not emulated, which is slower."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    # The instructions of AMX include these; both are what oneDNN's bfloat16 convolutions are made of.
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())


@contextmanager
def answering_teacher(objective: Objective, example: Tensor, precision: str) -> Iterator[None]:
    """Ask a teacher that cannot compute under autocast, such as a quantised one, without it."""
    dtype, teacher = _AUTOCAST.get(precision), objective.teacher
    if (
        dtype is None
        or teacher is None
        or not isinstance(objective, Distiller)
        or can_answer(teacher, example, dtype)
    ):
        yield
        return
    with objective.taught_by(FullPrecision(teacher)):
        yield


def make_fabric(device: torch.device, precision: Any) -> Any:
    """Lightning Fabric: it casts, scales the loss, and averages the gradients of several processes."""
    # Imported here because it takes more than a second, which `import kdlib` should not.
    asks_driver = "PYTORCH_NVML_BASED_CUDA_CHECK"
    before = os.environ.get(asks_driver)
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
    from lightning_fabric.strategies.ddp import DDPStrategy

    # Fabric has torch ask NVIDIA's driver whether there is a GPU, and Adam asks in every step. Without a GPU
    # that is a search for a library that is not there, and a tenth of the time of a small step.
    if before is None and not torch.cuda.is_available():
        os.environ.pop(asks_driver, None)
    if distributed.world_size() == 1:
        options: dict[str, Any] = {
            "devices": [device.index or 0] if device.type == "cuda" else 1,
            # Said, because Fabric looks for Slurm otherwise, and takes the process for one of several there.
            "plugins": LightningEnvironment(),
        }
    else:
        options = {
            "devices": distributed.local_world_size(),
            "num_nodes": distributed.world_size() // distributed.local_world_size(),
            "plugins": TorchElasticEnvironment(),
            # Of a static graph some weights may have no part in the loss. Buffers are the same already.
            "strategy": DDPStrategy(static_graph=True, **_no_buffers_sent()),
        }
    # It announces the precision and the processes, at every training.
    log = logging.getLogger("lightning_fabric.utilities.rank_zero")
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        fabric = Fabric(accelerator=device.type, precision=precision, **options)
        if distributed.world_size() > 1:
            fabric.launch()
    finally:
        log.setLevel(level)
    return fabric


def _no_buffers_sent() -> dict[str, Any]:
    """DDP's argument for that: torch 2.14 gave it another name, and warns of the old one."""
    names = inspect.signature(DistributedDataParallel).parameters
    return {"forward_sync_buffers" if "forward_sync_buffers" in names else "broadcast_buffers": False}
