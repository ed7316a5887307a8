"""What runs cost: from the seconds that were measured, and from nothing else."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache

from kdlib.experiments.recipes import DataSpec, Recipe, RunName, find_recipes, recorded_recipe
from kdlib.experiments.records import recorded
from kdlib.experiments.report.published import published, published_names
from kdlib.experiments.report.table import Table, table
from kdlib.experiments.sweeps.graph import Job, run_graph

NOT_MEASURED = "not measured yet"

# The training images of the division "published", and of the one with validation images.
_PUBLISHED = {
    "cifar10": 50_000, "cifar100": 50_000, "cifar10-jpeg": 50_000, "caltech101": 7_811, "caltech256": 27_551,
    "hymenoptera": 244,
}  # fmt: skip
_HELD_OUT = {"caltech101": 6_071}

Seconds = Callable[[RunName], float | None]


def cost_table(
    pattern: str,
    profile: str,
    *,
    device: str,
    images_per_second: float | None = None,
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

    Raises:
        ValueError: no recipe has such a name, or a number is not above 0.
    """
    if images_per_second is not None and not images_per_second > 0:
        raise ValueError(f"images_per_second is {images_per_second}; it must be above 0.")
    recipes = {recipe.name: recipe for recipe in find_recipes(pattern, profile)}
    if images_per_second is None:
        seconds = measured_seconds(recipes.values(), profile, device)
        source = f"Measured on: {device}"
    else:
        seconds = _given(images_per_second)
        source = f"As if every run trained {images_per_second:g} images a second; not measured"
    rows = [_row(name, chosen, seconds) for name, chosen in _by_table(recipes)]
    rows.append(_row("all recipes", list(recipes.values()), seconds))
    header = ["table", "runs", "images, millions", "device hours", "longest chain, hours"]
    caption = (
        f"Profile {profile}, {pattern}. {source}. Every run once, also where tables share it; the longest "
        "chain is a run with its teacher before it"
    )
    return table(header, rows, caption)


def measured_seconds(recipes: Iterable[Recipe], profile: str, device: str) -> Seconds:
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
    known = _PUBLISHED if data.division == "published" else _HELD_OUT
    return known[data.name] if data.name in known else len(data.load().train)


def longest_chain(jobs: Mapping[str, Job], seconds: Mapping[str, float]) -> float:
    """The seconds of a run with all that it waits for: it takes so long on any number of devices.

    Args:
        jobs: in an order in which each stands after those that it needs.
        seconds: of each.
    """
    ends: dict[str, float] = {}
    for name, job in jobs.items():
        ends[name] = seconds[name] + max((ends[needed] for needed in job.needs), default=0.0)
    return max(ends.values())


def _by_table(recipes: Mapping[str, Recipe]) -> Iterable[tuple[str, list[Recipe]]]:
    for name in published_names():
        wanted = dict.fromkeys(cell.recipe for cell in published(name).cells if cell.recipe in recipes)
        if wanted:
            yield name, [recipes[recipe] for recipe in wanted]


def _row(title: str, recipes: Sequence[Recipe], seconds: Seconds) -> list[object]:
    """What the runs of some recipes cost together, their teachers included."""
    jobs = run_graph(recipes)
    images = sum(images_seen(job.run.recipe) for job in jobs.values())
    start = [title, len(jobs), f"{images / 1e6:,.1f}"]
    each = {name: seconds(job.run) for name, job in jobs.items()}
    known = {name: found for name, found in each.items() if found is not None}
    if len(known) < len(each):
        return [*start, NOT_MEASURED, ""]
    hours = (sum(known.values()) / 3600, longest_chain(jobs, known) / 3600)
    return [*start, *(f"{found:,.1f}" for found in hours)]


def _given(images_per_second: float) -> Seconds:
    return lambda run: images_seen(run.recipe) / images_per_second


def _kind(recipe: Recipe) -> str:
    """What the time of an image depends on, but for the device."""
    teacher = recipe.teacher.recipe.student if recipe.teacher else None
    return repr(
        (recipe.student, teacher, recipe.terms, recipe.first_stage, recipe.augmentation, recipe.data.name,
         recipe.data.size, recipe.training.batch_size, recipe.training.optimizer, recipe.training.precision)
    )  # fmt: skip
