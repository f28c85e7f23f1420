"""A live source's items on a clock that goes on: holes are marked, and a clock that was set back is moved."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace

from mmworld.stream.again import HOLE
from mmworld.types import Chunk, Gap

BACK = 1.0
"""Seconds by which items must lie behind, and for which they must go on so, before it is the clock that was set back
and not they that are late.
"""


@dataclass(slots=True)
class _Clock:
    """One modality's.

    Attributes:
        end: of the latest item, seconds.
        shift: seconds by which items are moved.
        back: start of the first of a run of items that lie behind; inf: none.
        slack: seconds of holes too small to be marked, since the last that was.
    """

    end: float = -math.inf
    shift: float = 0.0
    back: float = math.inf
    slack: float = 0.0

    def move(self, start: float, lasts: float) -> float:
        """The start of the next item, of so many seconds, on a clock that goes on."""
        start += self.shift
        if start >= self.end or (self.back == math.inf and start > self.end - BACK):
            self.back = math.inf
            return start
        if start <= self.back or start + lasts < self.back + BACK:
            self.back = min(self.back, start)
            return start
        moved = self.end - self.back
        self.shift, self.back = self.shift + moved, math.inf
        return start + moved

    def hole(self, start: float) -> bool:
        """Whether there is one between the latest item and the next that is to be marked."""
        self.slack += max(start - self.end, 0.0) if self.end > -math.inf else 0.0
        if self.slack <= HOLE:
            return False
        self.slack = 0.0
        return True


def unbroken(items: Iterable[Chunk | Gap], name: str) -> Generator[Chunk | Gap, None, None]:
    """The items of a live source, a gap ("missing") where nothing came between two of one modality.

    Items that lie behind are given as they are: what takes them counts them as late. Once they have gone on for `BACK`
    seconds, the sender's clock was set back: what follows is moved as if the first of them stood where the clock was.

    Args:
        name: of the source.
    """
    clocks: dict[str, _Clock] = {}
    with closing(items) if isinstance(items, Generator) else nullcontext():
        for item in items:
            clock = clocks.setdefault(item.modality, _Clock())
            start = clock.move(item.start, lasts := item.end - item.start)
            if start != item.start:
                item = replace(item, start=start, end=start + lasts)
            if clock.hole(start):
                yield Gap(clock.end, start, item.modality, "missing", name)
            clock.end = max(clock.end, item.end)
            yield item
