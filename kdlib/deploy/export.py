"""A network as a file that runs without its Python code: torch.export's, or ONNX.

The file is read back and asked about a few images before it gets its name, so that a file that is there
answers as the network does.
"""

import copy
import importlib.util
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from kdlib.data import Split

Network = Callable[[Tensor], Tensor]

_ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class Exported:
    """A file that holds a network.

    Attributes:
        path: of the file.
        size: in bytes.
        difference: the largest difference between a logit from the file and the network's own, as a share of
            the largest logit.
    """

    path: Path
    size: int
    difference: float


class FromPixels(nn.Module):
    """A network together with the normalisation that its images had in training.

    uint8 pixels (N, in_channels, H, W) to logits (N, num_classes). Whoever uses the file needs no mean and no
    standard deviation, and cannot take the wrong ones.

    Args:
        model: the network; shared, not copied.
        split: images of the data set that it was trained on.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, split: Split) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.tensor(split.mean)[:, None, None])
        self.register_buffer("std", torch.tensor(split.std)[:, None, None])

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.model((pixels.float() / 255 - self.mean) / self.std)
        return logits


def pixels(split: Split, count: int) -> Tensor:
    """The first images as a network sees them in a test, before normalisation: uint8, on the CPU.

    Args:
        split: where they come from.
        count: how many, or all if there are fewer.
    """
    channels = split.images.shape[1]
    images = split.images[torch.arange(min(count, len(split)))]
    seen = split.augmentation(images, (0.0,) * channels, (1.0,) * channels)
    return (255 * seen).round().to(torch.uint8)


def export_program(
    model: nn.Module, path: str | os.PathLike[str], images: Tensor, tolerance: float = 1e-4
) -> Exported:
    """Write a network as torch.export's program, which PyTorch runs without the network's code.

    Args:
        model: left as it was; the file has its evaluation mode, for batches of any size.
        path: ends in ".pt2"; an older file of that name is replaced.
        images: a few inputs, (N, in_channels, H, W), to trace the network with and to check the file on.
        tolerance: the largest `Exported.difference` to accept.

    Raises:
        ValueError: the path ends otherwise, the network cannot be traced for batches of any size, or the file
            answers otherwise than the network; no file is left then.
    """

    def write(network: nn.Module, whole: Path) -> None:
        torch.export.save(_traced(network, images), whole)

    return _export(model, Path(path), ".pt2", images, tolerance, write, load_program)


def export_onnx(
    model: nn.Module, path: str | os.PathLike[str], images: Tensor, tolerance: float = 1e-4
) -> Exported:
    """Write a network as ONNX, which phones, browsers and servers run without PyTorch.

    Its input is called ``images`` and its output ``logits``.

    Args:
        model: left as it was; the file has its evaluation mode, for batches of any size.
        path: ends in ".onnx"; an older file of that name is replaced.
        images: a few inputs, (N, in_channels, H, W), to trace the network with and to check the file on.
        tolerance: the largest `Exported.difference` to accept, with ONNX Runtime.

    Raises:
        ModuleNotFoundError: a package is missing; the message has the command that installs it.
        ValueError: as `export_program`.
    """
    _need_onnx()

    def write(network: nn.Module, whole: Path) -> None:
        program = torch.onnx.export(
            _traced(network, images),
            input_names=["images"],
            output_names=["logits"],
            dynamo=True,
            verbose=False,
        )
        assert program is not None  # None is for callers that have torch write the file
        program.save(whole)

    return _export(model, Path(path), ".onnx", images, tolerance, write, load_onnx)


def load_program(path: str | os.PathLike[str]) -> Network:
    """The network in a file that `export_program` wrote.

    Open files that you or somebody you trust wrote, and no others: torch unpickles a part of them, which can
    run any code. An ONNX file has none to run.

    Raises:
        FileNotFoundError: there is no such file.
    """
    _check_there(path)
    with _quiet():
        program = torch.export.load(path).module()

    # A function, as from an ONNX file: the module that torch returns refuses train() and eval().
    def network(images: Tensor) -> Tensor:
        logits: Tensor = program(images)
        return logits

    return network


def load_onnx(path: str | os.PathLike[str], threads: int = 1) -> Network:
    """The network in an ONNX file, run by ONNX Runtime on the CPU.

    Args:
        path: of the file.
        threads: how many it computes with; PyTorch's own setting does not reach it.

    Raises:
        FileNotFoundError: there is no such file.
        ModuleNotFoundError: a package is missing; the message has the command that installs it.
    """
    _check_there(path)
    _need_onnx()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def network(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {name: images.numpy()})[0])

    return network


def _export(
    model: nn.Module,
    target: Path,
    suffix: str,
    images: Tensor,
    tolerance: float,
    write: Callable[[nn.Module, Path], None],
    load: Callable[[Path], Network],
) -> Exported:
    if target.suffix != suffix:
        raise ValueError(f"the path is {str(target)!r}; give one that ends in {suffix!r}.")
    network, images = copy.deepcopy(model).cpu().eval(), images.cpu()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".part-") as folder:
        whole = Path(folder) / target.name
        with _quiet():
            write(network, whole)
        difference = _difference(network, load(whole), images)
        if not difference <= tolerance:
            raise ValueError(
                f"{target.name} would answer otherwise than the network, by {difference:.1e} of the largest "
                f"logit where {tolerance:.1e} is allowed; look for layers that draw random numbers."
            )
        return Exported(whole.replace(target), target.stat().st_size, difference)


def _traced(network: nn.Module, images: Tensor) -> ExportedProgram:
    """The network's operations, recorded on two images; of one alone torch would make a constant."""
    pair = images[:1].repeat(2, 1, 1, 1)
    try:
        return torch.export.export(network, (pair,), dynamic_shapes=({0: Dim("batch")},))
    except Exception as error:  # torch raises many kinds, none of which names the remedy
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"{type(network).__name__} cannot be traced for batches of any size ({said}); in its forward, "
            "take no branch and no shape from the values in a batch or from how many images it has."
        ) from error


def _difference(network: nn.Module, file: Network, images: Tensor) -> float:
    """Largest difference of logits over the largest logit, for all images at once and for the first alone."""
    worst = 0.0
    with torch.no_grad():
        for some in (images, images[:1]):
            expected, found = network(some), file(some)
            if found.shape != expected.shape:
                return float("inf")
            difference = ((found - expected).abs().max() / expected.abs().max()).item()
            worst = difference if difference > worst or difference != difference else worst
    return worst


def _need_onnx() -> None:
    missing = [name for name in _ONNX_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ModuleNotFoundError(
            f"ONNX needs {' and '.join(missing)}, not installed here: pip install {' '.join(_ONNX_PACKAGES)}"
        )


def _check_there(path: str | os.PathLike[str]) -> None:
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {os.fspath(path)!r}; export the network first.")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch 2.12 warns of in its own code, which no caller can change."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given buffer is not writable", UserWarning)
        warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)
        yield
