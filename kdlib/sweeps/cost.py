"""What runs cost: from the seconds that were measured, and from nothing else."""

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from kdlib.published import published, published_names
from kdlib.recipes import DataSpec, Recipe, RunName, find_recipes, recorded_recipe
from kdlib.results import Table, recorded, table
from kdlib.sweeps.graph import Job, run_graph

NOT_MEASURED = "not measured yet"

# The training images of the division "published".
_PUBLISHED = {
    "cifar10": 50_000, "cifar100": 50_000, "cifar10-jpeg": 50_000, "caltech101": 7_811, "caltech256": 27_551,
    "hymenoptera": 244,
}  # fmt: skip

Seconds = Callable[[RunName], float | None]


@dataclass(frozen=True)
class Cost:
    """What some runs cost together.

    Attributes:
        title: which.
        runs: how many, teachers and first weights included, each once.
        images: how many images their trainings see.
        seconds: on one device; None where that of a run was never measured.
        spans: for each number of devices, the seconds until the last run ends.
    """

    title: str
    runs: int
    images: int
    seconds: float | None
    spans: Mapping[int, float]


def cost_table(
    pattern: str,
    profile: str,
    *,
    device: str,
    images_per_second: float | None = None,
    devices: Sequence[int] = (1, 8, 64),
) -> Table:
    """What the runs behind every published table cost, and all of them together.

    A run takes what its own record says, if it was made on such a device; else as many seconds an image as
    records of the same networks, terms, picture and batch have. A run that neither tells anything about has
    no cost, nor has the table that it is in.

    Args:
        pattern: of the recipes that count.
        profile: "quick", "short" or "full".
        device: a part of the device's name in the records, such as "H200".
        images_per_second: of every run, in place of the records: for estimates of one's own.
        devices: for each number the time until all is done is worked out, one run a device.

    Raises:
        ValueError: no recipe has such a name, or a number is not above 0.
    """
    if images_per_second is not None and not images_per_second > 0:
        raise ValueError(f"images_per_second is {images_per_second}; it must be above 0.")
    recipes = {recipe.name: recipe for recipe in find_recipes(pattern, profile)}
    if images_per_second is None:
        seconds = measured(recipes.values(), profile, device)
        source = f"Measured on: {device}"
    else:
        seconds = _given(images_per_second)
        source = f"As if every run trained {images_per_second:g} images a second; not measured"
    costs = [_cost(name, chosen, seconds, devices) for name, chosen in _by_table(recipes)]
    costs.append(_cost("all recipes", list(recipes.values()), seconds, devices))
    header = ["table", "runs", "images, millions", "device hours", *(f"hours on {n}" for n in devices)]
    caption = (
        f"Profile {profile}, {pattern}. {source}. Every run once, also where tables share it; a run is "
        "trained on one device, its teacher before"
    )
    return table(header, [_row(cost, devices) for cost in costs], caption)


def measured(recipes: Iterable[Recipe], profile: str, device: str) -> Seconds:
    """What records in ``data/results`` say about the seconds of a run on a device."""
    own: dict[tuple[str, int], float] = {}
    rates: dict[str, list[float]] = {}
    for family in sorted({recipe.family for recipe in recipes}):
        for record in (run for runs in recorded(family, profile).values() for run in runs):
            if record.recipe is None or device not in str(record.environment.get("device")):
                continue
            spent = record.seconds * record.environment.get("processes", 1)
            own[record.recipe["digest"], record.seed] = spent
            made = recorded_recipe(record.recipe)
            rates.setdefault(_kind(made), []).append(spent / images_seen(made))

    def seconds(run: RunName) -> float | None:
        if (run.recipe.digest, run.seed) in own:
            return own[run.recipe.digest, run.seed]
        if found := rates.get(_kind(run.recipe)):
            return images_seen(run.recipe) * sum(found) / len(found)
        return None

    return seconds


def images_seen(recipe: Recipe) -> int:
    """How many images a training sees, its first stage included."""
    first = recipe.first_stage.epochs if recipe.first_stage else 0
    return (recipe.training.epochs + first) * train_images(recipe.data)


@cache
def train_images(data: DataSpec) -> int:
    """How many images are trained on; that of data sets on disk is known without them."""
    if data.train_images is not None:
        return data.train_images
    if data.division == "published" and data.name in _PUBLISHED:
        return _PUBLISHED[data.name]
    return len(data.load().train)


def span(jobs: Mapping[str, Job], seconds: Seconds, devices: int) -> float:
    """When the last run ends, if every device takes the next run whose teacher is there.

    Args:
        jobs: in an order in which each stands after those that it needs.
        seconds: of each; all are known.
        devices: how many work at a time.
    """
    waiting = {name: len(job.needs) for name, job in jobs.items()}
    ready = [name for name, count in waiting.items() if not count]
    running: list[tuple[float, str]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < devices:
            name = ready.pop(0)
            heapq.heappush(running, (now + (seconds(jobs[name].run) or 0.0), name))
        now, ended = heapq.heappop(running)
        for name, job in jobs.items():
            if ended in job.needs:
                waiting[name] -= 1
                if not waiting[name]:
                    ready.append(name)
    return now


def _by_table(recipes: Mapping[str, Recipe]) -> Iterable[tuple[str, list[Recipe]]]:
    for name in published_names():
        wanted = dict.fromkeys(cell.recipe for cell in published(name).cells if cell.recipe in recipes)
        if wanted:
            yield name, [recipes[recipe] for recipe in wanted]


def _cost(title: str, recipes: Sequence[Recipe], seconds: Seconds, devices: Sequence[int]) -> Cost:
    jobs = run_graph(recipes)
    each = [seconds(job.run) for job in jobs.values()]
    known = [found for found in each if found is not None]
    is_known = len(known) == len(each)
    return Cost(
        title=title,
        runs=len(jobs),
        images=sum(images_seen(job.run.recipe) for job in jobs.values()),
        seconds=sum(known) if is_known else None,
        spans={count: span(jobs, seconds, count) for count in devices} if is_known else {},
    )


def _row(cost: Cost, devices: Sequence[int]) -> list[object]:
    start = [cost.title, cost.runs, f"{cost.images / 1e6:,.1f}"]
    if cost.seconds is None:
        return [*start, NOT_MEASURED, *[""] * len(devices)]
    return [*start, f"{cost.seconds / 3600:,.1f}", *(f"{cost.spans[n] / 3600:,.1f}" for n in devices)]


def _given(images_per_second: float) -> Seconds:
    return lambda run: images_seen(run.recipe) / images_per_second


def _kind(recipe: Recipe) -> str:
    """What the time of an image depends on, but for the device."""
    teacher = recipe.teacher.recipe.student if recipe.teacher else None
    return repr(
        (recipe.student, teacher, recipe.terms, recipe.first_stage, recipe.augmentation, recipe.data.name,
         recipe.data.size, recipe.training.batch_size, recipe.training.optimizer, recipe.training.precision)
    )  # fmt: skip
