"""One training loop, for teachers and students alike."""

import math
import os
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from kdlib.data import Batch, Split
from kdlib.distiller import Distiller, Objective
from kdlib.models import count_parameters
from kdlib.results import RunRecord, environment
from kdlib.terms import HardLabels
from kdlib.training import processes
from kdlib.training.bar import progress_bar
from kdlib.training.checkpoints import fingerprint
from kdlib.training.evaluation import evaluate
from kdlib.training.failures import Watch, at_step, explained, interruptible
from kdlib.training.fast import fast_path
from kdlib.training.measures import Measures
from kdlib.training.optimisers import make_optimizer, make_scheduler
from kdlib.training.precision import choose_device, choose_precision, make_fabric
from kdlib.training.run import Run
from kdlib.training.shares import shared_batches


def fit(
    model: nn.Module,
    train: Split,
    *,
    test: Split | None = None,
    test_every: int | None = 1,
    epochs: int = 60,
    batch_size: int = 64,
    learning_rate: float = 0.1,
    weight_decay: float = 5e-4,
    optimizer: str = "SGD",
    optimizer_options: Mapping[str, Any] | None = None,
    scheduler: str | None = "CosineAnnealingLR",
    scheduler_options: Mapping[str, Any] | None = None,
    scheduler_step: Literal["step", "epoch"] = "step",
    augment: bool = True,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    checkpoint: str | os.PathLike[str] | None = None,
    on_epoch: Callable[[Mapping[str, list[float]]], object] | None = None,
    progress: bool = True,
) -> RunRecord:
    """Train a network on its labels, or a `Distiller` on its terms; the weights of the last epoch are kept.

    Unless asked otherwise: stochastic gradient descent with Nesterov momentum 0.9, the learning rate falling
    to zero along half a cosine, step by step. One seed gives one order of images and one augmentation, so
    that two runs with the same seed see the same pictures.

    With a checkpoint, a run that is stopped, by Ctrl-C or by a power cut, goes on when `fit` is called again
    with the same arguments and networks; on a CPU to the same bits as one that was never stopped.

    Processes that torchrun started train together, each on its share of every batch, with the result of one
    process up to the order of summation; see `kdlib.training.shares`. All call `fit` with the same arguments.

    Args:
        model: a classifier, or an `Objective` such as a `Distiller`; trained in place and left in evaluation
            mode.
        train: the images to train on.
        test: images to evaluate on; they decide nothing.
        test_every: epochs between two entries of "test_accuracy" and what else `kdlib.training.measures` has;
            None evaluates after the last epoch only.
        epochs: how often every training image is seen.
        batch_size: images a step, of all processes together; the last batch of an epoch may be smaller.
        learning_rate: of the first step; as the batch size, the same for any number of processes.
        weight_decay: L2 penalty on all weights.
        optimizer, optimizer_options: a class of `torch.optim`, and its other arguments.
        scheduler, scheduler_options: a class of `torch.optim.lr_scheduler`, and its arguments; None keeps the
            learning rate. A cosine ends with the run unless ``T_max`` says otherwise.
        scheduler_step: whether the scheduler counts steps or epochs.
        augment: whether to augment the images as their data set says.
        seed: of the order of the images, their augmentation, and dropout.
        device: "auto" takes the GPU where there is one.
        precision: "auto", "32-true", "bf16-mixed" or "16-mixed"; see `kdlib.training.precision`.
        checkpoint: a file to keep the run in, written about once a minute. Another number of processes may
            take it up; all have to see the file.
        on_epoch: called with the record's ``epochs`` so far as the run is taken up and after every epoch; by
            the first process only.
        progress: whether to show a bar.

    Returns:
        The record of the run. ``record.final`` has the metrics on `test` after the last epoch.

    Raises:
        ValueError: an argument is out of range, or the checkpoint is of another run.
        DivergedError: the loss became NaN or infinite; a ValueError too. The checkpoint is from before.
        MemoryError: a batch does not fit into memory; the message says which would.
        KeyboardInterrupt: at Ctrl-C, after the step and the checkpoint.
    """
    _check_arguments(
        scheduler_step, test_every, epochs=epochs, batch_size=batch_size, learning_rate=learning_rate
    )
    processes.join()
    where = choose_device(device)
    objective = model if isinstance(model, Objective) else Distiller(model, None, [HardLabels()])
    settings: dict[str, Any] = {
        "epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate,
        "weight_decay": weight_decay, "optimizer": optimizer,
        "optimizer_options": dict(optimizer_options or {}), "scheduler": scheduler,
        "scheduler_options": dict(scheduler_options or {}), "scheduler_step": scheduler_step,
        "augment": repr(train.augmentation) if augment else None,
        "precision": choose_precision(precision, where, *objective.learners, objective.teacher),
        **_describe(objective),
    }  # fmt: skip
    data = {"source": train.source, "train_images": len(train), "fingerprint": train.fingerprint()}
    plan = Plan(train, epochs, batch_size, scheduler_step, augment, seed, where)
    started = datetime.now(UTC).isoformat(timespec="seconds")
    with torch.random.fork_rng(devices=[where] if where.type == "cuda" else []):
        torch.manual_seed(seed)
        objective.to(where).connect(next(train.batches(2, device=where)).images)
        mover = make_optimizer(
            optimizer, objective.parameters(), learning_rate, weight_decay, optimizer_options
        )
        ticks = epochs * (plan.steps if scheduler_step == "step" else 1)
        schedule = make_scheduler(scheduler, mover, ticks, scheduler_options)
        identity = {"seed": seed, **settings, **data}
        if checkpoint is not None and objective.teacher is not None:
            identity["teacher's weights"] = fingerprint(objective.teacher)
        run = Run(objective, mover, schedule, identity, checkpoint)
        measures = Measures(objective, test, test_every, where)
        run.resume()
        # The first process speaks for all.
        speaks = processes.is_first()
        on_epoch = on_epoch if on_epoch and speaks else lambda _curves: None
        _train(run, plan, measures, settings["precision"], on_epoch, progress and speaks)
    return RunRecord(
        seed=seed,
        settings=settings,
        data=data,
        epochs=run.curves,
        final={}
        if test is None
        else evaluate(objective.student, test, teacher=objective.teacher, device=device),
        environment=environment(where) | {"processes": processes.count()},
        started=started,
        seconds=run.elapsed,
    )


class Plan(NamedTuple):
    """What does not change while a run goes on."""

    train: Split
    epochs: int
    batch_size: int
    scheduler_step: str
    augment: bool
    seed: int
    device: torch.device

    @property
    def steps(self) -> int:
        """Steps in an epoch."""
        return math.ceil(len(self.train) / self.batch_size)

    def batches(self, epoch: int, start: int) -> Iterator[Batch]:
        """The batches of an epoch, from the one numbered `start` on; of each this process's share."""
        return self.train.batches(
            self.batch_size,
            seed=self.seed, epoch=epoch, augment=self.augment, device=self.device, start=start,
            part=processes.part(),
        )  # fmt: skip

    def size(self, number: int) -> int:
        """How many images the batch of this number has, in all processes together."""
        return min(self.batch_size, len(self.train) - number * self.batch_size)


def _train(
    run: Run,
    plan: Plan,
    measures: Measures,
    precision: str,
    on_epoch: Callable[[Mapping[str, list[float]]], object],
    progress: bool,
) -> None:
    """Every epoch that is left: the loop itself."""
    total, done = plan.epochs * len(plan.train), run.epoch * len(plan.train) + run.images
    example = next(plan.train.batches(plan.batch_size, device=plan.device)).images
    watch = Watch()
    with (
        fast_path(run.objective, example, precision, plan.epochs * plan.steps) as objective,
        shared_batches(objective),
        interruptible() as interrupt,
        progress_bar(total, done, progress) as bar,
    ):
        on_epoch(run.curves)
        fabric = make_fabric(plan.device, precision)
        module, optimizer = fabric.setup(objective, run.optimizer)
        run.take_up_precision(fabric.strategy.precision)
        alone = processes.count() == 1  # others would have to try too
        with explained(partial(_try, fabric, module, plan) if alone else None, plan.batch_size):
            while run.epoch < plan.epochs:
                module.train()
                for batch in plan.batches(run.epoch, run.batch):
                    where = f"in step {run.batch + 1} of epoch {run.epoch + 1}"
                    with at_step(where):
                        loss, terms = module(*batch)
                    values = {"loss": loss, **terms}
                    watch.look(where, values)
                    optimizer.zero_grad()
                    fabric.backward(loss)
                    optimizer.step()
                    if run.schedule is not None and plan.scheduler_step == "step":
                        run.schedule.step()
                    bar.update(plan.size(run.batch))
                    run.count(values, plan.size(run.batch))
                    stops, is_due = processes.any_of(interrupt.asked, run.is_due())
                    if stops or is_due:
                        watch.settle()
                        run.keep()
                    if stops:
                        raise KeyboardInterrupt(_how_to_go_on(run, plan))
                if run.schedule is not None and plan.scheduler_step == "epoch":
                    run.schedule.step()
                watch.settle()
                values_of_epoch = run.finish_epoch(measures(run.epoch + 1))
                on_epoch(run.curves)
                # A line has little room: the terms and the other measurements are in the record. It is shown
                # when the bar next is, so that a log has a line now and then and not one an epoch.
                shown = [name for name in ("loss", "test_accuracy") if name in values_of_epoch]
                bar.set_postfix({name: f"{values_of_epoch[name]:.3g}" for name in shown}, refresh=False)
    run.objective.eval()
    run.keep()


def _try(fabric: Any, module: nn.Module, plan: Plan, size: int) -> None:
    """A step on the first `size` images, from which nothing is learnt."""
    images, labels, indices = next(plan.batches(0, 0))
    loss, _ = module(images[:size], labels[:size], indices[:size])
    fabric.backward(loss)
    module.zero_grad()


def _how_to_go_on(run: Run, plan: Plan) -> str:
    where = f"stopped after step {run.batch} of {plan.steps} in epoch {run.epoch + 1} of {plan.epochs}"
    if run.path is None:
        return f"{where}; nothing was kept. With fit(…, checkpoint='run.safetensors') a run can go on."
    return f"{where}, and kept in {run.path}; call fit again with the same arguments to go on."


def _describe(objective: Objective) -> dict[str, object]:
    student, *peers = map(_name, objective.learners)
    return {
        "terms": objective.describe(),
        "student": student,
        **({"peers": peers} if peers else {}),
        "teacher": None if objective.teacher is None else _name(objective.teacher),
    }


def _name(network: nn.Module) -> str:
    return f"{type(network).__name__}, {count_parameters(network):,} weights"


def _check_arguments(scheduler_step: str, test_every: int | None, **numbers: float) -> None:
    for name, value in numbers.items():
        if not value > 0:
            raise ValueError(f"{name} is {value}; it must be above 0.")
    for name in ("epochs", "batch_size"):
        if not float(numbers[name]).is_integer():
            raise ValueError(f"{name} is {numbers[name]}; give a whole number.")
    if scheduler_step not in ("step", "epoch"):
        raise ValueError(f"scheduler_step is {scheduler_step!r}; choose 'step' or 'epoch'.")
    if test_every is not None and test_every < 1:
        raise ValueError(f"test_every is {test_every}; give a number of epochs, or None for the end only.")
