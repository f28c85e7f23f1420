"""What waits for who speaks of a stream: segments, questions, and saves, in order."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmworld.errors import MMWorldError
from mmworld.models.captioner import BATCH
from mmworld.models.events import Answer
from mmworld.models.segments import Piece
from mmworld.models.teller import Span

PIECES = 1024
"""Pieces that may wait to be kept; of more the oldest go."""


@dataclass(eq=False)
class Ask:
    """A question on its way, and of what it is."""

    question: str
    future: Future[Answer]
    segment: Span | None = None


@dataclass(eq=False)
class Save:
    """A snapshot on its way."""

    path: Path | str
    future: Future[None]
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Told:
    """A segment on its way, and when what ended it had come."""

    segment: Span
    came: float


class Jobs:
    """What waits for the speaker, in order; of segments at most `most`."""

    def __init__(self, most: int, *, drop: bool) -> None:
        self.dropped = 0
        self._most = most
        self._drop = drop
        self._items: deque[Any] = deque()
        self._pieces: deque[Piece] = deque(maxlen=PIECES)
        self._changed = threading.Condition()
        self._open = True

    def put(self, item: Any) -> None:
        """Add an item. With too many segments, wait, or leave out the oldest of them, first of those that go on."""
        with self._changed:
            while self._open and isinstance(item, Told) and self._told() >= self._most:
                if self._drop:
                    told = [i for i in self._items if isinstance(i, Told)]
                    oldest = next((i for i in told if not i.segment.final), told[0])
                    self._items.remove(oldest)
                    self.dropped += oldest.segment.final
                else:
                    self._changed.wait()
            self._items.append(item)
            self._changed.notify_all()

    def keep(self, piece: Piece) -> None:
        """Add a piece, which comes before all else and never waits."""
        with self._changed:
            self._pieces.append(piece)
            self._changed.notify_all()

    def take(self) -> list[Any]:
        """The pieces, or the next item; of segments as many as wait, up to a batch. [] once closed."""
        with self._changed:
            while self._open and not self._items and not self._pieces:
                self._changed.wait()
            if not self._open:
                return []
            if self._pieces:
                pieces = list(self._pieces)
                self._pieces.clear()
                return pieces
            segments = isinstance(self._items[0], Told)
            taken = [self._items.popleft()]
            while segments and len(taken) < BATCH and self._items and isinstance(self._items[0], Told):
                taken.append(self._items.popleft())
            self._changed.notify_all()
            return taken

    def close(self) -> None:
        with self._changed:
            self._open = False
            for item in self._items:
                if isinstance(item, Ask | Save):
                    item.future.cancel()
            self._changed.notify_all()

    def _told(self) -> int:
        return sum(isinstance(i, Told) for i in self._items)


def settle(future: Future[Any], make: Any) -> None:
    """Give a future its result, or its error."""
    if future.set_running_or_notify_cancel():
        try:
            future.set_result(make())
        except MMWorldError as e:
            future.set_exception(e)
