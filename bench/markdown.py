"""Tables of the benchmarks as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def row(cells: Iterable[str]) -> str:
    """One line of a table."""
    return f"| {' | '.join(cells)} |"


def head(columns: Sequence[str]) -> str:
    """The names of the columns, and the line that parts them from the rows."""
    return f"{row(columns)}\n{row(['--'] * len(columns))}"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A whole table."""
    return "\n".join([head(columns), *map(row, rows)])
