"""One training loop, for teachers and students alike."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from functools import partial
from numbers import Integral, Real
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from kdlib.data import Batch, BatchSource, Split
from kdlib.data.iterable import as_data
from kdlib.data.split import check_seed
from kdlib.distiller import Distiller, Objective
from kdlib.models import View, count_parameters
from kdlib.models.answers import Function
from kdlib.models.taps import unwrapped
from kdlib.plain import plain, plain_repr
from kdlib.terms import HardLabels
from kdlib.training import distributed
from kdlib.training.accelerate import accelerated, limited_threads, step_flops
from kdlib.training.answers import Answers, cannot_be_kept
from kdlib.training.distributed import shared_batches
from kdlib.training.environment import environment
from kdlib.training.evaluate import Evaluator, evaluate
from kdlib.training.guards import LossGuard, at_step, interruptible, memory_errors_explained, progress_bar
from kdlib.training.optim import make_optimizer, make_scheduler
from kdlib.training.precision import answering_teacher, choose_device, choose_precision, make_fabric
from kdlib.training.record import RunRecord
from kdlib.training.state import TrainState, check_writable, fingerprint


def fit(
    model: nn.Module,
    train: Split | Iterable[Any],
    *,
    test: Split | Iterable[Any] | None = None,
    test_every: int | None = 1,
    epochs: int = 60,
    batch_size: int = 64,
    learning_rate: float = 0.1,
    weight_decay: float = 5e-4,
    optimizer: str | Optimizer | Callable[[nn.Module], Optimizer] = "SGD",
    optimizer_options: Mapping[str, Any] | None = None,
    scheduler: str | Callable[[Optimizer, int], LRScheduler] | None = "CosineAnnealingLR",
    scheduler_options: Mapping[str, Any] | None = None,
    scheduler_step: Literal["step", "epoch"] = "step",
    clip_norm: float | None = None,
    accumulate: int = 1,
    augment: bool = True,
    batch_transform: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None,
    seed: int = 0,
    device: str | torch.device = "auto",
    precision: str = "auto",
    accelerate: bool = True,
    checkpoint: str | os.PathLike[str] | None = None,
    answers: str | os.PathLike[str] | None = None,
    on_epoch: Callable[[Mapping[str, list[float]]], object] | None = None,
    on_step: Callable[[int, Mapping[str, Tensor]], object] | None = None,
    progress: bool = True,
) -> RunRecord:
    """Train a network on its labels, or a `Distiller` on its terms; the weights of the last epoch are kept.

    .. code-block:: python

        record = fit(Distiller(student, teacher, terms), data.train, test=data.test, epochs=60)
        adamw = lambda module: torch.optim.AdamW(module.parameters(), lr=1e-3)
        fit(student, DataLoader(dataset, 32, shuffle=True), optimizer=adamw, clip_norm=1.0)

    Unless asked otherwise: stochastic gradient descent with Nesterov momentum 0.9, the learning rate falling
    to zero along half a cosine, step by step. One seed gives one order of images and one augmentation, so
    that two runs with the same seed see the same pictures.

    With a checkpoint, a run that is stopped, by Ctrl-C or by a power cut, goes on when `fit` is called again
    with the same arguments and networks; on a CPU to the same bits as one that was never stopped.

    Batch norms follow the images, also where their weights require no gradient; one that was put into
    evaluation mode by itself keeps its statistics (`Objective.train`).

    Processes that torchrun started train together, each on its share of every batch, with the result of one
    process up to the order of summation, what the networks draw, such as dropout, and, on CPUs, batch norm,
    which takes the statistics of the share; see `kdlib.training.distributed`. All call `fit` with the same
    arguments.

    Args:
        model: a classifier, or an `Objective` such as a `Distiller`; trained in place and left in evaluation
            mode.
        train: the images to train on: a split, or batches, such as a DataLoader's; see
            `kdlib.data.BatchSource`.
        test: images to evaluate on, of the same kinds; they decide nothing.
        test_every: epochs between two entries of "test_accuracy" and what else an `Evaluator` has;
            None evaluates after the last epoch only.
        epochs: how often every training image is seen.
        batch_size: the most images a step, of all processes together; all steps have about as many. Batches
            that are given have their own.
        learning_rate: of the first step; as the batch size, the same for any number of processes.
        weight_decay: L2 penalty on all weights.
        optimizer, optimizer_options: the name of a class of `torch.optim`, and its other arguments. Or an
            optimiser; or what makes one of the module that is trained, such as ``lambda module:
            torch.optim.AdamW(module.parameters(), lr=1e-3)``. These have their own learning rates.
        scheduler, scheduler_options: the name of a class of `torch.optim.lr_scheduler`, and its arguments;
            None keeps the learning rate. A cosine ends with the run unless ``T_max`` says otherwise. Or what
            makes a scheduler of the optimiser and the number of its steps.
        scheduler_step: whether the scheduler counts steps or epochs.
        clip_norm: the largest norm of all gradients together, to which longer ones are scaled down.
        accumulate: in how many parts a batch is computed, one after the other, where memory does not suffice.
            Batch norm, and losses that compare images with one another, see the images of a part.
        augment: whether to augment the images as their data set says.
        batch_transform: what is done to images and labels of each batch, such as torchvision's ``MixUp`` or
            ``CutMix``; student and teacher see what comes out.
        seed: of the order of the images, their augmentation, and dropout; 0 or more.
        device: "auto" takes the GPU where there is one.
        precision: "auto", "32-true", "bf16-mixed" or "16-mixed"; see `kdlib.training.precision`.
        accelerate: whether to do what changes the speed and the last digits of results, and no more; see
            `kdlib.training.accelerate`. Without it nothing of the networks or of the process is changed
            meanwhile, such as the number of threads.
        checkpoint: a file to keep the run in, written about once a minute. Another number of processes may
            take it up; all have to see the file.
        answers: a folder to keep the teacher's answers in. Another run of this seed, with other weights,
            temperatures or terms on logits, reads them there, to the same bits; see `kdlib.training.answers`.
        on_epoch: called with the record's ``epochs`` so far as the run is taken up and after every epoch; by
            the first process only.
        on_step: called after every step, in every process, with the number of steps so far and the loss and
            its terms; for a moving average of the weights, for instance. What it keeps, no checkpoint has.
        progress: whether to show a bar.

    Returns:
        The record of the run. ``record.final`` has the metrics on `test` after the last epoch.

    Raises:
        ValueError: an argument is out of range, or the checkpoint is of another run.
        DivergedError: the loss became NaN or infinite; a ValueError too. The checkpoint is from before.
        MemoryError: a batch does not fit into memory; the message says which would.
        KeyboardInterrupt: at Ctrl-C, after the step and the checkpoint.
    """
    images, tested = as_data(train, "train"), None if test is None else as_data(test, "test")
    check_seed(seed)
    _check_arguments(
        scheduler_step,
        test_every,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        accumulate=accumulate,
        **({} if clip_norm is None else {"clip_norm": clip_norm}),
    )
    if checkpoint is not None:
        check_writable(checkpoint)
    seed = int(seed)
    distributed.init_process_group()
    where = choose_device(device)
    objective = model if isinstance(model, Objective) else Distiller(model, None, [HardLabels()])
    settings: dict[str, Any] = plain({
        "epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate,
        "weight_decay": weight_decay, "optimizer": optimizer,
        "optimizer_options": dict(optimizer_options or {}), "scheduler": scheduler,
        "scheduler_options": dict(scheduler_options or {}), "scheduler_step": scheduler_step,
        "augment": plain_repr(images.augmentation) if augment and isinstance(images, Split) else None,
        **_given(clip_norm=clip_norm, batch_transform=batch_transform),
        **({} if accumulate == 1 else {"accumulate": accumulate}),
        "precision": choose_precision(precision, where, *objective.students, objective.teacher),
        **_describe(objective),
    })  # fmt: skip
    data = _described(images)
    plan = Plan(
        images, _first_images(images, batch_size, where), epochs, batch_size, scheduler_step, augment,
        batch_transform, clip_norm, accumulate, seed, where, settings["precision"], accelerate,
    )  # fmt: skip
    if answers is not None and (reason := cannot_be_kept(objective, images, batch_transform)):
        raise ValueError(f"answers cannot be kept: {reason}; leave out answers.")
    if accumulate > 1 and distributed.world_size() > 1:
        raise ValueError(f"accumulate is {accumulate}, in one process only; start more processes instead.")
    started = datetime.now(UTC).isoformat(timespec="seconds")
    with torch.random.fork_rng(devices=[where] if where.type == "cuda" else []):
        torch.manual_seed(seed)
        example = plan.example[:2]
        labels = images.labels if isinstance(images, Split) else None
        objective.to(where).connect(example, seed, labels)
        torch_optimizer = make_optimizer(optimizer, objective, learning_rate, weight_decay, optimizer_options)
        total_steps = epochs * (plan.steps if scheduler_step == "step" else 1)
        torch_scheduler = make_scheduler(scheduler, torch_optimizer, total_steps, scheduler_options)
        identity = {"seed": seed, **settings, **data}
        if checkpoint is not None and objective.teacher is not None:
            identity["teacher's weights"] = fingerprint(objective.teacher)
        state = TrainState(objective, torch_optimizer, torch_scheduler, identity, checkpoint)
        share = len(plan.example) / distributed.world_size()
        threads = limited_threads(lambda: share * step_flops(objective, example[:1]), where)
        with threads if accelerate else nullcontext():
            evaluator = Evaluator(objective, tested, test_every, where, accelerate)
            state.resume()
            kept = None
            if answers is not None and objective.teacher is not None:
                kept = Answers(answers, objective.teacher, _shown(plan, settings, data))
            _train(state, plan, evaluator, kept, on_epoch, on_step, progress)
            final = (
                {}
                if test is None
                else evaluate(
                    objective.student, test, teacher=objective.teacher, device=device, accelerate=accelerate
                )
            )
            computed = environment(where) | {"processes": distributed.world_size()}
    return RunRecord(
        seed=seed,
        settings=settings,
        data=data,
        epochs=state.curves,
        final=final,
        environment=computed,
        started=started,
        seconds=state.elapsed,
    )


class Plan(NamedTuple):
    """What does not change while a run goes on.

    Attributes:
        example: the images of the first batch, without augmentation.
    """

    train: Split | BatchSource
    example: Tensor
    epochs: int
    batch_size: int
    scheduler_step: str
    augment: bool
    batch_transform: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None
    clip_norm: float | None
    accumulate: int
    seed: int
    device: torch.device
    precision: str
    accelerate: bool

    @property
    def steps(self) -> int:
        """Steps in an epoch."""
        if isinstance(self.train, BatchSource):
            return self.train.steps
        return len(self.train.batch_sizes(self.batch_size))

    @property
    def images(self) -> int:
        """Images in an epoch; of batches that are given, if all are as large as the first."""
        return len(self.train) if isinstance(self.train, Split) else self.steps * len(self.example)

    def batches(self, epoch: int, start: int) -> Iterator[tuple[int, Batch]]:
        """How many images every batch of an epoch has, from the one numbered `start` on, and it itself.

        Of several processes each gets its share of the batch.

        Raises:
            ValueError: some process would have none.
        """
        if isinstance(self.train, BatchSource):
            wholes = self.train.batches(seed=self.seed, epoch=epoch, device=self.device, start=start)
            batches: Iterator[tuple[int, Batch]] = (
                (len(whole.labels), whole.share(*distributed.shard())) for whole in wholes
            )
        else:
            sizes = self.train.batch_sizes(self.batch_size)[start:]
            shares = self.train.batches(
                self.batch_size,
                seed=self.seed, epoch=epoch, augment=self.augment, device=self.device, start=start,
                part=distributed.shard(),
            )  # fmt: skip
            batches = zip(sizes, shares, strict=True)
        for size, batch in batches:
            if size < distributed.world_size():
                raise ValueError(
                    f"a batch has {size} images, and there are {distributed.world_size()} processes; give a "
                    "larger batch_size, or start fewer."
                )
            if self.batch_transform is not None:
                batch = batch._replace(**_transformed(self.batch_transform, batch))
            yield size, batch


def _train(
    state: TrainState,
    plan: Plan,
    evaluator: Evaluator,
    answers: Answers | None,
    on_epoch: Callable[[Mapping[str, list[float]]], object] | None,
    on_step: Callable[[int, Mapping[str, Tensor]], object] | None,
    progress: bool,
) -> None:
    """Every epoch that is left: the loop itself."""
    guard, size = LossGuard(), 0
    report = on_epoch if on_epoch and distributed.is_rank_zero() else lambda _curves: None
    objective, steps = state.objective, plan.epochs * plan.steps
    total, done = plan.epochs * plan.images, state.epoch * plan.images + state.images
    with (
        answering_teacher(objective, plan.example[:8], plan.precision),
        accelerated(objective, plan.example, steps) if plan.accelerate else nullcontext(False) as is_compiled,
        answers.kept(objective, plan.images, lambda: state.epoch, is_compiled) if answers else nullcontext(),
        shared_batches(objective, lambda: size, lambda: (plan.seed, state.epoch, state.batch)),
        interruptible() as interrupt,
        progress_bar(total, done, progress and distributed.is_rank_zero()) as bar,
    ):
        report(state.curves)
        fabric = make_fabric(plan.device, plan.precision)
        module, optimizer = fabric.setup(objective, state.optimizer)
        state.attach_precision(fabric.strategy.precision)
        alone = distributed.world_size() == 1  # others would have to try too
        with memory_errors_explained(
            partial(_try_step, fabric, module, plan) if alone else None, plan.batch_size
        ):
            while state.epoch < plan.epochs:
                module.train()
                for size, batch in plan.batches(state.epoch, state.batch):
                    where = f"in step {state.batch + 1} of epoch {state.epoch + 1}"
                    objective.progress = (state.epoch * plan.steps + state.batch) / steps
                    optimizer.zero_grad()
                    with at_step(where):
                        values = _backward(fabric, module, batch, plan.accumulate)
                    guard.check(where, values)
                    if plan.clip_norm is not None:
                        fabric.clip_gradients(
                            module, optimizer, max_norm=plan.clip_norm, error_if_nonfinite=False
                        )
                    optimizer.step()
                    if state.scheduler is not None and plan.scheduler_step == "step":
                        state.scheduler.step()
                    bar.update(size)
                    state.add_step(values, size)
                    if on_step is not None:
                        with _noted(f"in on_step, after step {state.batch} of epoch {state.epoch + 1}"):
                            on_step(state.epoch * plan.steps + state.batch, values)
                    stops, is_due = distributed.any_rank(interrupt.asked, state.checkpoint_is_due())
                    if stops or is_due:
                        guard.flush()
                        state.save_checkpoint()
                    if stops:
                        raise KeyboardInterrupt(_how_to_go_on(state, plan))
                if state.scheduler is not None and plan.scheduler_step == "epoch":
                    state.scheduler.step()
                guard.flush()
                distributed.broadcast_buffers(objective)
                objective.progress = (state.epoch + 1) / plan.epochs
                measured = state.finish_epoch(evaluator(state.epoch + 1))
                report(state.curves)
                # A line has little room: the terms and the other measurements are in the record. It is shown
                # when the bar next is, so that a log has a line now and then and not one an epoch.
                shown = [name for name in ("loss", "test_accuracy") if name in measured]
                bar.set_postfix({name: f"{measured[name]:.3g}" for name in shown}, refresh=False)
    objective.eval()
    state.save_checkpoint()


def _backward(fabric: Any, module: nn.Module, batch: Batch, parts: int) -> dict[str, Tensor]:
    """The gradients of a batch that is computed in so many parts; its loss and terms."""
    sums: dict[str, Tensor] = {}
    number = min(parts, len(batch.labels))
    for part in (batch.share(place, number) for place in range(number)):
        share = len(part.labels) / len(batch.labels)
        loss, terms = module(*part)
        fabric.backward(share * loss)
        for name, value in {"loss": loss, **terms}.items():
            own = share * value.detach()
            sums[name] = sums[name] + own if name in sums else own
    return distributed.mean_over_ranks(sums)


@contextmanager
def _noted(where: str) -> Iterator[None]:
    """Say where somebody else's code has failed."""
    try:
        yield
    except Exception as error:
        error.add_note(where)
        raise


def _transformed(
    transform: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], batch: Batch
) -> dict[str, Tensor]:
    """The images and labels of a batch after a transform."""
    changed = transform(batch.images, batch.labels)
    if not (
        isinstance(changed, tuple | list)
        and len(changed) == 2
        and all(isinstance(part, Tensor) and len(part) == len(batch.labels) for part in changed)
    ):
        raise ValueError(
            "batch_transform gave something else than images and labels, as many as it was given; return "
            "both, as torchvision's MixUp does."
        )
    return dict(zip(("images", "labels"), changed, strict=True))


def _try_step(fabric: Any, module: nn.Module, plan: Plan, size: int) -> None:
    """A step on the first `size` images, from which nothing is learnt."""
    _, (images, labels, indices) = next(plan.batches(0, 0))
    loss, _ = module(images[:size], labels[:size], None if indices is None else indices[:size])
    fabric.backward(loss)
    module.zero_grad()


def _how_to_go_on(state: TrainState, plan: Plan) -> str:
    where = f"stopped after step {state.batch} of {plan.steps} in epoch {state.epoch + 1} of {plan.epochs}"
    if state.path is None:
        return f"{where}; nothing was kept. With fit(…, checkpoint='run.safetensors') a run can go on."
    return f"{where}, and kept in {state.path}; call fit again with the same arguments to go on."


def _first_images(train: Split | BatchSource, batch_size: int, device: torch.device) -> Tensor:
    if isinstance(train, BatchSource):
        return next(train.batches(device=device)).images
    return next(train.batches(batch_size, device=device)).images


def _given(**options: Any) -> dict[str, Any]:
    """What was given; a record from before there was such an argument has it not."""
    return {name: value for name, value in options.items() if value is not None}


def _described(train: Split | BatchSource) -> dict[str, Any]:
    """The images of a run, for its record."""
    if isinstance(train, BatchSource):
        return {"source": train.source, "batches": train.steps}
    return {"source": train.source, "train_images": len(train), "fingerprint": train.fingerprint()}


def _shown(plan: Plan, settings: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """What decides, besides a teacher, what it answers in a run."""
    names = ("batch_size", "augment", "precision", "accumulate")
    own = {"mean": plan.train.mean, "std": plan.train.std} if isinstance(plan.train, Split) else {}
    run = {"seed": plan.seed, "accelerate": plan.accelerate}
    return {name: settings.get(name) for name in names} | own | run | dict(data)


def _describe(objective: Objective) -> dict[str, object]:
    student, *peers = map(_name, objective.students)
    return {
        "terms": objective.describe(),
        "student": student,
        **({"peers": peers} if peers else {}),
        "teacher": None if objective.teacher is None else _title(objective.teacher),
    }


def _name(network: nn.Module) -> str:
    trained = sum(weight.numel() for weight in network.parameters() if weight.requires_grad)
    part = "" if trained == count_parameters(network) else f", {trained:,} of them trained"
    return _title(network) + part


def _title(network: nn.Module) -> str:
    if isinstance(network, View):
        return f"{_title(network.module)}, {network.extra_repr()}"
    if isinstance(network, Function):
        return network.title
    return f"{type(unwrapped(network)).__name__}, {count_parameters(network):,} weights"


def _check_arguments(scheduler_step: str, test_every: Any, **numbers: Any) -> None:
    for name, value in numbers.items():
        if not isinstance(value, Real):
            raise ValueError(f"{name} is {value!r}; give a number.")
        if not float(value) > 0:
            raise ValueError(f"{name} is {value}; it must be above 0.")
    for name in ("epochs", "batch_size", "accumulate"):
        if not float(numbers[name]).is_integer():
            raise ValueError(f"{name} is {numbers[name]}; give a whole number.")
    if scheduler_step not in ("step", "epoch"):
        raise ValueError(f"scheduler_step is {scheduler_step!r}; choose 'step' or 'epoch'.")
    if test_every is not None and not (isinstance(test_every, Integral) and int(test_every) >= 1):
        raise ValueError(f"test_every is {test_every!r}; give a number of epochs, or None for the end only.")
