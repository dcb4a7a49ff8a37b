import os
import threading
import time
from functools import partial

import pytest
import torch

from sfc.data.pool import ordered_map, threaded_map
from sfc.errors import UserError


def _slow_square(x):
    time.sleep(0.05 if x % 3 == 0 else 0)
    return x * x


def _fail(x):
    raise UserError(f"image {x}: broken")


def _die(x):
    os._exit(1)


def _threads(offset, x):
    return torch.get_num_threads() + offset


@pytest.mark.parametrize("run", [ordered_map, threaded_map])
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_results_come_in_order(run, workers):
    assert list(run(_slow_square, range(10), workers=workers)) == [x * x for x in range(10)]


@pytest.mark.parametrize("run", [ordered_map, threaded_map])
@pytest.mark.parametrize("workers", [1, 2])
def test_items_are_taken_as_needed(run, workers):
    taken = []

    def items():
        for x in range(10**9):
            taken.append(x)
            yield x

    results = run(_slow_square, items(), workers=workers)
    assert [next(results) for _ in range(3)] == [0, 1, 4]
    results.close()
    assert len(taken) <= 3 + 2 * workers


@pytest.mark.parametrize("run", [ordered_map, threaded_map])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_user_error_arrives_as_it_is(run, workers):
    with pytest.raises(UserError, match=r"^image 0: broken$"):
        list(run(_fail, range(3), workers=workers))


def test_a_killed_worker_is_an_error_not_a_hang():
    with pytest.raises(UserError, match="a worker process was killed"):
        list(ordered_map(_die, range(3), workers=2))


def test_a_place_for_sockets_that_is_too_long_is_named(monkeypatch):
    def refuse(*args, **how):
        raise OSError("AF_UNIX path too long")

    monkeypatch.setattr("sfc.data.pool.ProcessPoolExecutor.submit", refuse)
    with pytest.raises(UserError, match=r"^TMPDIR=/.*: too long for sockets; set it to a shorter path$"):
        list(ordered_map(abs, [1], workers=2))


def test_workers_have_one_thread():
    assert list(ordered_map(partial(_threads, 0), range(2), workers=2)) == [1, 1]


def test_threads_work_ahead_while_a_result_is_used():
    ahead = threading.Event()
    results = threaded_map(lambda x: ahead.set() if x else None, range(3), workers=1)
    next(results)
    assert ahead.wait(10)  # nobody has asked for the second result
    results.close()
