"""Tables that stand in README.md and in docs/figures.md say the same."""

from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def tables(name: str) -> dict[str, list[str]]:
    """The lines of each table by its head."""
    found, lines = {}, (ROOT / name).read_text().splitlines()
    for head, rule in pairwise(lines):
        if rule.startswith("|--"):
            rows = lines[lines.index(head) :]
            end = next((i for i, line in enumerate(rows) if not line.startswith("|")), len(rows))
            found[head] = rows[:end]
    return found


@pytest.mark.parametrize("of", ["| method | photographs", "| demo data"])
def test_tables_that_stand_twice_are_alike(of):
    short, full = tables("README.md"), tables("docs/figures.md")
    (head,) = [head for head in short if head.startswith(of)]
    assert short[head] == full[head]
    assert len(full[head]) > 6
