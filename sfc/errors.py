"""The error a user can mend."""

import difflib
from collections.abc import Iterable, Sequence

_SHOWN = 8


class UserError(ValueError):
    """Bad input: the message says in one line what is wrong, where (file, id, param) and what to do.

    Stages print it without a traceback and exit with status 1.
    """


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


def nearest(name: str, known: Iterable[str], *, otherwise: str = "", prefix: str = "") -> str:
    """How an error about a name that is not known ends: with the name that was meant, else with `otherwise` if given.

    Args:
        prefix: stands before the names where the user writes them.
    """
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    hint = f"did you mean {prefix}{close[0]}?" if close else otherwise
    return f"; {hint}" if hint else ""
