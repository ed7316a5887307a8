"""Published numbers: the tables that the course reproduces, as their authors printed them."""

import csv
import difflib
import os
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from kdlib.results import Table, table

_ROOT = Path(__file__).resolve().parents[1]

Selection = Literal["last", "best", "mean", "unstated", ""]


@dataclass(frozen=True)
class Cell:
    """One cell of a published table.

    Attributes:
        row, column: where it stands.
        printed: exactly what the source has there, markup included.
        value: what that says, as a fraction where it is an accuracy; None for words.
        sd: the spread printed with it.
        n: runs behind it.
        metric: "accuracy", "loss" and "logit difference" are results that a run of ours has too; others
            are settings, averages over a row, sizes, and links to plots.
        selection: the epoch it is from: the "last", the "best" on the test images, the "mean" over all
            epochs; "unstated" where the source does not tell; "" where it is no result of training.
        recipe: the name of the recipe that reproduces it; "" where there is none.
        against: the row of the same column that it is measured against.
        note: what a reader should know before comparing.
    """

    row: str
    column: str
    printed: str
    value: float | None
    sd: float | None
    n: int | None
    metric: str
    selection: Selection
    recipe: str
    against: str
    note: str


@dataclass(frozen=True)
class Published:
    """One published table, or the numbers of one text.

    Attributes:
        name: of its file in ``data/published``.
        title: what it shows.
        source, url: where it stands.
        selection: how its numbers were chosen, in a sentence.
        cells: row by row.
    """

    name: str
    title: str
    source: str
    url: str
    selection: str
    cells: tuple[Cell, ...]

    @property
    def rows(self) -> list[str]:
        return list(dict.fromkeys(cell.row for cell in self.cells))

    @property
    def columns(self) -> list[str]:
        return list(dict.fromkeys(cell.column for cell in self.cells))

    def cell(self, row: str, column: str) -> Cell:
        """The cell in a row and a column.

        Raises:
            ValueError: the table has none there.
        """
        for cell in self.cells:
            if (cell.row, cell.column) == (row, column):
                return cell
        raise ValueError(
            f"{self.name} has no cell in row {row!r}, column {column!r}; its rows are {self.rows}, "
            f"its columns {self.columns}."
        )

    def table(self) -> Table:
        """The table as it was printed."""
        printed = {(cell.row, cell.column): cell.printed for cell in self.cells}
        rows = [[row, *(printed.get((row, column), "") for column in self.columns)] for row in self.rows]
        return table(["", *self.columns], rows, f"{self.title}. {self.source}. {self.selection}")

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def published_folder() -> Path:
    """``data/published`` of the course, or the folder that KDLIB_PUBLISHED names.

    Raises:
        FileNotFoundError: it is not there: kdlib was installed without the course around it.
    """
    folder = Path(os.environ.get("KDLIB_PUBLISHED", _ROOT / "data" / "published"))
    if not (folder / "sources.toml").is_file():
        raise FileNotFoundError(
            f"{folder} does not hold the published tables; they come with a checkout of the course, "
            "and KDLIB_PUBLISHED names the folder data/published of one."
        )
    return folder


def published_names() -> list[str]:
    """The names that `published` takes."""
    return sorted(path.stem for path in published_folder().glob("*.csv"))


def published(name: str) -> Published:
    """A published table by name, such as "001-methods".

    Raises:
        ValueError: there is no table of that name, or its file is not as it should be.
        FileNotFoundError: the folder of the tables is not there.
    """
    if name not in (names := published_names()):
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.4) or names
        raise ValueError(f"there is no published table {name!r}; there is {', '.join(near)}.")
    return _read(published_folder(), name)


@cache
def _read(folder: Path, name: str) -> Published:
    about = tomllib.loads((folder / "sources.toml").read_text(encoding="utf-8")).get(name)
    if about is None:
        raise ValueError(f"{folder / 'sources.toml'} has no section [{name}]; add one.")
    path = folder / f"{name}.csv"
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        cells = tuple(_cell(line, f"{path}, line {reader.line_num}") for line in reader)
    return Published(name=name, cells=cells, **about)


def _cell(line: dict[str, Any], where: str) -> Cell:
    if line["selection"] not in (known := get_args(Selection)):
        raise ValueError(f"{where}: the selection {line['selection']!r} is none of {known}; use one of them.")
    try:
        value, sd = (float(line[key]) if line[key] else None for key in ("value", "sd"))
        return Cell(**(line | {"value": value, "sd": sd, "n": int(line["n"]) if line["n"] else None}))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where} is not a cell of a published table: {error}.") from error
