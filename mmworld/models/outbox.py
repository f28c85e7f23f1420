"""Events on their way to who reads them: bounded, in order, and counted once they are dealt with."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from mmworld.models.events import Count, Event, Stall, plain, repeats
from mmworld.stream.pulse import Pulse

ROOM = 1024
"""Events that may wait."""
POLL = 0.2
"""Seconds after which who reads, which may be the main thread, looks up: on Windows Ctrl-C does not end its waiting."""


class Outbox:
    """A queue of events. An event is dealt with when its reader comes for the next one: who turns away before, or is
    killed and goes on from a saved state, has it again, so that none is lost.

    Args:
        count: what was dealt with before.
        waiting: what was told then, and not dealt with.

    Attributes:
        pulse: of who reads.
    """

    def __init__(self, count: Count, waiting: Iterable[Event] = ()) -> None:
        self._count = count
        self._items: deque[Event | BaseException | None] = deque(waiting)
        self._changed = threading.Condition()
        self._open = True
        self.pulse = Pulse("consumer")
        if self._items:
            self._awaits(self._items[0])

    def put(self, event: Event | BaseException | None) -> None:
        """Add an event, an error that is raised in its place, or None for the end; waits for room."""
        with self._changed:
            while self._open and len(self._items) >= ROOM:
                self._changed.wait()
            self._add(event)

    def offer(self, stall: Stall) -> None:
        """Add it if there is room."""
        with self._changed:
            if len(self._items) < ROOM:
                self._add(stall)

    def __iter__(self) -> Iterator[Event]:
        """The events, until the end or `close`."""
        while (event := self._first()) is not None:
            if isinstance(event, BaseException):
                raise event
            yield event
            self._dealt(event)

    def leaves(self) -> dict[str, Any]:
        """What was dealt with and what was not, as JSON takes it; those that no run says again left out."""
        with self._changed:
            waiting = [plain(e) for e in self._items if repeats(e)]  # type: ignore[arg-type]
            return {**asdict(self._count), "untold": waiting}

    def close(self) -> None:
        with self._changed:
            self._open = False
            self._changed.notify_all()

    def _add(self, event: Event | BaseException | None) -> None:
        self._awaits(event)
        self._items.append(event)
        self._changed.notify_all()

    def _awaits(self, event: Event | BaseException | None) -> None:
        """Who reads is awaited from the first event on."""
        if self.pulse.mark.about is None and event is not None and not isinstance(event, BaseException | Stall):
            self.pulse.at(type(event).__name__, come=False)

    def _first(self) -> Event | BaseException | None:
        with self._changed:
            while self._open and not self._items:
                self.pulse.rest()
                self._changed.wait(POLL)
            event = self._items[0] if self._open else None
            if event is None or isinstance(event, BaseException):
                self.pulse.rest()
            else:
                self.pulse.at(type(event).__name__)
            return event

    def _dealt(self, event: Event) -> None:
        with self._changed:
            self._items.popleft()
            self._count = self._count.with_(event)
            self._changed.notify_all()
