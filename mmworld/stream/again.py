"""A source that may fail and come back: connected anew with growing pauses, each outage marked as a gap."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from mmworld.errors import MediaError, SourceError
from mmworld.types import Chunk, Gap

HOLE = 0.05
"""Seconds that may lie between two chunks of one stream across a connection without a gap."""


@dataclass(frozen=True)
class Backoff:
    """How long to wait before a connection is tried again: `first` seconds, then twice as long each time up to `most`,
    each up to half shorter by chance, so that many who lost one server do not come back at once.

    Attributes:
        tries: in a row without a single chunk, after which the source counts as gone for good; None never gives up.
    """

    first: float = 1.0
    most: float = 30.0
    tries: int | None = None

    def pause(self, failures: int, rng: random.Random) -> float:
        """Seconds to wait after so many failures in a row, at least 1."""
        return min(self.most, self.first * 2.0 ** min(failures - 1, 60)) * (1 - rng.random() / 2)


def again(
    connect: Callable[[], Iterable[Chunk | Gap]],
    name: str,
    modalities: Sequence[str],
    *,
    backoff: Backoff = Backoff(),
    left: float = 0.0,
    away: float = 0.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
    seed: int | None = None,
) -> Iterator[Chunk | Gap]:
    """What `connect()` gives, and once that ends or fails, what it gives when called again, on one clock.

    The clock is the machine's, from now on: each connection's own times count from when its first chunk came. What lies
    between two connections is a gap of every modality, beside the gaps that a connection tells of itself.

    Args:
        left: seconds at which the streams were left; they go on `away` seconds later, a gap between.
        clock, sleep: of the machine, in seconds; monotonic, so that a step of the wall clock is of no account.
        seed: of the pauses' chance.

    Raises:
        SourceError: `backoff.tries` connections in a row gave nothing; it says why the last did not.
    """
    rng, begun = random.Random(seed), clock() - left - away
    ends = dict.fromkeys(modalities, left)
    failures = 0
    while True:
        reason: Exception | None = None
        try:
            for item in _placed(connect(), ends, name, lambda: clock() - begun):
                failures = 0
                yield item
        except (MediaError, OSError) as e:  # also what was cut before it could be made out, or is too broken
            reason = e
        failures += 1
        if backoff.tries is not None and failures >= backoff.tries:
            raise SourceError(
                "network", f"{name}: gone, {failures} connections in a row gave nothing: {reason or 'end'}"
            )
        sleep(backoff.pause(failures, rng))


def _placed(
    chunks: Iterable[Chunk | Gap], ends: dict[str, float], name: str, now: Callable[[], float]
) -> Iterator[Chunk | Gap]:
    """The chunks of one connection on the common clock, after the gap since the last one."""
    shift: float | None = None
    fresh = set(ends)
    for chunk in chunks:
        if shift is None:
            shift = max(max(ends.values()), now() - (chunk.end - chunk.start)) - chunk.start
        moved = replace(chunk, start=chunk.start + shift, end=chunk.end + shift)
        if isinstance(moved, Chunk):
            moved = replace(moved, last=False)
        before = ends.get(chunk.modality, 0.0)
        if chunk.modality in fresh and isinstance(chunk, Chunk) and len(chunk.data):
            fresh.discard(chunk.modality)
            if moved.start > before + HOLE and before > 0.0:
                yield Gap(before, moved.start, chunk.modality, "outage", name)
        ends[chunk.modality] = max(before, moved.end)
        yield moved
