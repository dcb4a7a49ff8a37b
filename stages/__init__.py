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
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    if not isinstance(error, OSError) or not frames or frames[-1].f_code is not click.echo.__code__:
        return None
    if frames[-1].f_locals.get("err"):
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

for _number in (0, 1, 2):  # what is closed: the next file to be opened would take its number, and all that goes there
    try:
        os.fstat(_number)
    except OSError:
        os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # takes the lowest number that is free, this one
if sys.stderr is None:
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - until the process ends

try:
    os.getcwd()
except OSError as error:  # without one torch ends the process, in words that nobody understands
    raise UserError(f"the folder you are in is gone or closed to you ({error.strerror}); cd to another") from None
