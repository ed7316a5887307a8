"""What each loss adds to a training step: ResNet-110 to 20, batch 128, on the layers it is meant for.

Three things: seconds, forward and backward, in a short run and in a long one, which is compiled; weights that
are trained besides the student's; and memory, of what the term keeps from step to step, and from the forward
to the backward pass of one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from ci.bench.report import Part
from ci.chapters import Repository
from kdlib import (
    CRD,
    DIST,
    DKD,
    FSP,
    NST,
    OFD,
    PKT,
    VID,
    Attention,
    CorrelationCongruence,
    Distiller,
    HardLabels,
    Hints,
    LogitMatching,
    Review,
    RKDAngle,
    RKDDistance,
    SimilarityPreserving,
    SoftTargets,
    create_model,
    tap,
)
from kdlib.models.taps import embedding_path
from kdlib.terms import EMBEDDING, Outputs, Term
from kdlib.training import choose_device
from kdlib.training.accelerate import (
    channels_last,
    compiled,
    folded_teacher,
    gains_by_compiling,
    retained_memory,
)
from kdlib.training.precision import has_bfloat16

ROUNDS = 9
BATCH, CLASSES, IMAGES = 128, 100, 50_000
LIMIT = 0.03
# Methods that are an option of a term: beside the term itself they would have its name twice.
VARIANTS: dict[str, Term] = {
    "smoothed labels": HardLabels(label_smoothing=0.1),
    "standardised soft targets": SoftTargets(standardize=True),
}
_STAGES = ["layer1", "layer2", "layer3"]
# The last block of each stage, before its ReLU: 18 blocks in the teacher and 3 in the student.
_BEFORE_RELU = {f"{stage}.2.relu:input": f"{stage}.17.relu:input" for stage in _STAGES}


def bench(_repository: Repository) -> Part:
    """Time every term in a short run, and in a long one, where `kdlib.fit` compiles what gains by it."""
    device = choose_device()
    torch.manual_seed(0)
    images = torch.randn(BATCH, 3, 32, 32, device=device)
    labels = torch.randint(0, CLASSES, (BATCH,), device=device)
    half = torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device))
    every = Distiller(create_model("resnet20", CLASSES, seed=1), teacher(), terms()).to(device)
    every.connect(images[:2])
    outputs = answers(every, images, labels, half)
    named = {term.name: term for term in every.terms if isinstance(term, Term)} | VARIANTS
    lines, rows = table(
        measure(named, outputs, images, half, is_long=False),
        measure(named, outputs, images, half, is_long=True),
    )
    with half:
        sizes = {name: sizes_of(term, outputs) for name, term in named.items()}
    return Part(lines, [row | sizes.get(row["name"], {}) for row in rows])


def measure(
    named: Mapping[str, Term], outputs: Outputs, images: Tensor, half: torch.autocast, *, is_long: bool
) -> dict[str, list[float]]:
    """Seconds of a step of labels alone and of every term, forward and backward, in turns."""
    plain = Distiller(create_model("resnet20", CLASSES, seed=1), teacher(), [HardLabels(1.0)])
    plain = plain.to(images.device).connect(images[:2])
    optimizer = torch.optim.SGD(plain.parameters(), 0.01, momentum=0.9, nesterov=True, weight_decay=5e-4)

    def step() -> None:
        with half:
            loss, _ = plain(images, outputs.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def add(term: Callable[[Outputs], Tensor]) -> None:
        with half:
            loss = term(outputs)
        loss.backward()

    works: dict[str, Callable[[], None]] = {"step": step}
    for name, term in named.items():
        is_compiled = is_long and gains_by_compiling(term)
        works[name] = partial(add, torch.compile(term, dynamic=False) if is_compiled else term)
    times: dict[str, list[float]] = {name: [] for name in works}
    with ExitStack() as stack:
        stack.enter_context(retained_memory())
        stack.enter_context(channels_last(plain, images))
        stack.enter_context(folded_teacher(plain, images))
        if is_long:
            stack.enter_context(compiled(plain, images))
        rounds = tqdm(range(ROUNDS + 1), desc="long run" if is_long else "short run", unit="round")
        for number in rounds:  # the first one compiles
            for name, work in works.items():
                taken = seconds_of(work)
                times[name].extend([taken] if number else [])
    return times


def sizes_of(term: Term, outputs: Outputs) -> dict[str, int]:
    """Trained weights of a term, and the bytes that it keeps: always, and for the backward pass of a step."""
    parameters, buffers = list(term.parameters()), list(term.buffers())
    networks = [outputs.student_logits, outputs.taught(), outputs.labels]
    networks += [*outputs.student_maps.values(), *outputs.teacher_maps.values()]
    there = {tensor.untyped_storage().data_ptr() for tensor in [*parameters, *buffers, *networks]}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = term(outputs)
    assert loss.requires_grad, "what a term keeps for its backward pass is kept only if there is one"
    return {
        "weights": sum(parameter.numel() for parameter in parameters),
        "kept": sum(buffer.untyped_storage().nbytes() for buffer in buffers),
        "kept a step": sum(size for place, size in kept.items() if place not in there),
    }


def table(
    times: Mapping[str, list[float]], long: Mapping[str, list[float]]
) -> tuple[list[str], list[dict[str, Any]]]:
    """Medians in milliseconds, and shares of a step, in a short run and in a long one."""
    steps = [1e3 * median(run["step"]) for run in (times, long)]
    lines = [
        f"a step of labels alone, with the teacher's answers: {steps[0]:.0f} ms in a short run, "
        f"{steps[1]:.0f} ms in a long one, which is compiled; bar {LIMIT:.0%}",
        f"{'':<25} {'short run':>9} {'(fastest, slowest)':>20} {'share':>7} {'long run':>11} {'share':>7}",
    ]
    rows: list[dict[str, Any]] = [{"name": "step"} | seconds_in_both("step", times, long)]
    for name in list(times)[1:]:
        short = times[name]
        shares = {"share": share(name, times), "share of a long run": share(name, long)}
        spread = f"({1e3 * min(short):.1f} to {1e3 * max(short):.1f})"
        lines.append(
            f"{name:<25} {1e3 * median(short):6.1f} ms {spread:>20} {shares['share']:7.1%} "
            f"{1e3 * median(long[name]):8.1f} ms {shares['share of a long run']:7.1%}"
            f"{'  over' if max(shares.values()) > LIMIT else ''}"
        )
        rows.append({"name": name} | seconds_in_both(name, times, long) | shares)
    return lines, rows


def seconds_in_both(
    name: str, times: Mapping[str, list[float]], long: Mapping[str, list[float]]
) -> dict[str, float]:
    """Medians of a work in a short run and in a long one."""
    return {"seconds": median(times[name]), "seconds in a long run": median(long[name])}


def share(name: str, times: Mapping[str, list[float]]) -> float:
    """A term's part of the step in the same round, because a machine slows down: the median of all rounds."""
    return median(ours / step for ours, step in zip(times[name], times["step"], strict=True))


def terms() -> list[Term]:
    """Every term, on the layers that its paper or RepDistiller has."""
    generator = torch.Generator().manual_seed(0)
    classes = torch.randint(0, CLASSES, (IMAGES,), generator=generator)
    return [
        HardLabels(), SoftTargets(), LogitMatching(), DKD(), DIST(),
        Hints(layers="layer2"), VID(layers=_STAGES), Review(layers=_STAGES),
        OFD(layers=_BEFORE_RELU, norms=[f"{stage}.17.bn2" for stage in _STAGES]),
        Attention(layers=_STAGES), FSP(layers=["bn1", *_STAGES]),
        RKDDistance(), RKDAngle(), SimilarityPreserving(layers="layer3"), CorrelationCongruence(), PKT(),
        NST(layers=_STAGES), CRD(labels=classes),
    ]  # fmt: skip


def teacher() -> torch.nn.Module:
    """A new network: what it has learnt costs no time."""
    return create_model("resnet110", CLASSES, seed=0)


def answers(distiller: Distiller, images: Tensor, labels: Tensor, half: torch.autocast) -> Outputs:
    """Both networks' outputs; the student's are leaves, so that a term's gradient stops there."""
    found: list[dict[str, Tensor]] = []
    logits: list[Tensor] = []
    networks = (distiller.student, distiller.teacher)
    with channels_last(distiller, images), torch.no_grad(), half:
        for number, network in enumerate(networks):
            assert network is not None, "this distiller has a teacher"
            names = {
                pair[number] for term in distiller.terms if isinstance(term, Term) for pair in term.pairs
            }
            paths = {embedding_path(network, images) if name == EMBEDDING else name: name for name in names}
            with tap(network, paths, copy=True) as taps:
                logits.append(network(images))
            found.append(dict(taps))
    leaf = {name: maps.requires_grad_() for name, maps in found[0].items()}
    indices = torch.arange(len(images), device=images.device)
    return Outputs(logits[0].requires_grad_(), logits[1], labels, leaf, found[1], indices)


def seconds_of(work: Any) -> float:
    """How long a call takes, once a GPU has finished too."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started
