"""`kd`: run recipes, show tables and what there is, repeat recorded runs, get data sets.

Exit codes: 0 done; 1 a run failed, did not fit into its time, or is not what its record says; 2 the command
was wrong, or what it names is not there; 130 Ctrl-C.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from kdlib.data.catalogue import data_root, sources
from kdlib.data.download import download_data
from kdlib.data.inventory import check_data, inventory
from kdlib.experiments.index import RecordIndex
from kdlib.experiments.recipes import PROFILES, Recipe, RunName, families, find_recipes, load_family
from kdlib.experiments.recipes.family import in_file
from kdlib.experiments.recipes.reading import as_seeds
from kdlib.experiments.records import results_folder
from kdlib.experiments.report.comparison import Comparison, comparison
from kdlib.experiments.report.measurements import HEADINGS
from kdlib.experiments.report.published import published, published_names
from kdlib.experiments.report.recipe_table import RecipeTable, recipe_table
from kdlib.experiments.report.table import Table, table
from kdlib.experiments.runner import finished, run_recipe
from kdlib.experiments.statistics import Summary
from kdlib.experiments.store import Store
from kdlib.experiments.verification import TOLERANCE, verify
from kdlib.names import close
from kdlib.paths import given_path
from kdlib.training import DivergedError, distributed
from kdlib.training.distributed import launch
from kdlib.training.record import RunRecord

app = typer.Typer(
    help="Knowledge distillation: recipes to run, and what came of them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="The data sets of the course.", no_args_is_help=True)
app.add_typer(data_app, name="data")

_PATTERN = (
    "A name, or a pattern with *, ? and […] as a shell has them; of a file of your own my.toml, or "
    "my.toml:PATTERN."
)
_SETTINGS = (
    "Change a setting, such as training.epochs=3; several times. It holds for these recipes, not for their "
    "teachers; but data.name, data.size, data.division and data.normalize do for all runs on the same data "
    "set. teacher.training.epochs=3 is the teacher's own, start.training.epochs=3 that of the run with the "
    "first weights."
)
Root = Annotated[str | None, typer.Option(help="The data root; KDLIB_DATA if not given.")]
Changes = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=_SETTINGS)]
AsJson = Annotated[bool, typer.Option("--json", help="Print the results as JSON.")]
DataName = Annotated[str, typer.Argument(help="One of those that `kd data list` shows.")]


@app.command()
def run(
    pattern: Annotated[str, typer.Argument(help=f"Recipes to run. {_PATTERN}")],
    profile: Annotated[
        Literal["quick", "short", "full"],
        typer.Option(help="quick: the embedded digits, seconds; short: real data, hours; full: a GPU."),
    ] = "quick",
    seed: Annotated[
        list[int] | None, typer.Option(help="May be given several times; the recipe's own if not.")
    ] = None,
    changes: Changes = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1, for example.")] = "auto",
    number: Annotated[
        int, typer.Option("--processes", min=1, help="Train in so many processes here, one a GPU.")
    ] = 1,
    minutes: Annotated[
        float | None,
        typer.Option(help="End in time: the shortest runs first, and all their records in one file."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train recipes, their teachers first, unless that is done.

    A run that was stopped goes on where it was when the same command is given again. So does what did not fit
    into --minutes; the exit code is 1 then.

    Several processes, these or those of torchrun --no-python kd run …, take a share of every batch each. The
    recipe's batch size is that of all together, so that its learning rate stays, and the result is that of
    one process but for rounding.
    """
    with told():
        seeds = as_seeds(seed, "--seed") if seed else ()
        if minutes is not None and (number > 1 or distributed.world_size() > 1):
            raise ValueError("--minutes is for one process, and there are several; leave one of the two out.")
        if number > 1 and distributed.world_size() == 1:
            raise typer.Exit(_launch(number))
        distributed.init_process_group()
        recipes = find_recipes(pattern, profile, as_settings(changes))
        if minutes is None:
            failed = train(_runs(recipes, seeds), device, as_json)
        else:
            failed = train_in_time(recipes, seeds, minutes, device, as_json)
        distributed.destroy_process_group()
        if failed:
            raise typer.Exit(1)


@app.command("sweep")
def run_recipes_by_engine(
    pattern: Annotated[str, typer.Argument(help=f"Recipes to run. {_PATTERN}")],
    options: Annotated[
        list[str] | None, typer.Argument(metavar="-- OPTIONS", help="Of Snakemake, behind two dashes.")
    ] = None,
    profile: Annotated[Literal["quick", "short", "full"], typer.Option(help="As for `kd run`.")] = "quick",
    seed: Annotated[list[int] | None, typer.Option(help="As for `kd run`.")] = None,
    changes: Changes = None,
    device: Annotated[str, typer.Option(help="auto or cpu; auto asks for a GPU a run in full.")] = "auto",
    cores: Annotated[
        int | None,
        typer.Option(help="Cores to use here; elsewhere, how many jobs may be in the queue at a time."),
    ] = None,
    executor: Annotated[
        Literal["local", "slurm", "kubernetes"], typer.Option(help="Where the runs are performed.")
    ] = "local",
    retries: Annotated[
        int, typer.Option(help="Of a run that fails or is killed; it goes on where it was.")
    ] = 2,
) -> None:
    """Train recipes, each run a job of its own, here or on a cluster, by Snakemake.

    Teachers come first. A sweep that was stopped goes on where it was when the same command is given again.
    """
    from kdlib.experiments.sweeps import Sweep, run_sweep

    with told():
        seeds = as_seeds(seed, "--seed") if seed else None
        sweep = Sweep(pattern, profile, seeds, device, retries, as_settings(changes))
        left = run_sweep(sweep, executor, cores, options or ())
        for sentence in left:
            _say(f"error: {sentence}")
        if left:
            raise typer.Exit(1)


@app.command("cost")
def show_cost(
    pattern: Annotated[str, typer.Argument(help=f"Recipes. {_PATTERN}")] = "*",
    profile: Annotated[Literal["quick", "short", "full"], typer.Option(help="As for `kd run`.")] = "full",
    device: Annotated[
        str, typer.Option(help="Whose records count: a part of the name that they have for it.")
    ] = "H200",
    images_per_second: Annotated[
        float | None, typer.Option(help="Of every run, in place of the records: for an estimate of your own.")
    ] = None,
) -> None:
    """Show how many hours the runs behind each published table take, as far as it was measured."""
    from kdlib.experiments.sweeps.cost import cost_table

    with told():
        typer.echo(repr(cost_table(pattern, profile, device=device, images_per_second=images_per_second)))


@app.command("table")
def show_table(
    pattern: Annotated[
        str, typer.Argument(help=f"Published tables; if none is called so, recipes. {_PATTERN}")
    ],
    form: Annotated[
        Literal["text", "markdown", "csv", "latex"], typer.Option("--format", help="How to write it.")
    ] = "text",
    as_json: AsJson = False,
) -> None:
    """Show published tables, or recipes, beside the numbers of our recorded runs."""
    with told():
        if as_json and form != "text":
            raise ValueError(f"--json and --format {form} are two forms; ask for one of them.")
        found = _tables(pattern)
        if as_json:
            _print_json([each.as_dict() for each in found])
            return
        for each in found:
            typer.echo(_written(each, form))


@app.command("list")
def list_recipes(
    pattern: Annotated[str, typer.Argument(help=f"Recipes. {_PATTERN}")] = "*",
    as_json: AsJson = False,
) -> None:
    """Show which recipes there are, and how many of their runs are done."""
    with told():
        found: dict[str, dict[str, Any]] = {}
        index = RecordIndex()
        for profile in PROFILES:
            for recipe in find_recipes(pattern, profile):
                found.setdefault(recipe.name, {})[profile] = _progress(recipe, index)
        if as_json:
            _print_json([{"recipe": name, **progress} for name, progress in found.items()])
        else:
            rows = [(name, *map(_in_words, progress.values())) for name, progress in found.items()]
            typer.echo(repr(table(["recipe", *PROFILES], rows, "Runs that are done, of those in the recipe")))


@app.command("verify")
def verify_record(
    record: Annotated[str, typer.Argument(help="Its file; a path below data/results will do.")],
    tolerance: Annotated[
        float, typer.Option(help="For the final metrics, where digits cannot be asked for.")
    ] = TOLERANCE,
    device: Annotated[str, typer.Option(help="As for `kd run`; the record's own kind if not given.")] = "",
    as_json: AsJson = False,
) -> None:
    """Repeat a recorded run from its recipe, and compare.

    On the record's processor, with its torch and as many threads, every metric and curve has to be the same
    to the last digit; elsewhere, and on a GPU, the final metrics within the tolerance.

    The exit code is 0 if the run is the same, and 1 if not. Nothing is written to the store or to
    data/results; teachers that are in the store are not trained again, and which others are is said first.
    """
    with told():
        path = _record_file(record)
        try:
            found = verify(RunRecord.load(path), name=str(path), tolerance=tolerance, device=device)
        except (DivergedError, MemoryError, RuntimeError) as error:
            _say(f"error: {path} could not be repeated: {error}")
            raise typer.Exit(1) from error
        if as_json:
            _print_json({"record": str(path), **found.as_dict()})
        else:
            for name in found.reused:
                typer.echo(f"from the store: {name}")
            for warning in found.warnings:
                typer.echo(f"warning: {warning}")
            typer.echo(found.verdict)
        if not found.same:
            raise typer.Exit(1)


@data_app.command("list")
def list_data_sets(root: Root = None, as_json: AsJson = False) -> None:
    """Show which data sets there are, and which of them are here."""
    with told():
        if as_json:
            _print_json(
                {"root": str(data_root(root)), "data_sets": [_about(name, root) for name in sources()]}
            )
        else:
            typer.echo("\n".join(inventory(root)))


@data_app.command("get")
def get_data_set(name: DataName, root: Root = None, as_json: AsJson = False) -> None:
    """Download a data set, check it, and unpack it."""
    with told():
        folder = download_data(name, root)
        if as_json:
            _print_json(_about(name, root))
        else:
            typer.echo(f"{name} is in {folder}")


@data_app.command("check")
def check_data_set(name: DataName, root: Root = None, as_json: AsJson = False) -> None:
    """Count the images and classes of a data set."""
    with told():
        counted = check_data(name, root)
        if as_json:
            _print_json(_about(name, root))
        else:
            typer.echo(counted)


def main() -> None:
    """What the command `kd` calls."""
    app()


@contextmanager
def told() -> Iterator[None]:
    """Turn an error into one sentence on stderr and an exit code."""
    try:
        yield
    except KeyboardInterrupt as error:
        _say("stopped; what is done is kept, and the same command goes on from there.")
        raise typer.Exit(130) from error
    except (ValueError, FileNotFoundError, FileExistsError) as error:
        _say(f"error: {error}")
        raise typer.Exit(2) from error
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        _say(f"error: {error.strerror or error}{where}")
        raise typer.Exit(1) from error


def _say(what: str, speaks: Callable[[], bool] = distributed.is_first_to_fail) -> None:
    """One sentence on stderr; of processes that train together one speaks."""
    if speaks():
        print(" ".join(what.split()), file=sys.stderr, flush=True)


def _print_json(what: object) -> None:
    """On stdout, where nothing else is then."""
    typer.echo(json.dumps(what, indent=1))


def _about(name: str, root: str | None) -> dict[str, Any]:
    """A data set that the course knows by name, as JSON has it."""
    source = sources()[name]
    folder = data_root(root) / source.folder
    return {
        "name": name, "title": source.title, "here": folder.is_dir(), "folder": str(folder),
        "images": source.images, "classes": source.classes,
    }  # fmt: skip


def _record_file(name: str) -> Path:
    """The file of a record, by its path or by the one below ``data/results`` that tables and pages show."""
    for path in (given_path(name, "file"), results_folder() / name):
        if path.is_file():
            return path
    raise FileNotFoundError(f"there is no record {name}, here or in {results_folder()}.")


def _launch(number: int) -> int:
    """This command in several processes; its exit code."""
    try:
        return launch("kdlib.cli", sys.argv[1:], number)
    except RuntimeError as error:
        _say(f"error: {error}")
        return 1


def as_settings(changes: Sequence[str] | None) -> dict[str, str]:
    """Keys and values of the options --set."""
    settings = {}
    for change in changes or ():
        key, equals, value = change.partition("=")
        if not equals:
            raise ValueError(f"--set is {change!r}; write a key and a value, such as training.epochs=3.")
        settings[key.strip()] = value.strip()
    return settings


def train(
    runs: Sequence[RunName],
    device: str,
    as_json: bool = False,
    until: AbstractContextManager[object] | None = None,
) -> int:
    """Train, print what came of it, and return how many runs failed or were not reached."""
    done = _run_all(runs, device, until or nullcontext())
    if distributed.is_rank_zero():
        if as_json:
            _print_json(done)
        elif done:
            typer.echo(repr(_results(done)))
            typer.echo("\n".join(_weights(done)))
    return len(runs) - len(done)


def train_in_time(
    recipes: Sequence[Recipe], seeds: Sequence[int], minutes: float, device: str, as_json: bool = False
) -> int:
    """Train what fits into some minutes, pack the records, and return how many runs are left."""
    from kdlib.experiments.sweeps.graph import run_graph
    from kdlib.experiments.sweeps.sitting import Sitting, pack_finished, shortest_first

    sitting = Sitting(minutes)
    jobs = run_graph(recipes, seeds or None)
    runs = shortest_first(jobs, _runs(recipes, seeds), device)
    left = train(runs, device, as_json, sitting)
    file, number = pack_finished(jobs)
    _say(f"the records of {number} runs are in {file}")
    if left:
        _say(
            f"error: {left} of {len(runs)} runs are left after {minutes:g} minutes; the same command goes on."
        )
    return left


def _runs(recipes: Sequence[Recipe], seeds: Sequence[int]) -> list[RunName]:
    """Every recipe with every seed."""
    return [RunName(recipe, seed) for recipe in recipes for seed in seeds or recipe.seeds]


def _run_all(
    runs: Iterable[RunName], device: str, until: AbstractContextManager[object]
) -> list[dict[str, Any]]:
    """What came of the runs that went well, as far as the context lets them be performed."""
    done: list[dict[str, Any]] = []
    with until:
        for recipe, seed in runs:
            try:
                done.append(_summary(recipe, run_recipe(recipe, seed, device=device)))
            except (DivergedError, MemoryError, RuntimeError) as error:
                said = f"error: {recipe.name}@{seed} ({recipe.profile}) failed: {error}"
                if isinstance(error, DivergedError) or distributed.world_size() == 1:
                    # All processes know, and the other runs of a sweep may well go through.
                    _say(said, distributed.is_rank_zero)
                    continue
                # The others would wait for this process.
                if not distributed.is_lost_connection(error):
                    _say(said)
                raise typer.Exit(1) from error
    return done


def _summary(recipe: Recipe, record: RunRecord) -> dict[str, Any]:
    folder = Store().folder(recipe, record.seed)
    return {
        "recipe": recipe.name, "profile": recipe.profile, "seed": record.seed, "digest": recipe.digest,
        "folder": str(folder.path), "weights": str(folder.student), "final": record.final,
        "best_test_accuracy": max(record.epochs.get("test_accuracy", [record.final["accuracy"]])),
        "seconds": record.seconds,
    }  # fmt: skip


def _results(done: Sequence[dict[str, Any]]) -> Table:
    """A line for each recipe, over its seeds."""
    rows = [
        (
            name,
            Summary.of([run["final"]["accuracy"] for run in of_recipe]),
            Summary.of([run["best_test_accuracy"] for run in of_recipe]),
            f"{sum(run['seconds'] for run in of_recipe):.0f} s",
        )
        for name, of_recipe in _by_recipe(done).items()
    ]
    return table(
        ["recipe", "accuracy", "best on test", "time"], rows, "After the last epoch, on the test images"
    )


def _weights(done: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Where the trained weights are: a line for each recipe, with several seeds as a shell writes them."""
    for name, of_recipe in _by_recipe(done).items():
        file = Path(of_recipe[0]["weights"])
        seeds = ",".join(str(run["seed"]) for run in of_recipe)
        folder = file.parent if len(of_recipe) == 1 else file.parent.with_name(f"seed{{{seeds}}}")
        yield f"weights of {name}: {folder / file.name}"


def _by_recipe(done: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    runs: dict[str, list[dict[str, Any]]] = {}
    for summary in done:
        runs.setdefault(summary["recipe"], []).append(summary)
    return runs


def _tables(pattern: str) -> list[Comparison] | list[RecipeTable]:
    """Published tables whose names fit, with all profiles; or else one table of the recipes that do."""
    if in_file(pattern)[0] is not None:
        return [_recipe_table(pattern)]
    tables = published_names()
    if names := [name for name in tables if fnmatchcase(name, pattern)]:
        return [replace(_comparison(name), profiles=tuple(HEADINGS)) for name in names]
    recipes = [name for family in families() for name in load_family(family).cells]
    fitting = [name for name in recipes if fnmatchcase(name, pattern)]
    if not fitting:
        raise ValueError(
            f"no published table and no recipe is called {pattern!r}; {_near(pattern, tables, recipes)}"
        )
    return [_recipe_table(pattern)]


def _recipe_table(pattern: str) -> RecipeTable:
    # Of the whole family: a recipe may be measured against another one of it.
    of_families = {recipe.among("*") for recipe in find_recipes(pattern)}
    return recipe_table(pattern, live=_quick_runs(of_families))


def _comparison(name: str) -> Comparison:
    return comparison(name, live=_quick_runs({cell.recipe for cell in published(name).cells if cell.recipe}))


def _near(pattern: str, tables: Sequence[str], recipes: Sequence[str]) -> str:
    """What may have been meant, among both."""
    found = close(pattern, tables) + close(pattern, recipes)
    if found:
        return f"did you mean {' or '.join(map(repr, found))}?"
    return (
        f"there are {len(tables)} tables, such as {', '.join(tables[:3])}, and {len(recipes)} recipes; "
        '`kd table "*"` and `kd list` show them.'
    )


def _written(found: Comparison | RecipeTable, form: str) -> str:
    match form:
        case "markdown":
            return found.table().to_markdown()
        case "csv":
            return str(found.frame().to_csv(index=False))
        case "latex":
            return found.table().to_latex()
    return repr(found)


def _quick_runs(patterns: Iterable[str]) -> Iterator[RunRecord]:
    """The quick runs of recipes that are in the store: nothing else keeps them."""
    for pattern in sorted(patterns):
        for recipe in find_recipes(pattern, "quick"):
            for seed in recipe.seeds:
                if (record := finished(recipe, seed)) is not None:
                    yield record


def _progress(recipe: Recipe, index: RecordIndex) -> dict[str, Any]:
    """Which of a recipe's runs are done, here or in ``data/results``, and whether one is under way."""
    there = index.runs(recipe)
    folders = {seed: Store().folder(recipe, seed) for seed in recipe.seeds}
    return {
        "seeds": list(folders),
        "done": [seed for seed, folder in folders.items() if folder.is_finished or seed in there],
        "under_way": any(folder.is_under_way for folder in folders.values()),
    }


def _in_words(progress: dict[str, Any]) -> str:
    waiting = ", one under way" if progress["under_way"] else ""
    return f"{len(progress['done'])} of {len(progress['seeds'])}{waiting}"


if __name__ == "__main__":
    main()
