"""Published numbers: the tables that the course reproduces, as their authors printed them."""

import csv
import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from kdlib.experiments.report.measurements import SELECTED, form
from kdlib.experiments.report.table import Table, Tabular, table
from kdlib.names import near
from kdlib.paths import REPOSITORY, folder_from

Selection = Literal["last", "best", "mean", "unstated", ""]


@dataclass(frozen=True)
class PublishedCell:
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

    def figures(self) -> list[str]:
        """The number in the form that ours have, and how it was chosen if not as the last epoch."""
        assert self.value is not None
        scale, digits = form(self.metric)
        digits = min(max(self._decimals(scale), digits), digits + 1)
        spread = f" ± {self.sd * scale:.{digits}f}" if self.sd is not None else ""
        runs = f" ({self.n})" if self.n is not None and self.n > 1 else ""
        chosen = [SELECTED[self.selection]] if self.selection in SELECTED else []
        return [f"{self.value * scale:.{digits}f}{spread}{runs}", *chosen]

    def in_words(self) -> str:
        """The same in one line, the last epoch named too: a recipe may have that one and the best."""
        return ", ".join(self.figures() + ["last epoch"] * (self.selection == "last"))

    def _decimals(self, scale: int) -> int:
        """With how many decimals a value was printed, in the units of `form`."""
        number = re.search(r"\d+(?:\.(\d*))?", self.printed)
        assert number
        as_fraction = scale == 100 and float(number[0]) == self.value
        return len(number[1] or "") - 2 * as_fraction


@dataclass(frozen=True, repr=False)
class Published(Tabular):
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
    cells: tuple[PublishedCell, ...]

    @property
    def rows(self) -> list[str]:
        return list(dict.fromkeys(cell.row for cell in self.cells))

    @property
    def columns(self) -> list[str]:
        return list(dict.fromkeys(cell.column for cell in self.cells))

    def baseline_of(self, cell: PublishedCell) -> str:
        """The recipe that a cell is measured against; "" for none."""
        return self.cell(cell.against, cell.column).recipe if cell.against else ""

    def cell(self, row: str, column: str) -> PublishedCell:
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


def published_folder() -> Path:
    """``data/published`` of the course, or the folder that KDLIB_PUBLISHED names.

    Raises:
        FileNotFoundError: it is not there: kdlib was installed without the course around it.
    """
    folder = folder_from("KDLIB_PUBLISHED") or REPOSITORY / "data" / "published"
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
        raise ValueError(f"there is no published table {name!r}; {near(name, names)}")
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


def _cell(line: dict[str, Any], where: str) -> PublishedCell:
    if line["selection"] not in (known := get_args(Selection)):
        raise ValueError(f"{where}: the selection {line['selection']!r} is none of {known}; use one of them.")
    try:
        value, sd = (float(line[key]) if line[key] else None for key in ("value", "sd"))
        n = int(line["n"]) if line["n"] else None
        return PublishedCell(**(line | {"value": value, "sd": sd, "n": n}))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where} is not a cell of a published table: {error}.") from error
