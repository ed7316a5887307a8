"""`sweep`: all runs of a pattern, for a chapter that shows what came of them."""

from collections.abc import Iterable

from kdlib.recipes import find_recipes
from kdlib.results import RunRecord
from kdlib.runs.runner import perform
from kdlib.runs.store import Store


def sweep(
    pattern: str,
    profile: str,
    *,
    seeds: Iterable[int] | None = None,
    device: str = "auto",
    progress: bool = False,
    store: Store | None = None,
) -> dict[str, list[RunRecord]]:
    """Perform every recipe that a pattern names, with every seed.

    Args:
        pattern: a name, or a pattern as a shell has it, such as "cifar/methods/cifar10/20-20/*".
        profile: "quick", "short" or "full".
        seeds: the recipes' own if not given.
        device, progress, store: as `perform` takes them.

    Returns:
        For each recipe's name its records, in order of the seeds.

    Raises:
        ValueError: no recipe has such a name; the message lists near ones.
        Exception: as `perform`.
    """
    chosen = None if seeds is None else list(seeds)
    return {
        recipe.name: [
            perform(recipe, seed, device=device, progress=progress, store=store)
            for seed in (recipe.seeds if chosen is None else chosen)
        ]
        for recipe in find_recipes(pattern, profile)
    }
