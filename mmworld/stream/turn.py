"""A lock that threads have in the order in which they come for it."""

from __future__ import annotations

import threading
from collections import deque


class Turn:
    """One thread at a time has it, within `with`. Threads that compute with many small operations at once are slower
    than one after the other, as each operation hands the interpreter over (`benchmarks/stream_live.py`)."""

    def __init__(self) -> None:
        self._line: deque[object] = deque()
        self._changed = threading.Condition()

    def __enter__(self) -> None:
        me = object()
        with self._changed:
            self._line.append(me)
            try:
                self._changed.wait_for(lambda: self._line[0] is me)
            except BaseException:
                self._line.remove(me)
                self._changed.notify_all()
                raise

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._line.popleft()
            self._changed.notify_all()

    def pass_on(self) -> None:
        """Who has it lets those who wait go first."""
        if len(self._line) > 1:
            self.__exit__()
            self.__enter__()
