"""Refusing a data set with the first several of its faults at once."""

from collections.abc import Sequence

from sfc.errors import UserError

_SHOWN = 8


def refuse(where: str, problems: Sequence[str]) -> None:
    """Raise UserError if there are problems: one on the same line, several as one line each."""
    if not problems:
        return
    if len(problems) == 1:
        raise UserError(f"{where}: {problems[0]}")
    lines = list(problems[:_SHOWN])
    if len(problems) > _SHOWN:
        lines.append(f"and {len(problems) - _SHOWN:,} more")
    raise UserError(f"{where}: {len(problems):,} problems\n  " + "\n  ".join(lines))
