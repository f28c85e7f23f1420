"""Calls of many threads, served together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

A = TypeVar("A")
R = TypeVar("R")
LINGER = 0.001
"""Seconds that those who were there the last time are waited for."""


@dataclass(eq=False)
class _Call(Generic[A, R]):
    """What one thread waits for."""

    value: A
    done: bool = False
    result: R | BaseException | None = None


class Batch(Generic[A, R]):
    """A function of many values that each of many threads calls with one: the calls that come while it runs are served
    together when it runs next (dynamic batching), with those that come right after it. Who comes alone does not wait
    for others, and no more calls wait than there are threads.

    Args:
        serve: the results for some values, in their order; an exception in the place of one is raised to whose it is,
            and one that it raises to all of them.
    """

    def __init__(self, serve: Callable[[Sequence[A]], Sequence[R | Exception]]) -> None:
        self._serve = serve
        self._calls: list[_Call[A, R]] = []
        self._busy = False
        self._together = 1  # calls that were there the last time: served, or waiting behind those
        lock = threading.Lock()
        self._changed, self._more = threading.Condition(lock), threading.Condition(lock)

    @property
    def waiting(self) -> int:
        """Calls that wait for the one that runs."""
        return len(self._calls)

    def __call__(self, value: A) -> R:
        """The result for one value."""
        mine: _Call[A, R] = _Call(value)
        with self._changed:
            self._calls.append(mine)
            if len(self._calls) >= self._together:
                self._more.notify()
            self._changed.wait_for(lambda: mine.done or not self._busy)
            if not mine.done:
                self._busy = True
                self._more.wait_for(lambda: len(self._calls) >= self._together, LINGER)
                calls, self._calls = self._calls, []
        if not mine.done:
            self._run(calls)
        if isinstance(mine.result, BaseException):
            raise mine.result
        return cast(R, mine.result)

    def _run(self, calls: Sequence[_Call[A, R]]) -> None:
        """Serve calls, and let the next ones come."""
        results: Sequence[R | BaseException]
        try:
            results = self._serve([c.value for c in calls])
        except BaseException as e:
            results = [e] * len(calls)
        with self._changed:
            self._busy = False
            self._together = len(calls) + len(self._calls)
            for call, result in zip(calls, results, strict=True):
                call.done, call.result = True, result
            self._changed.notify_all()
