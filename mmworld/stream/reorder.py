"""Items that come a little out of order, put right: within a window of time, and bounded."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import TypeVar

T = TypeVar("T")

MOST = 4096
"""Items that are held, however many come within the window."""


def reorder(
    items: Iterable[T], time: Callable[[T], float], window: float, counts: Counter[str], most: int = MOST
) -> Iterator[T]:
    """The items in the order of their times; of equal times, in the order in which they came.

    An item is given once one has come that is `window` later, or `most` are held. One that is earlier than what was
    given is left out, and counted as "late"; that never happens to one less than `window` behind the latest, unless
    there are more than `most` within it.

    Args:
        time: of an item, in seconds.
        window: seconds.
    """
    held: list[tuple[float, int, T]] = []
    order, latest, given = count(), -math.inf, -math.inf
    for item in items:
        at = time(item)
        if at < given:
            counts["late"] += 1
            continue
        heapq.heappush(held, (at, next(order), item))
        latest = max(latest, at)
        while held[0][0] <= latest - window or len(held) > most:
            given, _, first = heapq.heappop(held)
            yield first
            if not held:
                break
    while held:
        yield heapq.heappop(held)[2]
