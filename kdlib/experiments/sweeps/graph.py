"""The runs of a sweep, each once, and what each of them waits for."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

from kdlib.experiments.recipes import Recipe, RunName, find_recipes
from kdlib.experiments.recipes.family import in_file
from kdlib.experiments.recipes.resolve import located
from kdlib.experiments.store import Store

# What a run needs, for the engine to find a place for it: `mem_mb` in megabytes, `runtime` in minutes. A run
# that is stopped because it takes longer goes on at its next attempt.
RESOURCES: dict[str, dict[str, Any]] = {
    "quick": {"mem_mb": 2000, "runtime": 30},
    "short": {"mem_mb": 6000, "runtime": 24 * 60},
    "full": {"mem_mb": 32000, "runtime": 24 * 60, "gpu": 1, "gpu_manufacturer": "nvidia"},
}
THREADS = {"quick": 1, "short": 1, "full": 8}


@dataclass(frozen=True)
class Job:
    """A run, and the names of those that it needs: its teacher's, and the one that its weights come from."""

    run: RunName
    needs: tuple[str, ...]


def run_graph(recipes: Iterable[Recipe], seeds: Sequence[int] | None = None) -> dict[str, Job]:
    """Every run by name, after those that it needs.

    Names of one content are one run, which stands under the first of them. A recipe that was changed by hand
    may be there beside the same as its file has it: the second has its digest behind its name.

    Args:
        recipes: what is to be run.
        seeds: the recipes' own if not given.
    """
    graph: dict[str, Job] = {}
    names: dict[tuple[str, int], str] = {}

    def add(run: RunName) -> str:
        key = (run.recipe.digest, run.seed)
        if key not in names:
            needs = tuple(dict.fromkeys(map(add, run.recipe.needs(run.seed))))
            name = f"{run}-{run.recipe.digest}" if str(run) in graph else str(run)
            names[key] = name
            graph[name] = Job(run, needs)
        return names[key]

    for recipe in recipes:
        for seed in recipe.seeds if seeds is None else seeds:
            add(RunName(recipe, seed))
    return graph


@dataclass(frozen=True)
class Sweep:
    """What the Snakefile asks about.

    Attributes:
        pattern: of the recipes.
        profile: "quick", "short" or "full".
        seeds: the recipes' own if None.
        device: as `kd run` takes it.
        retries: of a run that fails or is killed.
        settings: changes by hand, as `find_recipes` takes them.
    """

    pattern: str
    profile: str
    seeds: tuple[int, ...] | None = None
    device: str = "auto"
    retries: int = 2
    settings: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Sweep":
        """From what stands behind Snakemake's --config.

        Raises:
            ValueError: the pattern is missing, or the profile.
        """
        for key in ("pattern", "profile"):
            if key not in config:
                raise ValueError(f"the sweep has no {key}; give it with --config {key}=…")
        # One seed is a number to Snakemake, several are text.
        seeds = [int(seed) for seed in str(config.get("seeds", "")).split(",") if seed]
        return cls(
            pattern=str(config["pattern"]),
            profile=config["profile"],
            seeds=tuple(seeds) or None,
            device=config.get("device", cls.device),
            retries=int(config.get("retries", cls.retries)),
            settings=dict(parse_qsl(config.get("settings") or "", keep_blank_values=True)),
        )

    def as_config(self) -> list[str]:
        """What stands behind --config to give this sweep to a process in another folder."""
        file, in_it = in_file(self.pattern)
        pattern = self.pattern if file is None else f"{file}:{in_it}"
        config = {"pattern": pattern, "profile": self.profile, "device": self.device}
        config |= {"retries": str(self.retries), "seeds": ",".join(map(str, self.seeds or ()))}
        # Snakemake would take a value such as a=1 apart, or make a number of it.
        config["settings"] = urlencode(located(self.settings))
        return [f"{key}={value}" for key, value in config.items() if value]

    @cached_property
    def jobs(self) -> dict[str, Job]:
        """The runs by name."""
        return run_graph(find_recipes(self.pattern, self.profile, self.settings), self.seeds)

    @property
    def threads(self) -> int:
        return THREADS[self.profile]

    @property
    def resources(self) -> dict[str, Any]:
        """Of each run; no GPU where another device is asked for."""
        needed = RESOURCES[self.profile]
        if self.device == "cpu":
            return {name: value for name, value in needed.items() if not name.startswith("gpu")}
        return needed

    @property
    def run_options(self) -> list[str]:
        """Profile, seeds and settings as options of `kd run`."""
        seeds = [word for seed in self.seeds or () for word in ("--seed", str(seed))]
        settings = [word for change in self.settings.items() for word in ("--set", "=".join(change))]
        return ["--profile", self.profile, *seeds, *settings]

    def unfinished(self) -> list[str]:
        """The runs that are not in the store."""
        store = Store()
        return [name for name, job in self.jobs.items() if not store.folder(*job.run).is_finished]

    def mark(self, folder: Path) -> None:
        """Make the engine's marks say what the store says: a file for each run that is finished.

        The engine removes the outputs of a job that it repeats, or that fails. The files of a run are none:
        they are for the run alone to write, and a mark that goes costs a look into the store.
        """
        unfinished = set(self.unfinished())
        for name in self.jobs:
            mark = folder / name
            if name in unfinished:
                mark.unlink(missing_ok=True)
            else:
                mark.parent.mkdir(parents=True, exist_ok=True)
                mark.touch()
