"""Calls served together: each has its own result or error, and those that come meanwhile go in one."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from mmworld.stream.batch import Batch


def test_what_comes_while_one_is_served_is_served_at_once() -> None:
    here, go = threading.Semaphore(0), threading.Event()
    served: list[list[int]] = []

    def serve(values: Sequence[int]) -> list[int]:
        served.append(sorted(values))
        here.release()
        assert go.wait(5)
        return [v * v for v in values]

    batch = Batch(serve)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(batch, 0)
        assert here.acquire(timeout=5)
        others = [pool.submit(batch, n) for n in range(1, 8)]
        while batch.waiting < 7:
            time.sleep(0.001)
        go.set()
        assert [first.result(5), *(o.result(5) for o in others)] == [n * n for n in range(8)]
    assert served == [[0], [1, 2, 3, 4, 5, 6, 7]]


def test_many_threads_that_call_at_random_each_have_their_own() -> None:
    batch = Batch(lambda values: [2 * v for v in values])

    def call(n: int) -> list[int]:
        return [batch(1000 * n + i) for i in range(200)]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(call, range(8))) == [[2 * (1000 * n + i) for i in range(200)] for n in range(8)]


def test_an_error_is_raised_to_whose_it_is_and_what_breaks_to_all() -> None:
    def serve(values: Sequence[int]) -> list[int | Exception]:
        if 9 in values:
            raise MemoryError("nine")
        return [ValueError(f"{v}") if v % 2 else v for v in values]

    batch = Batch(serve)
    assert batch(2) == 2
    with pytest.raises(ValueError, match="3"):
        batch(3)
    with pytest.raises(MemoryError):
        batch(9)
    assert batch(4) == 4
