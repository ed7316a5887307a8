"""Device and precision: what "auto" means, and what cannot be done here."""

import inspect
import os
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from kdlib.models import count_parameters
from kdlib.training import processes

PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")

# ResNet-20 has 270,000. Below this, casting costs about what the faster arithmetic saves, and the small
# networks of the course's first chapters give the same numbers on every processor.
_WORTH_CASTING = 250_000


def choose_device(device: str = "auto") -> torch.device:
    """The device of this name; "auto" is the GPU where there is one, and the CPU elsewhere.

    Where torchrun started several processes, "auto" and "cuda" are each process's own GPU.

    Raises:
        ValueError: there is no such device here.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
        if chosen == torch.device("cuda") and processes.count() > 1:
            chosen = processes.own_gpu()
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {device!r} cannot be used here; try 'auto' or 'cpu'.") from error
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


def make_fabric(device: torch.device, precision: Any) -> Any:
    """Lightning Fabric: it casts, scales the loss, and averages the gradients of several processes."""
    # Imported here because it takes more than a second, which `import kdlib` should not.
    import logging

    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
    from lightning_fabric.strategies.ddp import DDPStrategy

    # Fabric has torch ask NVIDIA's driver whether there is a GPU, and Adam asks in every step. Without a GPU
    # that is a search for a library that is not there, and a tenth of the time of a small step.
    if not torch.cuda.is_available():
        os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
    # It would otherwise announce the precision at every training.
    logging.getLogger("lightning_fabric.utilities.rank_zero").setLevel(logging.WARNING)
    if processes.count() == 1:
        devices = [device.index or 0] if device.type == "cuda" else 1
        # Said, because Fabric looks for Slurm otherwise, and takes the process for one of several there.
        alone = LightningEnvironment()
        return Fabric(accelerator=device.type, devices=devices, precision=precision, plugins=alone)
    fabric = Fabric(
        accelerator=device.type,
        devices=processes.on_this_machine(),
        num_nodes=processes.count() // processes.on_this_machine(),
        precision=precision,
        plugins=TorchElasticEnvironment(),
        # Of a static graph some weights may have no part in the loss. Buffers are the same already.
        strategy=DDPStrategy(static_graph=True, **_no_buffers_sent()),
    )
    fabric.launch()
    return fabric


def _no_buffers_sent() -> dict[str, Any]:
    """DDP's argument for that: torch 2.14 gave it another name, and warns of the old one."""
    names = inspect.signature(DistributedDataParallel).parameters
    return {"forward_sync_buffers" if "forward_sync_buffers" in names else "broadcast_buffers": False}
