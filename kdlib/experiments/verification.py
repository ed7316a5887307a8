"""`verify`: a recorded run, made once more and compared with its record."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from kdlib.experiments.identity import check_digest
from kdlib.experiments.index import RecordIndex
from kdlib.experiments.recipes import Recipe, RunName, find_recipes, recorded_recipe
from kdlib.experiments.runner import run_recipe, say
from kdlib.experiments.store import Store
from kdlib.training.record import RunRecord

# Where device, versions or threads differ, sums are rounded in another order, and a training drifts apart as
# it does with another seed. The course's accuracies scatter over seeds by less.
TOLERANCE = 0.02


@dataclass(frozen=True)
class Verification:
    """What came of repeating a run.

    Attributes:
        record: the one that was given.
        again: the repeat's; None where it was not begun, because the images are others.
        exact: whether every metric had to be the same to the last digit kept: the run is one of a CPU, and
            processor, torch and threads are those of the record. A GPU may add in another order every time.
        tolerance: otherwise; of the final metrics, relative to those above 1.
        warnings: what is not as it was when the record was made.
        differences: between the metrics; empty where the run is the same.
        reused: the runs, teachers for example, that were taken from the store and not trained again.
    """

    record: RunRecord
    again: RunRecord | None
    exact: bool
    tolerance: float
    warnings: tuple[str, ...]
    differences: tuple[str, ...]
    reused: tuple[str, ...]

    @property
    def same(self) -> bool:
        return not self.differences

    @property
    def verdict(self) -> str:
        """One sentence."""
        if self.differences:
            return f"different: {'; '.join(self.differences)}"
        digits = self.again is not None and not any(_in_digits(self.record, self.again))
        how = "to the last digit" if digits else f"within {self.tolerance:g}"
        return f"same: {len(self.record.final)} metrics after the last epoch, {how}"

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "label": self.record.label, "profile": self.record.profile, "seed": self.record.seed,
            "same": self.same, "exact": self.exact, "tolerance": None if self.exact else self.tolerance,
            "differences": list(self.differences), "warnings": list(self.warnings),
            "reused": list(self.reused), "recorded": self.record.final,
            "repeated": None if self.again is None else self.again.final,
        }  # fmt: skip


def verify(
    record: RunRecord,
    *,
    name: str = "the record",
    tolerance: float = TOLERANCE,
    device: str = "",
    progress: bool = True,
    store: Store | None = None,
) -> Verification:
    """Repeat a run from the recipe in its record, in a temporary store, and compare.

    The runs that it builds on and that are not in the store, its teacher's for example, are trained first.

    Args:
        record: with a recipe: of a quick run in the store, or of another in ``data/results``.
        name: of its file, for messages.
        tolerance: where the repeat cannot be asked for the same digits.
        device: to repeat it on; if not given, of the record's kind where there is one.
        progress: as `run_recipe` takes it; and whether to say first what else is trained, and its time.
        store: whose finished teachers are taken; the user's own if not given. Nothing is written there.

    Raises:
        ValueError: the record has no recipe, or not the digest of its recipe, or one that cannot be run.
        FileNotFoundError, DivergedError, MemoryError, OSError, KeyboardInterrupt: as `run_recipe`.
    """
    if record.recipe is None:
        raise ValueError(
            f"{name} has no recipe, as a chapter made it; `make book PROFILE={record.profile}` with the "
            "chapter's number runs it again."
        )
    if not tolerance >= 0:
        raise ValueError(f"the tolerance is {tolerance}; give 0 or more.")
    check_digest(record.recipe, name)
    recipe = recorded_recipe(record.recipe)
    device = device or _like(record)
    temporary = Store.temporary()
    reused = tuple(_take_over(RunName(recipe, record.seed), store or Store(), temporary))
    warnings = _changes_of_recipe(record.recipe, recipe)
    if others := _other_images(record, recipe):
        return Verification(record, None, False, tolerance, warnings, (others,), reused)
    for needed in _missing(RunName(recipe, record.seed), temporary).values():
        say(f"{needed} is not in the store, and is trained first{_time_of(needed)}", progress)
    again = run_recipe(recipe, record.seed, device=device, progress=progress, store=temporary, publish=False)
    elsewhere = _changes_of_place(record, again)
    on_cpu = str(again.environment["device"]).startswith("cpu")
    exact = on_cpu and not elsewhere and recipe.digest == record.recipe["digest"]
    differences = _in_digits(record, again) if exact else _beyond(record, again, tolerance)
    warnings += (*elsewhere, *_changes_of_code(record, again))
    return Verification(record, again, exact, tolerance, warnings, tuple(differences), reused)


def _like(record: RunRecord) -> str:
    """The kind of device that the record was made on, where there is one."""
    kind = str(record.environment.get("device")).partition(" ")[0]
    return "cpu" if kind == "cpu" or not torch.cuda.is_available() else "cuda"


def _take_over(run: RunName, ours: Store, temporary: Store) -> Iterator[str]:
    """Copy what the run builds on, as far as it is finished, and yield its names."""
    for needed in run.recipe.needs(run.seed):
        folder = ours.folder(*needed)
        if not folder.is_finished:
            yield from _take_over(needed, ours, temporary)
            continue
        copy = temporary.folder(*needed)
        copy.path.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder.student, copy.student)
        shutil.copyfile(folder.record, copy.record)
        yield str(needed)


def _missing(run: RunName, store: Store) -> dict[tuple[str, int], RunName]:
    """What the run builds on and the store has not, each after what it builds on itself."""
    found: dict[tuple[str, int], RunName] = {}
    for needed in run.recipe.needs(run.seed):
        if not store.folder(*needed).is_finished:
            found |= _missing(needed, store) | {(needed.recipe.digest, needed.seed): needed}
    return found


def _time_of(run: RunName) -> str:
    """How long a run took when it was recorded, as the end of a sentence."""
    record = RecordIndex().run(*run)
    if record is None:
        return "; how long that takes is not recorded"
    hours, minutes = record.seconds / 3600, record.seconds / 60
    time = (
        f"{hours:.1f} h"
        if hours >= 2
        else f"{minutes:.0f} min"
        if minutes >= 2
        else f"{record.seconds:.0f} s"
    )
    return f"; when it was recorded that took {time}, on {record.environment.get('device')}"


def _changes_of_recipe(recorded: dict[str, Any], recipe: Recipe) -> tuple[str, ...]:
    warnings = []
    if recipe.digest != recorded["digest"]:
        warnings.append(
            f"the digest of what is repeated is {recipe.digest}, and the record's is {recorded['digest']}: "
            "its teacher, the run that it starts from, or kdlib's own settings of a loss have changed since"
        )
    if not recipe.settings and (today := _digest_today(recipe)) != recorded["digest"]:
        warnings.append(
            f"the recipe {recipe.name} has changed since, and is {today} today; repeated is the record's"
        )
    return tuple(warnings)


def _digest_today(recipe: Recipe) -> str:
    try:
        (today,) = find_recipes(recipe.among(), recipe.profile)
    except (FileNotFoundError, ValueError):
        return "not there"
    return today.digest


def _other_images(record: RunRecord, recipe: Recipe) -> str:
    found, recorded = recipe.data.load(record.seed).train.fingerprint(), record.data.get("fingerprint")
    return "" if found == recorded else f"the images' fingerprint is {found}, and {recorded} in the record"


def _changes_of_place(record: RunRecord, again: RunRecord) -> tuple[str, ...]:
    """What makes sums come out differently in the last digits."""
    keys = ["device", "torch", "threads"]
    # Older records do not say which processor it was, and how many processes shared the batches.
    keys += [key for key in ("processor", "processes") if key in record.environment]
    return tuple(_changed(key, record, again) for key in keys if _has_changed(key, record, again))


def _changes_of_code(record: RunRecord, again: RunRecord) -> tuple[str, ...]:
    keys = ("commit", "kdlib", "python", "own_code")
    return tuple(_changed(key, record, again) for key in keys if _has_changed(key, record, again))


def _has_changed(key: str, record: RunRecord, again: RunRecord) -> bool:
    return bool(record.environment.get(key) != again.environment.get(key))


def _changed(key: str, record: RunRecord, again: RunRecord) -> str:
    return f"{key} is {again.environment.get(key)} here, and {record.environment.get(key)} in the record"


def _in_digits(record: RunRecord, again: RunRecord) -> Iterator[str]:
    """Every metric and curve that is not the same to the last digit kept."""
    for name in sorted(record.final.keys() | again.final.keys()):
        if record.final.get(name) != again.final.get(name):
            yield f"{name} is {again.final.get(name)}, and {record.final.get(name)} in the record"
    for name in sorted(record.epochs.keys() | again.epochs.keys()):
        before, now = record.epochs.get(name, []), again.epochs.get(name, [])
        if before != now:
            same = sum(1 for _ in _common(before, now))
            yield f"the curve {name} differs from value {same + 1} on"


def _common(before: list[float], now: list[float]) -> Iterator[float]:
    """The values that two curves begin with."""
    for one, other in zip(before, now, strict=False):
        if one != other:
            return
        yield one


def _beyond(record: RunRecord, again: RunRecord, tolerance: float) -> Iterator[str]:
    """Every final metric that is further off than it may be."""
    for name in sorted(record.final.keys() | again.final.keys()):
        before, now = record.final.get(name), again.final.get(name)
        if before is None or now is None or abs(now - before) > tolerance * max(1.0, abs(before)):
            yield f"{name} is {now}, and {before} in the record, more than {tolerance:g} apart"
