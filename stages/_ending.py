"""SIGTERM and SIGHUP, by which a cluster or a terminal gives notice: clean up, keep what is done, end."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGTERM, signal.SIGHUP)
SAME = 10  # seconds in which further signals are the same notice: Slurm signals a process, and so does its torchrun


class Ended(BaseException):
    """Raised in the main thread wherever it is; no `except Exception` keeps it."""


class _Notice:
    given: signal.Signals | None = None
    at = 0.0
    deferred = False


_notice = _Notice()


def end_with_launcher() -> None:
    """Get notice when torchrun, which started this process, ends without giving any, as by SIGKILL."""
    if "TORCHELASTIC_RUN_ID" in os.environ and hasattr(ctypes.CDLL(None), "prctl"):  # Linux
        parent_death_signal = 1  # of linux/prctl.h
        ctypes.CDLL(None).prctl(parent_death_signal, signal.SIGTERM)


@contextmanager
def ending_on_notice() -> Iterator[None]:
    """Raise `Ended` on notice while the block runs. One that is ignored, as under nohup, stays ignored."""
    _notice.given, _notice.deferred = None, False
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    taken = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    for number in taken:
        signal.signal(number, _take)
    try:
        yield
    finally:
        for number, handler in taken.items():
            signal.signal(number, handler)


@contextmanager
def notice_deferred() -> Iterator[Callable[[], bool]]:
    """Only take note of notice while the block runs; yields what says whether it has come."""
    _notice.deferred = True
    try:
        yield lambda: _notice.given is not None
    finally:
        _notice.deferred = False


def notice() -> signal.Signals | None:
    """The signal that has come, if one has."""
    return _notice.given


def _take(number: int, frame) -> None:
    now, first = time.monotonic(), _notice.given is None
    if first:
        _notice.given, _notice.at = signal.Signals(number), now
    if not _notice.deferred and (first or now - _notice.at > SAME):
        raise Ended
