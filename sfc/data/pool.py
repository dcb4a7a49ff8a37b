"""One function over many items by several workers, processes or threads, in order and with bounded memory."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

import torch

from sfc.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")

_AHEAD = 2  # items in hand for each worker: enough that none waits for a slow neighbour
_function: Callable[[Any], Any]


def ordered_map(function: Callable[[Item], Result], items: Iterable[Item], *, workers: int) -> Iterator[Result]:
    """`map(function, items)` on worker processes of one thread each.

    Items are taken only as results are asked for, so `items` may be an endless or expensive iterator.

    Args:
        function: picklable; sent to each worker once, so it may carry what all items share.
        workers: processes; with 0 or 1 all runs in this one.

    Raises:
        UserError: a worker was killed; and whatever `function` raises.
    """
    if workers <= 1:
        yield from map(function, items)
        return
    # Forking this process would copy locks that torch's threads may hold; the fork server has no threads.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    pool = ProcessPoolExecutor(workers, context, initializer=_start, initargs=(function,))
    try:
        yield from _in_order(pool, _call, items, workers)
    except OSError as error:
        if "AF_UNIX path too long" not in str(error):
            raise
        raise UserError(f"TMPDIR={tempfile.gettempdir()}: too long for sockets; set it to a shorter path") from None
    except BrokenProcessPool:
        raise UserError(
            "a worker process was killed, most likely for lack of memory; use fewer workers (SFC_WORKERS)"
        ) from None


def threaded_map(function: Callable[[Item], Result], items: Iterable[Item], *, workers: int) -> Iterator[Result]:
    """As `ordered_map`, on threads of this process: for work that waits for files or leaves Python to compute.

    Images are decoded and resized so. Threads start at once and hand over their results without a copy.

    Args:
        workers: threads; with 0 all runs in this one, as it is asked for.

    Raises:
        Whatever `function` raises.
    """
    if workers < 1:
        yield from map(function, items)
        return
    yield from _in_order(ThreadPoolExecutor(workers), function, items, workers)


def _in_order(pool: Executor, function: Callable, items: Iterable, workers: int) -> Iterator:
    waiting = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= _AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _start(function: Callable) -> None:
    global _function
    _function = function
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed process cannot send its workers home; they would wait for it for ever, and the fork server for them."""
    multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


def _call(item: Any) -> Any:
    return _function(item)
