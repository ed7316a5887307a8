"""All that makes a training faster and leaves its results, but for rounding; `kdlib.fit` has a switch for it.

What each part brings is said where it is done, and measured by ``make bench``.
"""

import copy
import ctypes
import inspect
import os
import platform
import shutil
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from kdlib.distiller import Distiller, Objective
from kdlib.models.answers import Function, compute_logits
from kdlib.models.controls import generators
from kdlib.models.taps import find_module, tap, unwrapped
from kdlib.models.trials import can_answer, copied, untouched
from kdlib.terms import EMBEDDING, Term
from kdlib.training import distributed

# Parameters of mallopt, from glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_DEFAULT_MMAP_MAX = 65536
_DEFAULT_TRIM_THRESHOLD = 64 << 20  # what glibc itself arrives at in a process that frees large blocks

# How far an answer of a folded teacher may be from the teacher's, as a share of the largest one.
_BOUND = 1e-4
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)

# Steps in a run, and floating-point operations for each module that is compiled, from which compiling pays. A
# module takes a sixth of a second, and a fifth to a third of the time is saved: on a core without AMX that is
# even at 1e11 operations a module, and with it at 3e11.
_LEAST_STEPS = 1000
_LEAST_FLOPS = {"cpu": 3e11, "cuda": 3e13}

# Floating-point operations of a step for which a thread pays, about a tenth of a second. On two quiet cores a
# second thread saves up to a fifth of a step of 1e9 and 40 % of one of 5e9 and more. On cores that others use
# it waits for the first at the end of every operation: with one busy process beside it a step of up to 1e9
# takes two to four times as long, one of 5e9 or 2e10 twice; with eight, 5 to 80 times.
_FLOPS_PER_THREAD = 4e9


@contextmanager
def accelerated(objective: Objective, example: Tensor, steps: int) -> Iterator[bool]:
    """Make an objective's networks fast while they are trained.

    Args:
        objective: connected, on its device.
        example: a batch of images as the networks will see them, on that device.
        steps: how many will be taken: what takes long to prepare has to pay for itself.

    Yields:
        Whether they are compiled, which leaves other last digits.
    """
    with (
        retained_memory(),
        channels_last(objective, example),
        strided_depthwise_in_float32(objective),
        folded_teacher(objective, example),
        ExitStack() as stack,
    ):
        is_compiled = pays_to_compile(objective, example, steps)
        if is_compiled:
            stack.enter_context(compiled(objective, example))
        yield is_compiled


@contextmanager
def retained_memory() -> Iterator[None]:
    """Let freed memory wait for the next step, instead of going back to the system and coming anew.

    glibc gives a large block pages of its own and returns them when it is freed. Each has to be fetched,
    emptied and entered again: 10 million page faults in 40 steps of MobileNetV2 at 224 pixels, and half of
    the time. Afterwards what was kept is returned. Elsewhere than under glibc, nothing is done.
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_MMAP_MAX, 0)
    libc.mallopt(_TRIM_THRESHOLD, -1)
    try:
        yield
    finally:
        libc.mallopt(_MMAP_MAX, _DEFAULT_MMAP_MAX)
        libc.mallopt(_TRIM_THRESHOLD, _DEFAULT_TRIM_THRESHOLD)
        libc.malloc_trim(0)


@contextmanager
def channels_last(objective: Objective, example: Tensor) -> Iterator[None]:
    """Keep the channels of a pixel side by side in memory, as convolutions read them.

    Saves a tenth to a quarter of a ResNet's training on a CPU, and half of MobileNetV2's. Where a student
    cannot compute so, because it takes a view of its maps as rows, say, all is left as it is.
    """
    before: dict[nn.Parameter, tuple[int, ...]] = {}
    for network in objective.children():
        before |= _to_channels_last(network)
    try:
        if not all(can_answer(network, example[:2]) for network in objective.students):
            _restore_strides(before)
        yield
    finally:
        _restore_strides(before)


def _to_channels_last(network: nn.Module) -> dict[nn.Parameter, tuple[int, ...]]:
    """Change every weight with four axes, in place; the strides that they had before.

    Weights with five axes, of three-dimensional convolutions, have a layout of their own and stay.
    """
    before = {weight: weight.stride() for weight in network.parameters() if weight.ndim == 4}
    for weight in before:
        weight.data = weight.data.to(memory_format=torch.channels_last)
    return before


def _restore_strides(before: dict[nn.Parameter, tuple[int, ...]]) -> None:
    # By their strides, because torch takes both layouts of a single channel for contiguous, and yet computes
    # otherwise with either.
    for weight, strides in before.items():
        if weight.stride() != strides:
            weight.data = torch.empty_strided(
                weight.shape, strides, dtype=weight.dtype, device=weight.device
            ).copy_(weight.data)


@contextmanager
def strided_depthwise_in_float32(model: nn.Module) -> Iterator[None]:
    """Leave depthwise convolutions with a stride out of autocast on a CPU.

    For the gradient of their input oneDNN has no fast bfloat16 kernel: the four of MobileNetV2 take 187 of
    510 ms in a step of 32 images at 224 pixels, and 75 ms in float32. Without autocast nothing changes.
    """
    changed = [
        module
        for module in model.modules()
        if type(module) is nn.Conv2d
        and module.groups == module.in_channels > 1
        and max(module.stride) > 1
        and module.weight.device.type == "cpu"
    ]
    for module in changed:
        # Another class for the same object keeps its weights, its path and its hooks.
        module.__class__ = _Float32Conv2d
    try:
        yield
    finally:
        for module in changed:
            module.__class__ = nn.Conv2d


class _Float32Conv2d(nn.Conv2d):
    def forward(self, maps: Tensor) -> Tensor:
        with torch.autocast(maps.device.type, enabled=False):
            return super().forward(maps.float()).to(maps.dtype)


@contextmanager
def folded_teacher(objective: Objective, example: Tensor) -> Iterator[None]:
    """Ask a folded copy of the teacher instead of the teacher, where there is one (`fold`)."""
    if not isinstance(objective, Distiller) or objective.teacher is None:
        yield
        return
    teacher = objective.teacher
    folded = fold(teacher, example[:8], tapped=objective.tapped_in_teacher)
    with objective.taught_by(folded):
        yield
    # A control teacher is left as if it had been asked itself.
    for (_, drawn), (_, own) in zip(generators(folded), generators(teacher), strict=True):
        own.set_state(drawn.get_state())


@torch.no_grad()
def fold(teacher: nn.Module, example: Tensor, *, tapped: Collection[str] = ()) -> nn.Module:
    """A copy of the teacher for inference only, with the same module paths and the same answers.

    Its weights are channels-last, and batch norm is folded into the convolutions before it, which saves a
    pass through the feature maps for each: 8 to 18 % of a step. What fails is left out, and folding that
    moves any answer to the example, a logit or a tapped output, by more than 10⁻⁴ of the largest one.

    Args:
        teacher: any network; it is left as it was, bit for bit.
        example: a few images, (N, in_channels, H, W), on the device that the copy will run on.
        tapped: module paths whose outputs are read, as `tap` writes them; these layers are not folded.

    Returns:
        A network in evaluation mode. A convolution whose batch norm was folded gives out what the batch norm
        gave. The teacher itself where it has no weights or cannot be copied.
    """
    folded = copied(teacher) if any(True for _ in teacher.parameters()) else None
    if folded is None:
        return teacher
    for weight in folded.eval().parameters():
        weight.requires_grad_(False)
    # Another layout may bring other kernels, whose rounding is no reason to leave out what comes after.
    folded = _changed(folded, _to_channels_last, lambda network: bool(_answers(network, example, tapped)))
    expected = _answers(folded, example, tapped)
    return _changed(
        folded,
        lambda network: _fold_batch_norms(network, example[:2], tapped),
        lambda network: _agree(_answers(network, example, tapped), expected),
    )


def _changed(
    network: nn.Module, change: Callable[[nn.Module], object], is_right: Callable[[nn.Module], bool]
) -> nn.Module:
    """The network after a change, or as it was where that fails or is not right."""
    try:
        candidate = copy.deepcopy(network)
        change(candidate)
        return candidate if is_right(candidate) else network
    except Exception:  # of any kind, because any network may be inside
        return network


def _fold_batch_norms(model: nn.Module, example: Tensor, tapped: Collection[str]) -> None:
    """Scale and shift each convolution as the batch norm after it would, in place of the batch norm."""
    kept = {find_module(model, path) for path in tapped}
    for convolution_path, batch_norm_path in _foldable(model, example):
        convolution = model.get_submodule(convolution_path)
        batch_norm = model.get_submodule(batch_norm_path)
        if convolution not in kept and batch_norm not in kept:
            folded = fuse_conv_bn_eval(convolution, batch_norm)  # type: ignore[type-var, arg-type]
            model.set_submodule(convolution_path, folded)
            model.set_submodule(batch_norm_path, nn.Identity())


class _Uses(TorchDispatchMode):
    """Counts how often each of the tensors that are entered is read by any operator."""

    def __init__(self) -> None:
        super().__init__()
        self.producers: dict[int, nn.Module] = {}
        self.counts: Counter[int] = Counter()
        self._alive: list[Tensor] = []  # or another tensor would get the same id

    def enter(self, output: Tensor, producer: nn.Module) -> None:
        self.producers[id(output)] = producer
        self._alive.append(output)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.counts.update(id(value) for value in tree_leaves((args, kwargs)) if id(value) in self.producers)
        return func(*args, **(kwargs or {}))


def _foldable(model: nn.Module, example: Tensor) -> list[tuple[str, str]]:
    """Paths of a convolution and a batch norm, where the one feeds the other and nothing else.

    Found by watching one pass, so that it works for any network: layers that are called twice, or outputs
    that something else reads too, such as a shortcut, are no pairs.
    """
    paths = {module: path for path, module in model.named_modules()}
    calls: Counter[nn.Module] = Counter()
    pairs: list[tuple[nn.Module, nn.Module, int]] = []
    uses = _Uses()

    def watch_convolution(module: nn.Module, _inputs: tuple[Any, ...], output: Tensor) -> None:
        calls[module] += 1
        uses.enter(output, module)

    def watch_batch_norm(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        calls[module] += 1
        if id(inputs[0]) in uses.producers:
            pairs.append((uses.producers[id(inputs[0])], module, id(inputs[0])))

    with ExitStack() as stack:
        for module in model.modules():
            # A subclass may do more than its name says, so that it is left alone.
            if type(module) in _CONVOLUTIONS:
                stack.callback(module.register_forward_hook(watch_convolution).remove)
            elif type(module) in _BATCH_NORMS and module.running_mean is not None:
                stack.callback(module.register_forward_pre_hook(watch_batch_norm).remove)
        # A control teacher draws random numbers whenever it runs.
        stack.enter_context(untouched(model))
        stack.enter_context(uses)
        compute_logits(model, example)
    return [
        (paths[convolution], paths[batch_norm])
        for convolution, batch_norm, output in pairs
        if calls[convolution] == calls[batch_norm] == uses.counts[output] == 1
    ]


def _answers(model: nn.Module, example: Tensor, tapped: Collection[str]) -> list[Tensor]:
    """Logits and tapped outputs, in evaluation mode."""
    with untouched(model):
        model.eval()
        if not tapped:
            return [compute_logits(model, example)]
        with tap(model, tapped, copy=True) as taps:
            logits = compute_logits(model, example)
    return [logits, *taps.values()]


def _agree(actual: list[Tensor], expected: list[Tensor]) -> bool:
    return all(
        bool((ours.float() - theirs.float()).abs().max() <= _BOUND * theirs.float().abs().max())
        for ours, theirs in zip(actual, expected, strict=True)
    )


@contextmanager
def compiled(objective: Objective, example: Tensor) -> Iterator[None]:
    """Compile student, teacher and the terms on maps for batches like the example.

    The compiler joins batch norm, ReLU and the sums of a residual network into few passes through the maps,
    and lays out the weights of the teacher, which do not change, once. A term on layers goes through large
    maps several times: attention, FSP and NST then take about half as long. The modules, their paths and
    their weights stay the same objects. Each shape is compiled anew: the example's, and that of one image
    less, which an epoch's later batches may have. Every evaluation runs uncompiled.
    """
    parts = [network for network in (*objective.students, objective.teacher) if _can_be_compiled(network)]
    if isinstance(objective, Distiller):
        parts += [term for term in objective.terms if isinstance(term, Term) and gains_by_compiling(term)]
    calls: dict[nn.Module, Any] = {
        part: torch.compile(part._call_impl, dynamic=False, **_isolated()) for part in parts
    }

    def begin(_objective: nn.Module, inputs: tuple[Any, ...]) -> None:
        images = inputs[0]
        if images.shape[1:] == example.shape[1:] and len(example) - len(images) in (0, 1):
            for part, call in calls.items():
                part._compiled_call_impl = call

    def end(*_: Any) -> None:
        for part in calls:
            part._compiled_call_impl = None

    hooks = [
        objective.register_forward_pre_hook(begin),
        objective.register_forward_hook(end, always_call=True),
    ]
    try:
        with (
            # What the compiler cannot compile runs as it is; and what it compiled for a network without taps
            # is not used for one of the same kind with taps.
            torch._dynamo.config.patch(suppress_errors=True, skip_nnmodule_hook_guards=False),
            # Of what runs without gradients, the teacher, the weights are constants.
            torch._inductor.config.patch(freezing=True),
        ):
            yield
    finally:
        for hook in hooks:
            hook.remove()


def _isolated() -> dict[str, Any]:
    """What has PyTorch count these versions of a function by themselves: it stops compiling at eight.

    `torch.compiler.reset` would do, and drop what a user has compiled. Torch knows it from 2.14 on.
    """
    known = "isolate_recompiles" in inspect.signature(torch.compile).parameters
    return {"isolate_recompiles": True} if known else {}


def _can_be_compiled(network: nn.Module | None) -> TypeGuard[nn.Module]:
    """Not where somebody has compiled it already, and not a function, inside which may be anything."""
    if network is None or isinstance(network, Function | torch.jit.ScriptModule):
        return False
    return unwrapped(network) is network and network._compiled_call_impl is None


def gains_by_compiling(term: Term) -> bool:
    """Whether a term only goes through maps; embeddings and the convolutions of connectors gain nothing."""
    return not term.has_connectors and any(layer != EMBEDDING for layer, _ in term.pairs)


def pays_to_compile(objective: Objective, example: Tensor, steps: int) -> bool:
    """Whether a run of so many steps is long enough, and what compiling needs is here.

    Judged by the operations of the run and not by the clock, so that one that is resumed, or repeated on a
    busier day, computes with the same kernels, and so to the same bits.
    """
    if distributed.world_size() > 1:
        return False  # on GPUs a batch norm asks the others, and cannot be joined with its neighbours
    least = _LEAST_FLOPS.get(example.device.type)
    if least is None or steps < _LEAST_STEPS:
        return False
    networks = [network for network in (*objective.students, objective.teacher) if network is not None]
    modules = sum(not any(module.children()) for network in networks for module in network.modules())
    try:
        is_long = steps * step_flops(objective, example) >= least * modules
    except Exception:  # of any kind, because any network may be asked; a real mistake shows at the first step
        is_long = False
    if not is_long:
        return False
    if example.device.type == "cpu" and not _has_compiler():
        warnings.warn(
            "no C++ compiler was found, so the networks are not compiled, which would save a fifth of the "
            "time or more; install g++ to have it.",
            stacklevel=2,
        )
        return False
    return True


def step_flops(objective: Objective, example: Tensor) -> int:
    """Floating-point operations of one step: the gradients cost a student twice what its answers do."""
    students = 3 * sum(forward_flops(network, example) for network in objective.students)
    return students + (0 if objective.teacher is None else forward_flops(objective.teacher, example))


def forward_flops(network: nn.Module, example: Tensor) -> int:
    """Floating-point operations of a network's answers to a batch like the example."""
    # Untouched, because a control teacher draws random numbers whenever it runs.
    with untouched(network), FlopCounterMode(display=False) as counter:
        compute_logits(network.eval(), example[:1])
    return len(example) * int(counter.get_total_flops())


def _has_compiler() -> bool:
    return any(shutil.which(name) for name in (os.environ.get("CXX", ""), "g++", "clang++", "cl") if name)


@contextmanager
def limited_threads(flops: Callable[[], float], device: torch.device) -> Iterator[None]:
    """Compute with as many threads as pay meanwhile, and never with more than the user allows.

    Judged by operations and not by the clock, as in `pays_to_compile`: a resumed run computes alike.

    Args:
        flops: of a step, in this process; asked where there is a choice only. Where they cannot be
            counted, nothing is changed.
        device: of the step; a GPU needs no threads.
    """
    allowed = torch.get_num_threads()
    if allowed == 1 or device.type != "cpu":
        yield
        return
    try:
        worth = int(flops() / _FLOPS_PER_THREAD)
    except Exception:
        worth = allowed
    torch.set_num_threads(min(max(worth, 1), allowed))
    try:
        yield
    finally:
        torch.set_num_threads(allowed)
