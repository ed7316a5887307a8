"""The one renderer: small tables for a notebook, a page, a terminal and a paper."""

import html
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass


class Entry(str):
    """A cell of several figures; where there is no markup they stand side by side.

    Attributes:
        figures: the first, and what is shown below it in small print.
        hint: what a page says on a pause of the mouse.
        records: files below ``data/results`` that a built page links the first figure to.
    """

    figures: tuple[str, ...]
    hint: str
    records: tuple[str, ...]

    def __new__(cls, figures: Sequence[str], hint: str = "", records: Sequence[str] = ()) -> "Entry":
        entry = super().__new__(cls, "; ".join(figures))
        entry.figures, entry.hint, entry.records = tuple(figures), hint, tuple(records)
        return entry


@dataclass(frozen=True, repr=False)
class Table:
    """A small table that a notebook, a page and a terminal each show in their own way."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str
    kind: str = ""

    def to_markdown(self) -> str:
        """For a Markdown page."""
        lines = [self.header, ("---",) * len(self.header), *self.rows]
        cells = [" | ".join(cell.replace("|", r"\|") for cell in line) for line in lines]
        return "\n".join(f"| {line} |" for line in cells) + f"\n\n{self.caption}\n"

    def to_latex(self) -> str:
        """For LaTeX, with the rules of the package booktabs."""
        header, *rows = (" & ".join(map(_latex, row)) + r" \\" for row in (self.header, *self.rows))
        return "\n".join(
            [r"\begin{table}", rf"\caption{{{_latex(self.caption)}}}",
             rf"\begin{{tabular}}{{{'l' * len(self.header)}}}", r"\toprule", header, r"\midrule", *rows,
             r"\bottomrule", r"\end{tabular}", r"\end{table}", ""]
        )  # fmt: skip

    def _repr_html_(self) -> str:
        head = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in self.header)
        body = "".join(f"<tr>{_html_row(row)}</tr>" for row in self.rows)
        name = f"kdlib-table {self.kind}".rstrip()
        return (
            f'<table class="{name}"><caption>{html.escape(self.caption)}</caption>'
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        )

    def _repr_markdown_(self) -> str:
        return self.to_markdown()

    def __repr__(self) -> str:
        widths = [max(map(len, column)) for column in zip(self.header, *self.rows, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in (self.header, *self.rows)
        ]
        return "\n".join([self.caption, *lines])


def table(header: Sequence[str], rows: Sequence[Sequence[object]], caption: str, kind: str = "") -> Table:
    """A table of anything that can be written as text.

    Args:
        header: a heading for each column.
        rows: as many cells each; an `Entry` stays one.
        caption: what is shown.
        kind: the class of the HTML besides "kdlib-table".

    Raises:
        ValueError: a row has more or fewer cells than the header.
    """
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"the row {list(row)} has {len(row)} cells, and the header {len(header)}.")
    cells = tuple(tuple(cell if isinstance(cell, str) else str(cell) for cell in row) for row in rows)
    return Table(tuple(header), cells, caption, kind)


class Tabular(ABC):
    """What a notebook and a terminal show as a table."""

    @abstractmethod
    def table(self) -> Table:
        """The table as it is shown."""

    def __repr__(self) -> str:
        return repr(self.table())

    def _repr_markdown_(self) -> str:
        return self.table().to_markdown()

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def _html_row(row: Sequence[str]) -> str:
    first, *rest = row
    return f'<th scope="row">{html.escape(first)}</th>' + "".join(map(_html_cell, rest))


def _html_cell(cell: str) -> str:
    if not isinstance(cell, Entry):
        return f"<td>{html.escape(cell)}</td>"
    # A mean stays with its spread where a narrow screen breaks lines.
    first, *others = (html.escape(figure).replace(" ± ", "&nbsp;±&nbsp;") for figure in cell.figures)
    records = f' data-records="{html.escape(" ".join(cell.records))}"' if cell.records else ""
    title = f' title="{html.escape(cell.hint)}"' if cell.hint else ""
    small = "".join(f"<br><small>{other}</small>" for other in others)
    return f"<td><span{records}{title}>{first}</span>{small}</td>"


_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
        "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
        ">": r"\textgreater{}", "±": r"$\pm$", "→": r"$\to$", "Δ": r"$\Delta$", "−": "$-$",
    }
)  # fmt: skip


def _latex(text: str) -> str:
    return text.translate(_LATEX)
