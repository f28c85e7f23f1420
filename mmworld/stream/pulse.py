"""What a thread is about, and since when: written by it at little cost, read by whoever looks whether it hangs."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


class Mark(NamedTuple):
    """One thing that is being done.

    Attributes:
        about: what of; None while there is nothing to do, or another thread is waited for.
        since: seconds on the machine's monotonic clock.
        thread: its number; 0 if nobody has come for it.
    """

    about: Any
    since: float
    thread: int


class Pulse:
    """Where one part of a stream's work stands.

    Args:
        part: a stable word for it.
    """

    def __init__(self, part: str) -> None:
        self.part = part
        self.rest()

    def at(self, about: Any, *, come: bool = True) -> None:
        """The calling thread begins with something; unless `come`, it waits for one that does."""
        self.mark = Mark(about, time.monotonic(), threading.get_ident() if come else 0)

    def rest(self) -> None:
        """Nothing is to be done."""
        self.mark = Mark(None, time.monotonic(), 0)

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Within it another thread is waited for; then what was being done goes on."""
        about = self.mark.about
        self.rest()
        yield
        self.at(about)

    def making(self, items: Iterator[T], about: Any) -> Iterator[T]:
        """The same items; while each is made, that is what is being done."""
        while True:
            self.at(about)
            try:
                item = next(items)
            except StopIteration:
                return
            finally:
                self.rest()
            yield item
