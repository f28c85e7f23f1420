"""One stream through a session, cut into segments as the policy says."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from mmworld.models.session import Block, Session
from mmworld.nn.state import KVState
from mmworld.stream.policy import TICK, Judge
from mmworld.types import Chunk, Gap

HELD = 64
"""Blocks that may wait for the backbone, which reads many as fast as one; the end of a segment waits for none."""


@dataclass(frozen=True, eq=False)
class Segment:
    """What the backbone has read of [start, end) seconds, and of nothing before."""

    start: float
    end: float
    context: KVState


class Segments:
    """Takes chunks, gives segments. What ended by a segment's end is in it, whatever the chunks were.

    Args:
        session: fresh.
        judge: says when a segment ends.
    """

    def __init__(self, session: Session, judge: Judge) -> None:
        self._session, self._judge = session, judge
        self._start = -math.inf  # of the segment
        self._seen = -math.inf  # end of the last block in it
        self._filled = self._spoken = False
        self._held: list[Block] = []
        self._last: dict[str, Chunk] = {}

    def take(self, chunk: Chunk) -> Iterator[Segment]:
        """The segments that the next chunk ends."""
        self._session.feed(chunk)
        self._last[chunk.modality] = chunk
        yield from self._advance()

    def skip(self, gap: Gap) -> Iterator[Segment]:
        """The segments that a gap ends, which is a part of the time of the segment in which it lies."""
        self._session.skip(gap)
        yield from self._advance()

    def finish(self) -> Iterator[Segment]:
        """The segment of the rest; streams that have not been marked as ended end here."""
        for name, stream in self._session.streams.items():
            if stream.open and name in self._last:
                last = self._last[name]
                yield from self.take(replace(last, data=last.data[:0], start=last.end, last=True))
            elif stream.open:
                self._session.close(name)
                yield from self._advance()

    def _advance(self) -> Iterator[Segment]:
        session = self._session
        if session.done == -math.inf:
            return
        if self._start == -math.inf:
            self._begin(session.begin)
        while True:
            due = self._judge.due
            yield from self._enter(session.due(due))
            if self._judge.due != due:
                continue
            if session.done < due - TICK:
                return
            if session.ended and session.clock <= due + TICK:
                yield from self._enter(session.due())  # a last block may end later than its stream
                yield from self._rest(session.clock if session.clock < due - TICK else due)
                return
            if self._filled:
                yield from self._speak(due)
            elif (block := session.next) is not None:
                self._start = self._judge.restart(block.start, block.end)
            else:
                return

    def _enter(self, blocks: Sequence[Block]) -> Iterator[Segment]:
        ready: list[Block] = []
        for block in blocks:
            changed = self._judge.changed(block.modality, block.tokens.x, block.end)
            if changed and (ready or self._filled):
                self._put(ready)
                yield from self._speak(min(self._seen, self._session.clock))
                ready = []
            ready.append(block)
            self._seen = block.end
        self._put(ready)

    def _put(self, blocks: Sequence[Block], most: int = HELD) -> None:
        self._filled = self._filled or bool(blocks)
        self._held += blocks
        if len(self._held) > most:
            self._session.enter(self._held)
            self._held = []

    def _rest(self, now: float) -> Iterator[Segment]:
        if self._filled and (not self._spoken or now - self._start >= self._judge.least):
            yield from self._speak(max(now, self._start))
        self._filled = False

    def _speak(self, now: float) -> Iterator[Segment]:
        """End the segment at `now`."""
        self._put([], most=0)
        yield Segment(self._start, now, self._session.context)
        self._session.clear(now)
        self._filled, self._spoken = False, True
        self._begin(now)

    def _begin(self, now: float) -> None:
        self._start = now
        self._judge.restart(now, now + 2 * TICK)
