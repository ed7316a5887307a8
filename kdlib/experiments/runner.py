"""`run_recipe`: from a recipe and a seed to a record and trained weights."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path

from kdlib.data import ImageData
from kdlib.distiller import Distiller
from kdlib.experiments.logs import TensorBoardLog
from kdlib.experiments.networks import make_student, make_untrained, shown
from kdlib.experiments.recipes import DataSpec, Recipe, find_recipes
from kdlib.experiments.records import keep, results_folder
from kdlib.experiments.store import RunFolder, Store
from kdlib.files import FULL
from kdlib.training import choose_device, fit, load_weights, save_weights
from kdlib.training.answers import cannot_be_kept
from kdlib.training.distributed import from_rank_zero, is_rank_zero
from kdlib.training.record import RunRecord


def run_recipe(
    recipe: Recipe,
    seed: int,
    *,
    device: str = "auto",
    progress: bool = True,
    store: Store | None = None,
    publish: bool = True,
) -> RunRecord:
    """Train what a recipe says, unless that is done, and return the record.

    The runs of its teacher, and of the weights that it starts from, come first. A run that was stopped goes
    on where it was. One that another process is at is waited for. Trained weights stay in the store, and so
    does what a teacher answers, where it can be kept, so that the seed's next run need not ask
    (`kdlib.training.answers`). The records of the profiles "short" and "full" go to ``data/results`` too,
    those of recipes that were changed by hand do not. Processes that torchrun started do this together; the
    first looks and writes for all.

    Args:
        recipe: what to train; see `kdlib.experiments.recipes.find_recipes`.
        seed: of the first weights, of the order of images and of augmentation.
        device: "auto" takes the GPU where there is one.
        progress: whether to say what is being done, and to show a bar.
        store: where runs are kept; the user's own if not given.
        publish: whether records go to ``data/results`` too, as said above.

    Raises:
        ValueError: a setting cannot be used, or a file in the store is damaged or does not fit.
        FileNotFoundError: the data set is not there; the message says how to get it.
        DivergedError: the loss became NaN or infinite; the last checkpoint is kept.
        MemoryError, KeyboardInterrupt: as `kdlib.fit`.
        OSError: the run could not be written; nothing half-written is left.
    """
    store = store or Store()
    run = store.folder(recipe, seed)
    name = f"{recipe.name}@{seed} ({recipe.profile})"
    if not from_rank_zero(lambda: run.is_finished):
        choose_device(device)
        for needed in recipe.needs(seed):
            run_recipe(*needed, device=device, progress=progress, store=store, publish=publish)
        waiting = f"{name}: another process is at it; waiting for it"
        with (
            _room_on_disk(store.root, "the run goes on from its last checkpoint"),
            run.held(lambda: say(waiting, progress)),
        ):
            if not from_rank_zero(lambda: run.is_finished):
                say(f"{name}: {'going on' if run.is_under_way else 'training'}", progress)
                _train(recipe, seed, run, store, device, progress)
    record = _named(from_rank_zero(run.load_record), recipe)
    if publish and not recipe.settings and is_rank_zero():
        with _room_on_disk(results_folder(), "the same command writes the record there"):
            _publish(record, recipe)
    return record


def run_recipes(
    pattern: str,
    profile: str,
    *,
    seeds: Iterable[int] | None = None,
    device: str = "auto",
    progress: bool = False,
    store: Store | None = None,
) -> dict[str, list[RunRecord]]:
    """Run every recipe that a pattern names, with every seed.

    Args:
        pattern: a name, or a pattern as a shell has it, such as ``"cifar/methods/cifar10/20-20/*"``.
        profile: "quick", "short" or "full".
        seeds: the recipes' own if not given.
        device, progress, store: as `run_recipe` takes them.

    Returns:
        For each recipe's name its records, in order of the seeds.

    Raises:
        ValueError: no recipe has such a name; the message lists near ones.
        Exception: as `run_recipe`.
    """
    chosen = None if seeds is None else list(seeds)
    return {
        recipe.name: [
            run_recipe(recipe, seed, device=device, progress=progress, store=store)
            for seed in (recipe.seeds if chosen is None else chosen)
        ]
        for recipe in find_recipes(pattern, profile)
    }


def finished(recipe: Recipe, seed: int, store: Store | None = None) -> RunRecord | None:
    """The record of a run that is in the store, under this recipe's name; None where it is not finished.

    Raises:
        ValueError: the record is damaged; the message names the file.
    """
    run = (store or Store()).folder(recipe, seed)
    return _named(run.load_record(), recipe) if run.is_finished else None


def _train(recipe: Recipe, seed: int, run: RunFolder, store: Store, device: str, progress: bool) -> None:
    """Everything that is left of a run, which this process holds."""
    data = _images(recipe.data, seed if recipe.data.draw == "per-seed" else 0)
    train, test = (replace(split, augmentation=recipe.augmentation) for split in (data.train, data.test))
    student = make_student(recipe, seed, data, store)
    teacher = None
    if recipe.teacher is not None:
        spec = recipe.teacher.recipe.student
        teacher = shown(make_untrained(spec, data, seed=0), spec, data)
        load_weights(teacher, store.folder(*recipe.teacher.of(seed)).student)
    schedule = {**asdict(recipe.training), "seed": seed, "device": device, "progress": progress}
    first: RunRecord | None = None
    with TensorBoardLog(run.tensorboard, f"{recipe.name}@{seed}") as log:
        if recipe.first_stage is not None:
            # Its classifier has learnt nothing yet, so that there is nothing to test.
            first = fit(
                Distiller(student, teacher, recipe.first_stage.build_terms()),
                train,
                checkpoint=run.first_checkpoint,
                on_epoch=log.curves("first-stage/"),
                **(schedule | {"epochs": recipe.first_stage.epochs}),
            )
        distiller = Distiller(student, teacher, recipe.build_terms())
        answers = None if cannot_be_kept(distiller, train) else store.answers
        if answers is not None:
            say(
                f"{recipe.name}@{seed}: its teacher's answers are kept for other runs, in {answers}", progress
            )
        record = fit(
            distiller,
            train,
            test=test,
            checkpoint=run.checkpoint,
            answers=answers,
            on_epoch=log.curves(test_every=recipe.training.test_every),
            **schedule,
        )
    if first is not None:
        settings = record.settings | {"first_stage": {"settings": first.settings, "epochs": first.epochs}}
        record = replace(record, settings=settings, seconds=first.seconds + record.seconds)
    if recipe.own_code:
        record = replace(record, environment=record.environment | {"own_code": recipe.own_code})
    if is_rank_zero():
        save_weights(student, run.student)
        run.finish(_named(record, recipe))


def _named(record: RunRecord, recipe: Recipe) -> RunRecord:
    """The record as one of this recipe: another of the same content may have been the first to be run."""
    return replace(record, label=recipe.name, profile=recipe.profile, recipe=recipe.as_dict())


def _publish(record: RunRecord, recipe: Recipe) -> None:
    """Write the record to ``data/results``, unless one of the same run is there from another machine.

    One that other code made, or another precision, is replaced.
    """
    if recipe.profile == "quick":
        return
    there = results_folder() / recipe.family / record.place
    if not there.is_file() or _run_of(RunRecord.load(there)) != _run_of(record):
        keep({recipe.name: [record]}, recipe.family, recipe.profile)


def _run_of(record: RunRecord) -> tuple[object, ...]:
    """What tells one run from another."""
    recipe, precision = record.recipe or {}, record.settings.get("precision")
    code = record.environment.get("code"), record.environment.get("own_code")
    return record.seed, recipe.get("digest"), precision, *code


@contextmanager
def _room_on_disk(place: Path, then: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise OSError(error.errno, f"the disk of {place} is full; make room, and {then}") from error


@lru_cache(maxsize=1)
def _images(data: DataSpec, seed: int) -> ImageData:
    """The images of one run and of the next: what was decoded stays in memory."""
    return data.load(seed)


def say(what: str, progress: bool) -> None:
    """A line on stderr, of one process for all, where progress is to be shown."""
    if progress and is_rank_zero():
        print(what, file=sys.stderr, flush=True)
