"""Tables, on the terminal and as markdown."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from .measure import Row, Spread


class Table(NamedTuple):
    """One workload's results.

    Attributes:
        values: target -> the most that it may be, in ``unit``.
        over: target -> the most that it may be over the baseline, in ``unit``.
        ratios: target -> the most that it may be as a multiple of the baseline.
    """

    title: str
    unit: str
    rows: list[Row]
    values: Mapping[str, float] = {}
    over: Mapping[str, float] = {}
    ratios: Mapping[str, float] = {}


def _cell(spread: Spread, digits: int, sign: str = "") -> str:
    low, high = f"{spread.low:{sign}.{digits}f}", f"{spread.high:{sign}.{digits}f}"
    return f"{spread.median:{sign}.{digits}f} ({low} to {high})"


def _verdict(table: Table, row: Row) -> str:
    for limits, value, form in (
        (table.values, row.value.median, "{:g}"),
        (table.over, row.over.median, "+{:g}"),
        (table.ratios, row.ratio.median, "{:g}x"),
    ):
        if row.target in limits:
            limit = limits[row.target]
            return f"{form.format(limit)} {'met' if value <= limit else 'MISSED'}"
    return ""


def markdown(table: Table) -> str:
    """Return a table as markdown, padded so that it reads well on a terminal too."""
    digits = 2 if table.unit == "us" else 1
    beside = list(dict.fromkeys(key for row in table.rows for key in row.beside))
    lines = [["target", table.unit, "over the first", "ratio", "budget", *beside]]
    for row in table.rows:
        lines.append(
            [
                row.target,
                _cell(row.value, digits),
                _cell(row.over, digits, "+"),
                _cell(row.ratio, 3),
                _verdict(table, row),
                *(f"{row.beside[key].median:,.4g}" if key in row.beside else "" for key in beside),
            ]
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    rows = (
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in lines
    )
    return "\n".join([f"## {table.title}", "", *rows, ""])


def show(tables: Iterable[Table], made: list[Table]) -> None:
    """Write each table as soon as it is there, and keep it in ``made``."""
    for table in tables:
        sys.stdout.write(markdown(table) + "\n")
        sys.stdout.flush()
        made.append(table)
