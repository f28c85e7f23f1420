"""One stream through a session, cut into segments as the policy says."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmworld.models import snapshot
from mmworld.models.session import NO_BLOCK, Block, Session
from mmworld.nn.state import KVState
from mmworld.stream.policy import TICK, Judge
from mmworld.types import Chunk, Gap

HELD = 64
"""Blocks that may wait for the backbone, which reads many as fast as one; the end of a segment waits for none."""
PIECE, MOST = 10.0, 1024
"""Seconds and blocks of a piece, at most."""


@dataclass(frozen=True, eq=False)
class Segment:
    """[start, end) seconds, and what the backbone has read by their end; one that is not `final` goes on."""

    start: float
    end: float
    context: KVState
    final: bool = True

    @property
    def empty(self) -> bool:
        """Whether there is nothing in it."""
        return not len(self.context)


@dataclass(frozen=True, eq=False)
class Piece:
    """[start, end) seconds of what was perceived, of one segment, as it goes by."""

    start: float
    end: float
    blocks: tuple[Block, ...]


@dataclass
class Progress:
    """Where the cutting stands.

    Attributes:
        start: of the segment.
        seen: end of the last block in it.
        filled: there is something in it.
        spoken: there was a segment before.
        told: times at which it was given before its end.
    """

    start: float = -math.inf
    seen: float = -math.inf
    filled: bool = False
    spoken: bool = False
    told: int = 0


class Segments:
    """Takes chunks, gives segments. What ended by a segment's end is in it, whatever the chunks were.

    Args:
        session: fresh.
        judge: says when a segment ends.
        rolling: a segment's context is all that the session's window holds, not what came in the segment alone.

    Attributes:
        provisional: seconds, every so many of which a segment is given as it is by then, too; inf: only at its end.
        passing: is shown each piece of what was perceived, before the segment that ends with it.
    """

    def __init__(self, session: Session, judge: Judge, *, rolling: bool = False) -> None:
        self.session, self._judge, self._rolling = session, judge, rolling
        self.provisional = math.inf
        self.passing: Callable[[Piece], object] | None = None
        self._at = Progress()
        self._held: list[Block] = []
        self._piece: list[Block] = []
        self._passed = -math.inf  # end of the last piece

    @property
    def clock(self) -> float:
        """Seconds up to which every stream has been received; -inf before all have begun."""
        return self.session.clock

    @property
    def nbytes(self) -> int:
        """Bytes of tensors held."""
        return self.session.nbytes

    @property
    def tokens(self) -> dict[str, tuple[int, int]]:
        """Of each stream, how many tokens its encoder made, and how many of them went on."""
        return {n: (s.given, s.kept) for n, s in self.session.streams.items()}

    @property
    def open(self) -> frozenset[str]:
        """The streams of which chunks may still come."""
        return frozenset(n for n, s in self.session.streams.items() if s.open)

    def take(self, item: Chunk | Gap) -> Iterator[Segment]:
        """The segments that the next chunk ends, or the next gap, which is a part of the time in which it lies."""
        if isinstance(item, Gap):
            self.session.skip(item)
        else:
            self.session.feed(item)
        self._hear(item)
        yield from self._advance()

    def close(self, name: str) -> Iterator[Segment]:
        """The segments that end as the stream `name` does."""
        stream = self.session.streams[name]
        if stream.open:
            if stream.empty is not None:
                self._hear(Chunk(stream.empty, stream.clock, stream.clock, name, last=True))
            self.session.close(name)
            yield from self._advance()

    def finish(self) -> Iterator[Segment]:
        """The segment of the rest; streams that have not been marked as ended end here."""
        for name in self.session.streams:
            yield from self.close(name)

    def now(self) -> Segment:
        """What has been perceived of the segment so far; listening goes on undisturbed."""
        fork = self.session.fork()
        fork.enter(self._held)
        if self._at.start == -math.inf:
            return Segment(0.0, 0.0, fork.context)
        return Segment(self._at.start, max(self._at.start, fork.clock), fork.context)

    def leaves(self) -> dict[str, Any]:
        """All that is remembered, by name."""
        own = snapshot.leaves(self._at, "at") | snapshot.leaves(self._judge, "judge") | {"held": len(self._held)}
        for i, block in enumerate(self._held):
            own |= snapshot.leaves(block, f"held.{i}")
        if self.passing is not None:
            own |= {"piece": len(self._piece), "passed": self._passed}
            for i, block in enumerate(self._piece):
                own |= snapshot.leaves(block, f"piece.{i}")
        return own | self.session.leaves()

    @classmethod
    def restored(cls, session: Session, judge: Judge, values: Mapping[str, Any], *, rolling: bool = False) -> Segments:
        """Those whose `leaves` these are, to go on; `judge` is a fresh one of the same policy."""
        self = cls(session, snapshot.restore(judge, values, "judge"), rolling=rolling)
        self._at = snapshot.restore(self._at, values, "at")
        values = snapshot.on(values, session.world.embedding.device)
        self._held = [snapshot.restore(NO_BLOCK, values, f"held.{i}") for i in range(values["held"])]
        self._piece = [snapshot.restore(NO_BLOCK, values, f"piece.{i}") for i in range(values.get("piece", 0))]
        self._passed = values.get("passed", -math.inf)
        return self

    def _hear(self, item: Chunk | Gap) -> None:
        adapter: Any = self.session.world.adapters[item.modality]
        self._judge.hear(item, adapter.rate)

    def _advance(self) -> Iterator[Segment]:
        session = self.session
        if session.done == -math.inf:
            return
        if self._at.start == -math.inf:
            self._begin(session.begin)
        while True:
            end, due = self._judge.due, self._due
            yield from self._enter(self._coming(due))
            if (self._judge.due, self._due) != (end, due):
                continue
            if session.done < due - TICK:
                return
            if session.ended and session.clock <= due + TICK:
                yield from self._enter(session.due())  # a last block may end later than its stream
                yield from self._rest(session.clock if session.clock < end - TICK else end)
                return
            if session.clock <= due + TICK and (due < end or session.left):
                return  # the stream may end here, and then the segment does
            if due < end:
                yield from self._so_far(due, end)
            elif self._at.filled:
                yield from self._speak(due)
            elif (block := session.next) is not None:
                self._at.start, self._at.told = self._judge.restart(block.start, block.end), 0
            else:
                return

    @property
    def _due(self) -> float:
        """When the segment is given next, at its end or before."""
        return min(self._judge.due, self._at.start + (self._at.told + 1) * self.provisional)

    def _coming(self, until: float) -> Iterator[Block]:
        """The blocks that end by `until`, one by one, as each may have the judge speak before the next."""
        while blocks := self.session.due(min(until, self._judge.due), most=1):
            yield from blocks

    def _enter(self, blocks: Iterable[Block]) -> Iterator[Segment]:
        ready: list[Block] = []
        for block in blocks:
            changed = self._judge.changed(block.modality, block.tokens.x, block.end)
            if changed and (ready or self._at.filled):
                self._put(ready)
                yield from self._speak(min(self._at.seen, self.session.clock))
                ready = []
            ready.append(block)
            self._at.seen = block.end
        self._put(ready)

    def _put(self, blocks: Sequence[Block], most: int = HELD) -> None:
        self._at.filled = self._at.filled or bool(blocks)
        self._held += blocks
        if self.passing is not None:
            self._gather(blocks)
        if len(self._held) > most:
            self.session.enter(self._held)
            self._held = []

    def _gather(self, blocks: Sequence[Block]) -> None:
        for block in blocks:
            if self._piece and (block.end > self._since + PIECE + TICK or len(self._piece) == MOST):
                self._pass(self._piece[-1].end)
            self._piece.append(block)

    @property
    def _since(self) -> float:
        """When the piece begins: with its segment, or where the one before it ended."""
        if self._passed <= self._at.start:
            return self._at.start
        return max(self._passed, min(b.start for b in self._piece))

    def _pass(self, end: float) -> None:
        """What is gathered is a piece that ends there."""
        if self._piece and self.passing is not None:
            start, self._passed = self._since, end
            self.passing(Piece(start, max(start, end), tuple(self._piece)))
        self._piece = []

    def _rest(self, now: float) -> Iterator[Segment]:
        asked = self._judge.least < math.inf
        if self._at.filled and asked and (not self._at.spoken or now - self._at.start >= self._judge.least):
            yield from self._speak(max(now, self._at.start))
        self._pass(max(now, self._at.start))
        self._at.filled = False

    def _so_far(self, now: float, end: float) -> Iterator[Segment]:
        """The segment as it is at `now`; it goes on to `end`, or to where the judge ends it before."""
        self._at.told += 1
        if self._at.filled and now < end - TICK:
            self._put([], most=0)
            yield Segment(self._at.start, now, self.session.context.fork(), final=False)

    def _speak(self, now: float) -> Iterator[Segment]:
        """End the segment at `now`."""
        self._put([], most=0)
        self._pass(now)
        yield Segment(self._at.start, now, self.session.context.fork())
        if not self._rolling:
            self.session.clear(now)
        self._at.filled, self._at.spoken = False, True
        self._begin(now)

    def _begin(self, now: float) -> None:
        self._at.start, self._at.told = now, 0
        self._judge.restart(now, now + 2 * TICK)
