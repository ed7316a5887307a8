"""Small tables for a notebook, a page and a terminal."""

import html
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """A small table that a notebook, a page and a terminal each show in their own way."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str

    def _repr_html_(self) -> str:
        head = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in self.header)
        body = "".join(f"<tr>{_html_row(row)}</tr>" for row in self.rows)
        return (
            f'<table class="kdlib-table"><caption>{html.escape(self.caption)}</caption>'
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        )

    def _repr_markdown_(self) -> str:
        lines = [self.header, ("---",) * len(self.header), *self.rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines) + f"\n\n{self.caption}\n"

    def __repr__(self) -> str:
        widths = [max(map(len, column)) for column in zip(self.header, *self.rows, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in (self.header, *self.rows)
        ]
        return "\n".join([self.caption, *lines])


def table(header: Sequence[str], rows: Sequence[Sequence[object]], caption: str) -> Table:
    """A table of anything that can be written as text.

    Raises:
        ValueError: a row has more or fewer cells than the header.
    """
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"the row {list(row)} has {len(row)} cells, and the header {len(header)}.")
    return Table(tuple(header), tuple(tuple(str(cell) for cell in row) for row in rows), caption)


def _html_row(row: Sequence[str]) -> str:
    first, *rest = row
    return f'<th scope="row">{html.escape(first)}</th>' + "".join(
        f"<td>{html.escape(cell)}</td>" for cell in rest
    )
