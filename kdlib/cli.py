"""`kd`: run recipes, show tables and what there is, get data sets.

Exit codes: 0 done; 1 a run failed; 2 the command was wrong, or what it names is not there; 130 Ctrl-C.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

import typer

from kdlib.data.download import download_data
from kdlib.data.inventory import check_data, inventory
from kdlib.published import published, published_names
from kdlib.recipes import PROFILES, Recipe, find_recipes
from kdlib.recipes.reading import near
from kdlib.results import RunRecord, Summary, Table, recorded, table
from kdlib.runs import Store, finished, perform
from kdlib.tables import Comparison, comparison
from kdlib.training import DivergedError

app = typer.Typer(
    help="Knowledge distillation: recipes to run, and what came of them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="The data sets of the course.", no_args_is_help=True)
app.add_typer(data_app, name="data")

_PATTERN = "A name, or a pattern with *, ? and […] as a shell has them."
Root = Annotated[str | None, typer.Option(help="The data root; KDLIB_DATA if not given.")]
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
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
    resume: Annotated[  # noqa: ARG001  # accepted, because scripts say it
        bool, typer.Option("--resume", help="Go on where a stopped run was. So it is always.")
    ] = True,
) -> None:
    """Train recipes, their teachers first, unless that is done.

    A run that was stopped goes on where it was when the same command is given again.
    """
    with _told():
        recipes = find_recipes(pattern, profile, _settings(changes or []))
        done, failed = _perform_all(recipes, seed, device)
        typer.echo(json.dumps(done, indent=1) if as_json else repr(_results(done)))
        if failed:
            raise typer.Exit(1)


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
    except (ValueError, FileNotFoundError) as error:
        _say(f"error: {error}")
        raise typer.Exit(2) from error
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        _say(f"error: {error.strerror or error}{where}")
        raise typer.Exit(1) from error


def _say(what: str) -> None:
    print(" ".join(what.split()), file=sys.stderr, flush=True)


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
                # The other runs of a sweep may well go through.
                failed += 1
                _say(f"error: {recipe.name}@{seed} ({recipe.profile}) failed: {error}")
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
