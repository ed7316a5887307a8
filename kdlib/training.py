"""One training loop, for teachers and students alike, and how a network is evaluated."""

import math
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from kdlib import metrics
from kdlib.data import Split
from kdlib.distiller import Distiller, Objective
from kdlib.models import count_parameters
from kdlib.results import RunRecord, environment
from kdlib.terms import HardLabels


def fit(
    model: nn.Module,
    train: Split,
    *,
    test: Split | None = None,
    epochs: int = 60,
    batch_size: int = 64,
    learning_rate: float = 0.1,
    weight_decay: float = 5e-4,
    augment: bool = True,
    seed: int = 0,
    device: str = "auto",
    progress: bool = True,
) -> RunRecord:
    """Train a network on its labels, or a `Distiller` on its terms; the weights of the last epoch are kept.

    Stochastic gradient descent with Nesterov momentum 0.9; the learning rate falls to zero along half a
    cosine, step by step. One seed gives one order of images and one augmentation, so that two runs with the
    same seed see the same pictures.

    Args:
        model: a classifier, or a `Distiller`; trained in place and left in evaluation mode.
        train: the images to train on.
        test: images to evaluate on after every epoch; they decide nothing.
        epochs: how often every training image is seen.
        batch_size: images a step; the last batch of an epoch may be smaller.
        learning_rate: of the first step.
        weight_decay: L2 penalty on all weights.
        augment: whether to shift or mirror the images as their data set says.
        seed: of the order of the images, their augmentation, and dropout.
        device: "auto" takes the GPU where there is one.
        progress: whether to show a bar.

    Returns:
        The record of the run. ``record.final`` has the metrics on `test` after the last epoch.

    Raises:
        ValueError: an argument is out of range, or the loss became NaN or infinite.
    """
    _check_positive(epochs=epochs, batch_size=batch_size, learning_rate=learning_rate)
    settings = {
        "epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate,
        "weight_decay": weight_decay, "augment": augment,
    }  # fmt: skip
    where = choose_device(device)
    distiller = (model if isinstance(model, Objective) else Distiller(model, None, [HardLabels()])).to(where)
    distiller.connect(next(iter(train.batches(2, device=where)))[0])
    steps = epochs * math.ceil(len(train) / batch_size)
    optimizer = torch.optim.SGD(
        distiller.parameters(), learning_rate, momentum=0.9, nesterov=True, weight_decay=weight_decay
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    started, clock = datetime.now(UTC), time.perf_counter()
    curves: dict[str, list[float]] = {}
    with (
        torch.random.fork_rng(devices=[where] if where.type == "cuda" else []),
        _bar(epochs, progress) as bar,
    ):
        torch.manual_seed(seed)
        for epoch in range(epochs):
            distiller.train()
            batches = train.batches(
                batch_size, generator=_generator(seed, epoch), augment=augment, device=where
            )
            values = _epoch(distiller, batches, optimizer, schedule)
            if test is not None:
                logits = predict(distiller.student, test, device=device)
                values["test_accuracy"] = metrics.accuracy(logits, test.labels)
            for name, value in values.items():
                curves.setdefault(name, []).append(value)
            bar.set_postfix({name: f"{value:.3g}" for name, value in values.items()}, refresh=False)
            bar.update()
    distiller.eval()
    return RunRecord(
        seed=seed,
        settings=settings | _describe(distiller),
        data={"train_images": len(train), "fingerprint": train.fingerprint()},
        epochs=curves,
        final={}
        if test is None
        else evaluate(distiller.student, test, teacher=distiller.teacher, device=device),
        environment=environment(where),
        started=started.isoformat(timespec="seconds"),
        seconds=time.perf_counter() - clock,
    )


@torch.no_grad()
def predict(model: nn.Module, data: Split, *, batch_size: int = 1024, device: str = "auto") -> Tensor:
    """Logits for every image, in order and without augmentation.

    Args:
        model: a classifier; in evaluation mode meanwhile, and put back into the mode it was in.
        data: the images.
        batch_size: how many are computed at once; it does not change the result.
        device: "auto" takes the GPU where there is one.

    Returns:
        Shape (N, C), float32 or wider, on the CPU.
    """
    where = choose_device(device)
    was_training = model.training
    model.to(where).eval()
    logits = [model(images).cpu() for images, _ in data.batches(batch_size, device=where)]
    model.train(was_training)
    return torch.cat(logits)


def evaluate(
    model: nn.Module, data: Split, *, teacher: nn.Module | None = None, device: str = "auto"
) -> dict[str, float]:
    """Accuracy, top-5 accuracy, negative log-likelihood, calibration error and agreement with the teacher.

    Every image is scored once. See `kdlib.metrics` for each figure.

    Args:
        model: a classifier.
        data: the images to score.
        teacher: adds "agreement"; None leaves it out.
        device: "auto" takes the GPU where there is one.
    """
    teacher_logits = None if teacher is None else predict(teacher, data, device=device)
    return metrics.classification_metrics(predict(model, data, device=device), data.labels, teacher_logits)


def choose_device(device: str = "auto") -> torch.device:
    """The device of this name; "auto" is the GPU where there is one, and the CPU elsewhere.

    Raises:
        ValueError: there is no such device here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {device!r} cannot be used here; try 'auto' or 'cpu'.") from error
    return chosen


def _epoch(
    distiller: Objective,
    batches: Iterator[tuple[Tensor, Tensor]],
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
) -> dict[str, float]:
    """Train on every batch once; mean of the loss and of its terms over the images."""
    sums: dict[str, Tensor] = {}
    count = 0
    for images, labels in batches:
        loss, terms = distiller(images, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        for name, value in {"loss": loss, **terms}.items():
            sums[name] = sums.get(name, 0) + value.detach() * len(labels)
        count += len(labels)
    # Read once an epoch: a GPU is not made to wait at every step.
    means = {name: float(value) / count for name, value in sums.items()}
    broken = [name for name, value in means.items() if not math.isfinite(value)]
    if broken:
        raise ValueError(f"the loss ({broken[0]}) became {means[broken[0]]}; try a lower learning rate.")
    return means


def _describe(distiller: Objective) -> dict[str, object]:
    student, teacher = distiller.student, distiller.teacher
    return {
        "terms": distiller.describe(),
        "student": f"{type(student).__name__}, {count_parameters(student):,} weights",
        "teacher": None
        if teacher is None
        else f"{type(teacher).__name__}, {count_parameters(teacher):,} weights",
    }


def _generator(seed: int, epoch: int) -> torch.Generator:
    """One stream of random numbers an epoch, independent of all others."""
    state = np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))


def _bar(epochs: int, progress: bool) -> tqdm:
    return tqdm(total=epochs, desc="training", unit="epoch", disable=not progress, leave=False)


def _check_positive(**values: float) -> None:
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} is {value}; it must be above 0.")
