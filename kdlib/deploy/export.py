"""A network as a file that runs without its Python code: torch.export's, or ONNX.

The file is read back and asked about a few images before it gets its name, so that a file that is there
answers as the network does.
"""

import importlib.util
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from kdlib.data import Split
from kdlib.data.split import check_split
from kdlib.files import in_place_of
from kdlib.models.answers import compute_logits
from kdlib.models.taps import unwrapped
from kdlib.models.trials import copied, modes_kept
from kdlib.paths import given_path

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
        check_split(split, "split")
        self.model = unwrapped(model)
        self.register_buffer("mean", torch.tensor(split.mean)[:, None, None])
        self.register_buffer("std", torch.tensor(split.std)[:, None, None])

    def forward(self, pixels: Tensor) -> Tensor:
        return compute_logits(self.model, (pixels.float() / 255 - self.mean) / self.std)


def pixels(split: Split, count: int) -> Tensor:
    """The first images as a network sees them in a test, before normalisation: uint8, on the CPU.

    Args:
        split: where they come from.
        count: how many, or all if there are fewer.
    """
    check_split(split, "split")
    channels = split.images.shape[1]
    images = split.images[torch.arange(min(count, len(split)))]
    seen = split.augmentation(images, (0.0,) * channels, (1.0,) * channels)
    return (255 * seen).round().to(torch.uint8)


def export_program(
    model: nn.Module, path: str | os.PathLike[str], images: Tensor, tolerance: float = 1e-4
) -> Exported:
    """Write a network as torch.export's program, which PyTorch runs without the network's code.

    Args:
        model: left as it was; the file has its evaluation mode, for batches of any size. A wrapper of
            torch.compile or of data parallelism is taken off.
        path: ends in ".pt2"; an older file of that name is replaced.
        images: a few inputs, (N, in_channels, H, W), to trace the network with and to check the file on.
        tolerance: the largest `Exported.difference` to accept.

    Raises:
        ValueError: the path ends otherwise, the network cannot be traced for batches of any size or has no
            logits, or the file answers otherwise than the network; no file is left then.
    """

    def write(network: nn.Module, whole: Path) -> None:
        torch.export.save(_traced(network, images), whole)

    return _export(model, given_path(path, "file"), ".pt2", images, tolerance, write, load_program)


def export_onnx(
    model: nn.Module, path: str | os.PathLike[str], images: Tensor, tolerance: float = 1e-4
) -> Exported:
    """Write a network as ONNX, which phones, browsers and servers run without PyTorch.

    Its input is called ``images`` and its output ``logits``.

    Args:
        model: left as it was; the file has its evaluation mode, for batches of any size. A wrapper of
            torch.compile or of data parallelism is taken off.
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

    return _export(model, given_path(path, "file"), ".onnx", images, tolerance, write, load_onnx)


def quantize_onnx(path: str | os.PathLike[str], to: str | os.PathLike[str], images: Tensor) -> Exported:
    """Write an ONNX file once more, in whole numbers of eight bits.

    A number x is kept as q = round(x / s) + z: the weights with a scale s for each output channel, and what
    flows between the layers with an s and a z for each layer, from the range that the images give it.

    Args:
        path: of the file, as `export_onnx` writes it.
        to: ends in ".onnx"; an older file of that name is replaced.
        images: some hundred of the training images, as the file takes them, (N, in_channels, H, W).

    Returns:
        The new file. Its `difference` is that from the old one, on these images; nothing bounds it.

    Raises:
        FileNotFoundError: there is no file to be quantised.
        ModuleNotFoundError: a package is missing; the message has the command that installs it.
        ValueError: the new path ends otherwise, or there is no image.

    Reference:
        Jacob et al., CVPR 2018, arXiv:1712.05877.
    """
    file, target = _there(path), given_path(to, "file")
    if target.suffix != ".onnx":
        raise ValueError(f"the path is {str(target)!r}; give one that ends in '.onnx'.")
    if not len(images):
        raise ValueError("there is no image; give some hundred of the training images.")
    _need_onnx()
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Calibration(CalibrationDataReader):  # type: ignore[misc]
        batches = iter(images.cpu().split(64))

        def get_next(self) -> dict[str, object] | None:
            batch = next(self.batches, None)
            return None if batch is None else {"images": batch.numpy()}

    with in_place_of(target) as whole, TemporaryDirectory() as scratch:
        prepared = Path(scratch, "prepared.onnx")
        quant_pre_process(file, prepared, skip_symbolic_shape=True)
        quantize_static(prepared, whole, Calibration(), per_channel=True)
        expected, found = (load_onnx(each)(images.cpu()) for each in (file, whole))
        difference = ((found - expected).abs().max() / expected.abs().max()).item()
        return Exported(target, whole.stat().st_size, difference)


def load_program(path: str | os.PathLike[str]) -> Network:
    """The network in a file that `export_program` wrote.

    Open files that you or somebody you trust wrote, and no others: torch unpickles a part of them, which can
    run any code. An ONNX file has none to run.

    Raises:
        FileNotFoundError: there is no such file.
    """
    file = _there(path)
    with _quiet():
        program = torch.export.load(file).module()

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
    file = _there(path)
    _need_onnx()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def network(images: Tensor) -> Tensor:
        answers = session.run(None, {name: images.detach().cpu().numpy()})[0]
        return torch.from_numpy(answers).to(images.device)

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
    if not isinstance(model, nn.Module) or isinstance(model, torch.jit.ScriptModule):
        raise ValueError(
            f"a {type(model).__name__} cannot be traced; give the network (an nn.Module) itself."
        )
    images = images.cpu()
    with in_place_of(target) as whole, _on_cpu(unwrapped(model)) as network:
        with torch.no_grad():
            compute_logits(network, images)  # or what it says against them would be told of the tracing
        with _quiet():
            write(network, whole)
        difference = _difference(network, load(whole), images)
        if not difference <= tolerance:
            raise ValueError(
                f"{target.name} would answer otherwise than the network, by {difference:.1e} of the largest "
                f"logit where {tolerance:.1e} is allowed; look for layers that draw random numbers."
            )
        return Exported(target, whole.stat().st_size, difference)


class _Answers(nn.Module):
    """A network that takes and gives float32, and gives logits alone."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return compute_logits(self.network, images)


@contextmanager
def _on_cpu(model: nn.Module) -> Iterator[nn.Module]:
    """A copy in evaluation mode; where none can be had the network itself, which is put back afterwards."""
    copy = copied(model)
    if copy is not None:
        yield copy.cpu().eval()
        return
    devices = {weight.device for weight in model.parameters()}
    with modes_kept(model):
        try:
            yield model.cpu().eval()
        finally:
            for device in devices:
                model.to(device)


def _traced(network: nn.Module, images: Tensor) -> ExportedProgram:
    """The network's operations, recorded on two images; of one alone torch would make a constant."""
    pair = torch.cat([images[:1], images[:1]])
    try:
        return torch.export.export(_Answers(network), (pair,), dynamic_shapes=({0: Dim("batch")},))
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
            expected, found = compute_logits(network, some), file(some)
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


def _there(path: str | os.PathLike[str]) -> Path:
    file = given_path(path, "file")
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {os.fspath(path)!r}; export the network first.")
    return file


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch 2.12 warns of in its own code, and of maps that networks keep: files are checked."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The tensor attribute .* assigned during export", UserWarning)
        warnings.filterwarnings("ignore", "The given buffer is not writable", UserWarning)
        warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)
        yield
