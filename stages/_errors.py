"""Whatever a command raises as one line: what is wrong, where, what to do. SFC_DEBUG=1 shows the traceback, too."""

from __future__ import annotations

import errno
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from sfc.errors import UserError
from sfc.memory import out_of_memory
from sfc.storage import storage_error, storage_line
from stages import debugging, refused_output

ROOT = Path(__file__).resolve().parents[1]
LONGEST = 5_000  # characters of a line: more than any path has
NO_SHARED_MEMORY = ("shared memory", "Bus error", "</torch_")
GONE = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "recvValue failed", "NCCL")


@contextmanager
def errors_as_lines(memory_hint: str = "") -> Iterator[None]:
    """Turn every exception into click's one line and exit code 1; what click raises itself passes.

    Args:
        memory_hint: what to lower where memory runs out.
    """
    try:
        yield
    except click.exceptions.Exit:
        raise
    except (click.ClickException, click.Abort):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.EPIPE:
            raise  # whoever read our output has left: click ends without a word
        if debugging():
            _show(error)
        traceback.clear_frames(error.__traceback__)  # which ends progress bars, whose line the error's would go on
        raise click.ClickException("\n".join(map(_fitting, one_line(error, memory_hint).split("\n")))) from None


def _show(error: BaseException) -> None:
    """The traceback, with what led to it, which `raise ... from None` keeps from a person who did not ask."""
    part, seen = error, set()
    while part is not None and id(part) not in seen:
        seen.add(id(part))
        part.__suppress_context__ = False
        part = part.__cause__ or part.__context__
    traceback.print_exception(error)


def one_line(error: Exception, memory_hint: str = "") -> str:
    """What an error means to the person who ran the command."""
    if isinstance(error, UserError):
        return str(error)
    if said := refused_output(error):
        return said
    said = " ".join(str(error).split())
    if refused := storage_error(error):
        return storage_line(refused, refused.filename or Path.cwd())
    if any(word in said for word in NO_SHARED_MEMORY):
        return (
            "the processes that decode images ran out of shared memory (/dev/shm); give the container more of it "
            "(--shm-size), or decode in one process by SFC_WORKERS=0"
        )
    if "DataLoader worker (pid" in said:
        return (
            "a process that decodes images was killed, most likely for lack of memory; set SFC_WORKERS to fewer"
            f"{f', or lower {memory_hint}' if memory_hint else ''}"
        )
    if out_of_memory(error):
        return f"out of memory; lower {memory_hint or 'the size of what is read'}"
    if _lost_touch(error, said):
        return f"the processes of this stage lost touch ({_short(said)}); the line of the one that ended first says why"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror or said}"
    return (
        f"unexpected {type(error).__name__} at {_place(error)}: {_short(said)}; this is a fault of the program "
        "or a damaged file: SFC_DEBUG=1 shows the traceback"
    )


def _lost_touch(error: Exception, said: str) -> bool:
    dist = sys.modules.get("torch.distributed")  # where it was never imported this process belongs to no group
    if dist is None:
        return False
    return isinstance(error, dist.DistError) or (dist.is_initialized() and any(word in said for word in GONE))


def _fitting(line: str) -> str:
    """Names in bad input may have any length; where it lies stands first and what to do last."""
    return line if len(line) <= LONGEST else f"{line[: LONGEST * 2 // 3]} ... {line[-LONGEST // 3 :]}"


def _short(said: str) -> str:
    return said if len(said) <= 200 else f"{said[:200]}..."


def _place(error: Exception) -> str:
    """The last line of this project that the error passed."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).is_relative_to(ROOT)]
    if not frames:
        return "an unknown place"
    return f"{Path(frames[-1].filename).relative_to(ROOT)}:{frames[-1].lineno}"
