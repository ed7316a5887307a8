"""`kd`: run recipes, show tables and what there is, repeat and move records, get data sets.

Exit codes: 0 done; 1 a run failed, or is not what its record says; 2 the command was wrong, or what it names
is not there; 130 Ctrl-C.
"""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from kdlib.data.download import download_data
from kdlib.data.inventory import check_data, inventory
from kdlib.published import published, published_names
from kdlib.recipes import PROFILES, Recipe, find_recipes
from kdlib.recipes.reading import near
from kdlib.results import RunRecord, Summary, Table, recorded, results_folder, table
from kdlib.results.archive import merge, pack
from kdlib.runs import Store, finished, perform, verify
from kdlib.runs.verification import TOLERANCE
from kdlib.tables import Comparison, comparison
from kdlib.training import DivergedError, processes
from kdlib.training.launch import launch

app = typer.Typer(
    help="Knowledge distillation: recipes to run, and what came of them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="The data sets of the course.", no_args_is_help=True)
app.add_typer(data_app, name="data")
results_app = typer.Typer(help="Records of runs, on their way between machines.", no_args_is_help=True)
app.add_typer(results_app, name="results")

_PATTERN = "A name, or a pattern with *, ? and […] as a shell has them."
Root = Annotated[str | None, typer.Option(help="The data root; KDLIB_DATA if not given.")]
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
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Change a setting, such as training.epochs=3; several times."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1, for example.")] = "auto",
    number: Annotated[
        int, typer.Option("--processes", min=1, help="Train in so many processes here, one a GPU.")
    ] = 1,
    as_json: AsJson = False,
    resume: Annotated[  # noqa: ARG001  # accepted, because scripts say it
        bool, typer.Option("--resume", help="Go on where a stopped run was. So it is always.")
    ] = True,
) -> None:
    """Train recipes, their teachers first, unless that is done.

    A run that was stopped goes on where it was when the same command is given again.

    Several processes, these or those of torchrun --no-python kd run …, take a share of every batch each. The
    recipe's batch size is that of all together, so that its learning rate stays, and the result is that of
    one process but for rounding.
    """
    with _told():
        if number > 1 and processes.count() == 1:
            raise typer.Exit(_launch(number))
        processes.join()
        recipes = find_recipes(pattern, profile, _settings(changes or []))
        done, failed = _perform_all(recipes, seed, device)
        if processes.is_first():
            typer.echo(json.dumps(done, indent=1) if as_json else repr(_results(done)))
        processes.leave()
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
    from kdlib.sweeps import Sweep, run_sweep

    with _told():
        sweep = Sweep(pattern, profile, tuple(seed or ()) or None, device, retries)
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
    """Show what the runs behind each published table cost on 1, 8 and 64 GPUs, as far as it was measured."""
    from kdlib.sweeps.cost import cost_table

    with _told():
        typer.echo(repr(cost_table(pattern, profile, device=device, images_per_second=images_per_second)))


@app.command("table")
def show_table(
    pattern: Annotated[str, typer.Argument(help=f"Published tables. {_PATTERN}")],
    form: Annotated[
        Literal["text", "markdown", "csv", "latex"], typer.Option("--format", help="How to write it.")
    ] = "text",
) -> None:
    """Show published tables beside the numbers of our recorded runs."""
    with _told():
        names = [name for name in published_names() if fnmatchcase(name, pattern)]
        if not names:
            raise ValueError(f"no published table is called {pattern!r}; {near(pattern, published_names())}")
        for name in names:
            typer.echo(_written(comparison(name, live=_quick_runs(name)), form))


@app.command("list")
def list_recipes(
    pattern: Annotated[str, typer.Argument(help=f"Recipes. {_PATTERN}")] = "*",
) -> None:
    """Show which recipes there are, and how many of their runs are done."""
    with _told():
        by_profile = {profile: find_recipes(pattern, profile) for profile in PROFILES}
        columns = [[_progress(recipe) for recipe in recipes] for recipes in by_profile.values()]
        names = [recipe.name for recipe in by_profile["full"]]
        rows = list(zip(names, *columns, strict=True))
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
    data/results; teachers that are in the store are not trained again.
    """
    with _told():
        path = _record_file(record)
        try:
            found = verify(RunRecord.load(path), name=str(path), tolerance=tolerance, device=device)
        except (DivergedError, MemoryError, RuntimeError) as error:
            _say(f"error: {path} could not be repeated: {error}")
            raise typer.Exit(1) from error
        if as_json:
            typer.echo(json.dumps({"record": str(path), **found.as_dict()}, indent=1))
        else:
            for name in found.reused:
                typer.echo(f"from the store: {name}")
            for warning in found.warnings:
                typer.echo(f"warning: {warning}")
            typer.echo(found.verdict)
        if not found.same:
            raise typer.Exit(1)


@results_app.command("pack")
def pack_results(
    to: Annotated[str, typer.Option("--to", metavar="FILE.tar.gz", help="The file to write.")],
    pattern: Annotated[
        str, typer.Argument(help=f"Paths or folders below data/results, or recipes. {_PATTERN}")
    ] = "*",
    as_json: AsJson = False,
) -> None:
    """Write records into one file, to be merged on another machine."""
    with _told():
        packed = pack(pattern, to)
        if as_json:
            typer.echo(json.dumps(asdict(packed) | {"file": str(packed.file)}, indent=1))
        else:
            size = f"{packed.size / 1000:.0f} kB"
            typer.echo(f"{packed.file}: records: {packed.records}, {size}, sha256 {packed.sha256}")


@results_app.command("merge")
def merge_results(
    files: Annotated[list[str], typer.Argument(help="That `kd results pack` wrote.")],
    replace: Annotated[
        bool, typer.Option("--replace", help="Let theirs take the place of other records of the same runs.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Put the records of other machines into data/results.

    What is there already is left alone, so that merging twice is merging once. Where another record of the
    same run is there, it stays, and the exit code is 1. Nothing is merged from a damaged file.
    """
    with _told():
        merged = merge(files, replace=replace)
        if as_json:
            typer.echo(json.dumps(asdict(merged), indent=1))
        else:
            counts = {"added": merged.added, "replaced": merged.replaced, "there already": merged.there}
            told = ", ".join(f"{len(places)} {what}" for what, places in counts.items() if places)
            typer.echo(f"{results_folder()}: {told or 'nothing added'}")
        for place, why in merged.refused.items():
            _say(f"error: {place} stays as it was: {why}; --replace would take it.")
        if merged.refused:
            raise typer.Exit(1)


@data_app.command("list")
def list_data_sets(root: Root = None) -> None:
    """Show which data sets there are, and which of them are here."""
    typer.echo("\n".join(inventory(root)))


@data_app.command("get")
def get_data_set(name: DataName, root: Root = None) -> None:
    """Download a data set, check it, and unpack it."""
    with _told():
        typer.echo(f"{name} is in {download_data(name, root)}")


@data_app.command("check")
def check_data_set(name: DataName, root: Root = None) -> None:
    """Count the images and classes of a data set."""
    with _told():
        typer.echo(check_data(name, root))


def main() -> None:
    """What the command `kd` calls."""
    app()


@contextmanager
def _told() -> Iterator[None]:
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


def _say(what: str, speaks: Callable[[], bool] = processes.is_first_to_end) -> None:
    """One sentence on stderr; of processes that train together one speaks."""
    if speaks():
        print(" ".join(what.split()), file=sys.stderr, flush=True)


def _record_file(name: str) -> Path:
    """The file of a record, by its path or by the one below ``data/results`` that tables and pages show."""
    for path in (Path(name), results_folder() / name):
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


def _settings(changes: Sequence[str]) -> dict[str, str]:
    settings = {}
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals:
            raise ValueError(f"--set is {change!r}; write a key and a value, such as training.epochs=3.")
        settings[key.strip()] = value.strip()
    return settings


def _perform_all(
    recipes: Sequence[Recipe], seeds: Sequence[int] | None, device: str
) -> tuple[list[dict[str, Any]], int]:
    """Every recipe with every seed: what came of those that went well, and how many did not."""
    done, failed = [], 0
    for recipe in recipes:
        for seed in seeds or recipe.seeds:
            try:
                done.append(_summary(recipe, perform(recipe, seed, device=device)))
            except (DivergedError, MemoryError, RuntimeError) as error:
                failed += 1
                said = f"error: {recipe.name}@{seed} ({recipe.profile}) failed: {error}"
                if isinstance(error, DivergedError) or processes.count() == 1:
                    # All processes know, and the other runs of a sweep may well go through.
                    _say(said, processes.is_first)
                    continue
                # The others would wait for this process.
                if not processes.is_lost(error):
                    _say(said)
                raise typer.Exit(1) from error
    return done, failed


def _summary(recipe: Recipe, record: RunRecord) -> dict[str, Any]:
    return {
        "recipe": recipe.name, "profile": recipe.profile, "seed": record.seed, "digest": recipe.digest,
        "folder": str(Store().folder(recipe, record.seed).path), "final": record.final,
        "best_test_accuracy": max(record.epochs.get("test_accuracy", [record.final["accuracy"]])),
        "seconds": record.seconds,
    }  # fmt: skip


def _results(done: Sequence[dict[str, Any]]) -> Table:
    """A line for each recipe, over its seeds."""
    runs: dict[str, list[dict[str, Any]]] = {}
    for summary in done:
        runs.setdefault(summary["recipe"], []).append(summary)
    rows = [
        (
            name,
            Summary.of([run["final"]["accuracy"] for run in of_recipe]),
            Summary.of([run["best_test_accuracy"] for run in of_recipe]),
            f"{sum(run['seconds'] for run in of_recipe):.0f} s",
        )
        for name, of_recipe in runs.items()
    ]
    return table(
        ["recipe", "accuracy", "best on test", "time"], rows, "After the last epoch, on the test images"
    )


def _written(found: Comparison, form: str) -> str:
    match form:
        case "markdown":
            return found.to_markdown()
        case "csv":
            return found.to_csv()
        case "latex":
            return found.to_latex()
    return repr(found)


def _quick_runs(name: str) -> Iterator[RunRecord]:
    """The quick runs of a table's recipes that are in the store: nothing else keeps them."""
    for pattern in sorted({cell.recipe for cell in published(name).cells if cell.recipe}):
        for recipe in find_recipes(pattern, "quick"):
            for seed in recipe.seeds:
                if (record := finished(recipe, seed)) is not None:
                    yield record


def _progress(recipe: Recipe) -> str:
    """How many of a recipe's runs are done, here or in ``data/results``, and whether one is under way."""
    kept = recorded(recipe.family, recipe.profile).get(recipe.name, [])
    there = {run.seed for run in kept if run.recipe and run.recipe["digest"] == recipe.digest}
    folders = {seed: Store().folder(recipe, seed) for seed in recipe.seeds}
    done = [seed for seed, folder in folders.items() if folder.is_finished or seed in there]
    waiting = any(folder.is_under_way for folder in folders.values())
    return f"{len(done)} of {len(folders)}{', one under way' if waiting else ''}"


if __name__ == "__main__":
    main()
