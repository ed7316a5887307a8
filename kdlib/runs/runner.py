"""`perform`: from a recipe and a seed to a record and trained weights."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import lru_cache

from kdlib.data import ImageData
from kdlib.distiller import Distiller
from kdlib.recipes import DataSpec, Recipe
from kdlib.results import RunRecord, keep, recorded
from kdlib.runs.logs import TensorBoardLog
from kdlib.runs.networks import make_student, make_untrained
from kdlib.runs.store import RunFolder, Store
from kdlib.training import choose_device, fit, load_weights, save_weights
from kdlib.training.processes import from_first, is_first


def perform(
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
    on where it was. One that another process is at is waited for. The trained weights stay in the store; the
    records of the profiles "short" and "full" go to ``data/results`` too, those of recipes that were changed
    by hand do not. Processes that torchrun started do this together; the first looks and writes for all.

    Args:
        recipe: what to train; see `kdlib.recipes.find_recipes`.
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
    if not from_first(lambda: run.is_finished):
        choose_device(device)
        for needed in (recipe.teacher, recipe.start):
            if needed is not None:
                perform(*needed, device=device, progress=progress, store=store, publish=publish)
        waiting = f"{name}: another process is at it; waiting for it"
        with _room_on_disk(store), run.held(lambda: _say(waiting, progress)):
            if not from_first(lambda: run.is_finished):
                _say(f"{name}: {'going on' if run.is_under_way else 'training'}", progress)
                _train(recipe, seed, run, store, device, progress)
    record = _named(from_first(run.load_record), recipe)
    if publish and not recipe.settings and is_first():
        _publish(record, recipe)
    return record


def finished(recipe: Recipe, seed: int, store: Store | None = None) -> RunRecord | None:
    """The record of a run that is in the store, under this recipe's name; None where it is not finished.

    Raises:
        ValueError: the record is damaged; the message names the file.
    """
    run = (store or Store()).folder(recipe, seed)
    return _named(run.load_record(), recipe) if run.is_finished else None


def _train(recipe: Recipe, seed: int, run: RunFolder, store: Store, device: str, progress: bool) -> None:
    """Everything that is left of a run, which this process holds."""
    data = _images(recipe.data)
    train, test = (replace(split, augmentation=recipe.augmentation) for split in (data.train, data.test))
    student = make_student(recipe, seed, data, store)
    teacher = None
    if recipe.teacher is not None:
        teacher = make_untrained(recipe.teacher.recipe.student, data, seed=0)
        load_weights(teacher, store.folder(*recipe.teacher).student)
    schedule = {**asdict(recipe.training), "seed": seed, "device": device, "progress": progress}
    first: RunRecord | None = None
    with TensorBoardLog(run.tensorboard) as log:
        if recipe.first_stage is not None:
            # Its classifier has learnt nothing yet, so that there is nothing to test.
            first = fit(
                Distiller(student, teacher, recipe.first_stage.build_terms()),
                train,
                checkpoint=run.first_checkpoint,
                on_epoch=log.curves("first-stage/"),
                **(schedule | {"epochs": recipe.first_stage.epochs}),
            )
        record = fit(
            Distiller(student, teacher, recipe.build_terms()),
            train,
            test=test,
            checkpoint=run.checkpoint,
            on_epoch=log.curves(test_every=recipe.training.test_every),
            **schedule,
        )
    if first is not None:
        settings = record.settings | {"first_stage": {"settings": first.settings, "epochs": first.epochs}}
        record = replace(record, settings=settings, seconds=first.seconds + record.seconds)
    if is_first():
        save_weights(student, run.student)
        run.finish(_named(record, recipe))


def _named(record: RunRecord, recipe: Recipe) -> RunRecord:
    """The record as one of this recipe: another of the same content may have been the first to be run."""
    return replace(record, label=recipe.name, profile=recipe.profile, recipe=recipe.as_dict())


def _publish(record: RunRecord, recipe: Recipe) -> None:
    """Write the record to ``data/results``, unless one of the same content is there from another machine."""
    if recipe.profile == "quick":
        return
    there = recorded(recipe.family, recipe.profile).get(recipe.name, [])
    if not any(
        run.seed == record.seed and (run.recipe or {}).get("digest") == recipe.digest for run in there
    ):
        keep({recipe.name: [record]}, recipe.family, recipe.profile)


@contextmanager
def _room_on_disk(store: Store) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        said = f"the disk of {store.root} is full; make room, and the run goes on from its last checkpoint"
        raise OSError(error.errno, said) from error


@lru_cache(maxsize=1)
def _images(data: DataSpec) -> ImageData:
    """The images of one run and of the next: what was decoded stays in memory."""
    return data.load()


def _say(what: str, progress: bool) -> None:
    if progress and is_first():
        print(what, file=sys.stderr, flush=True)
