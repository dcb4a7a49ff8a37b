"""The commands of the pipeline."""

import os
import sys
import traceback

import click

from sfc.errors import UserError

_before = sys.excepthook


def debugging() -> bool:
    """Whether SFC_DEBUG asks for tracebacks; what says no is as good as nothing."""
    return os.environ.get("SFC_DEBUG", "").lower() not in ("", "0", "false", "no")


def refused_output(error: BaseException) -> str | None:
    """The line of an error that standard output raised, which names no file; None of any other error.

    What was refused is then dropped, or Python would try to write it once more at its end, and say so in its own words.
    """
    raised_by = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)][-1:]
    if not isinstance(error, OSError) or raised_by != [click.echo.__code__]:
        return None
    sys.stdout = None
    return f"standard output: cannot be written ({error.strerror}); send it elsewhere"


def _as_line(kind, error, trace) -> None:
    """What is wrong with a method is found when its file is imported, before any command can catch it.

    Imports take seconds, in which a person may press Ctrl-C; click, which says the same of it, begins after them. A
    script of one's own that imports a stage gets both. Outside of what commands catch click prints their help, too.
    """
    if issubclass(kind, KeyboardInterrupt) and not debugging():
        print("\nAborted!", file=sys.stderr)
        return
    line = str(error) if issubclass(kind, UserError) else refused_output(error)
    if line is None or debugging():
        _before(kind, error, trace)
    else:
        print(f"Error: {line}", file=sys.stderr)


sys.excepthook = _as_line

if sys.stderr is None:  # closed: the next file to be opened would take its number, and all that libraries write there
    sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - until the process ends
    os.set_inheritable(sys.stderr.fileno(), True)

try:
    os.getcwd()
except FileNotFoundError:  # without one torch ends the process, in words that nobody understands
    raise UserError("the folder you are in is gone; cd to that of the project") from None
