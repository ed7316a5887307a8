"""`RecordIndex`: recorded runs, and a page's own, found by what they computed."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from kdlib.experiments.records import results_folder
from kdlib.training.record import RunRecord

if TYPE_CHECKING:
    from kdlib.experiments.recipes import Recipe

# The runs of this seed are the teachers of others, and count only where their recipe asks for the seed.
TEACHER_SEED = 100


class IndexedRun(NamedTuple):
    """A run, and its file below ``data/results``; "" for a run that is not kept."""

    run: RunRecord
    file: str


class RecordIndex:
    """Runs by their recipes as these are today: one whose recipe has changed since is not found, but counted.

    Runs of two precisions are not two seeds of one thing: the index has those of the precision with more
    seeds, and counts the others.

    Args:
        live: runs from elsewhere than ``data/results``, such as a notebook's own. What is kept counts where
            both have it.
    """

    def __init__(self, live: Iterable[RunRecord] = ()) -> None:
        self._live = [IndexedRun(run, "") for run in live]
        self._kept: dict[tuple[str, str], list[IndexedRun]] = {}

    def has(self, family: str, profile: str) -> bool:
        """Whether there may be runs of recipes of this family, so that it is worth reading them."""
        return any(each.run.profile == profile for each in self._live) or bool(self._of(family, profile))

    def runs(self, recipe: "Recipe") -> dict[int, IndexedRun]:
        """By seed; those of teachers only where the recipe asks for their seeds."""
        return {seed: found for seed, found in self._alike(recipe).items() if _is_asked(recipe, seed)}

    def run(self, recipe: "Recipe", seed: int) -> RunRecord | None:
        """One run, of any seed."""
        found = self._alike(recipe).get(seed)
        return found.run if found else None

    def outdated(self, recipe: "Recipe", names: Iterable[str]) -> set[str]:
        """The files of kept runs that have one of the recipe's names, and not its content or precision."""
        known, alike = set(names), {each.file for each in self._alike(recipe).values()}
        return {
            each.file
            for each in self._of(recipe.family, recipe.profile)
            if _is_asked(recipe, each.run.seed)
            and _made_by(each).get("name") in known
            and each.file not in alike
        }

    def _alike(self, recipe: "Recipe") -> dict[int, IndexedRun]:
        """All runs of this content, by seed."""
        found: dict[str, dict[int, IndexedRun]] = {}
        for each in (*self._live, *self._of(recipe.family, recipe.profile)):
            if each.run.profile == recipe.profile and _made_by(each).get("digest") == recipe.digest:
                found.setdefault(str(each.run.settings.get("precision")), {})[each.run.seed] = each
        return dict(sorted(max(found.values(), key=len, default={}).items()))

    def _of(self, family: str, profile: str) -> list[IndexedRun]:
        if (family, profile) not in self._kept:
            root = results_folder()
            self._kept[family, profile] = [
                IndexedRun(RunRecord.load(path), path.relative_to(root).as_posix())
                for path in sorted((root / family / profile).glob("[!.]*.json"))
            ]
        return self._kept[family, profile]


def _made_by(each: IndexedRun) -> dict[str, Any]:
    return each.run.recipe or {}


def _is_asked(recipe: "Recipe", seed: int) -> bool:
    return seed != TEACHER_SEED or seed in recipe.seeds
