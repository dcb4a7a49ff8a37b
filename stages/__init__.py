"""The commands of the pipeline."""

import os
import sys

from sfc.errors import UserError

_before = sys.excepthook


def _as_line(kind, error, trace) -> None:
    """What is wrong with a method is found when its file is imported, before any command can catch it.

    Imports take seconds, in which a person may press Ctrl-C; click, which says the same of it, begins after them. A
    script of one's own that imports a stage gets both.
    """
    if issubclass(kind, UserError) and not os.environ.get("SFC_DEBUG"):
        print(f"Error: {error}", file=sys.stderr)
    elif issubclass(kind, KeyboardInterrupt) and not os.environ.get("SFC_DEBUG"):
        print("\nAborted!", file=sys.stderr)
    else:
        _before(kind, error, trace)


sys.excepthook = _as_line
