"""One stream as a borrowed model is shown it: frames and sound, held until a segment has ended, and bounded."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from mmworld.errors import LimitError, UsageError
from mmworld.models import pieces, snapshot
from mmworld.models.looking import film
from mmworld.models.message import RATE
from mmworld.models.pieces import frames, joined, runs, until
from mmworld.stream.policy import TICK, Judge
from mmworld.stream.spread import Spread
from mmworld.types import Chunk, Gap, Takes

SPARE = 4
"""Frames kept of a segment for each that is shown, so that those shown lie evenly in it."""
LONGEST = 600.0
"""Seconds of a segment with sound, at most, whatever the model takes."""
WAITING = 1 << 30
"""Bytes that may wait for a stream that lags behind."""
HALF = 0.5 / RATE
"""Seconds of half a sample: what is nearer to an end begins there."""
THUMB = 8
"""Side of the picture by which a change is seen."""


@dataclass(frozen=True, eq=False)
class Scene:
    """[start, end) seconds, and what a message shows of them."""

    start: float
    end: float
    parts: tuple[Chunk, ...]
    final: bool = True

    @property
    def empty(self) -> bool:
        """Whether there is nothing in it."""
        return not self.parts


@dataclass
class Stand:
    """Where the cutting stands.

    Attributes:
        start: of the segment that has begun; None between two.
        told: end of the one before.
        seen: end of the last thing that came.
    """

    start: float | None = None
    told: float = -math.inf
    seen: float = -math.inf


class Scenes:
    """Takes chunks, gives segments that tile the time, none longer than the model takes.

    A frame is of the segment in which it begins; sound is cut where a segment ends. What has come waits until every
    open stream has passed it, so that neither the chunks nor which stream arrives first change what is shown.

    Args:
        takes: what the model can be shown, which bounds what is held: `SPARE * takes.frames` frames, `takes.seconds` of
            sound, `LONGEST` at most.
        modalities: of the streams that will come: video uint8 [T, 3, H, W], its frames evenly spread over the chunk;
            image uint8 [1, 3, H, W]; audio float32 [S, 1] of `RATE` samples a second; points float32 [P, 3 + F].
        judge: says when a segment ends.
    """

    def __init__(self, takes: Takes, modalities: Sequence[str], judge: Judge) -> None:
        self._takes, self._judge = takes, judge
        self._limit = min(takes.seconds, LONGEST if "audio" in modalities else math.inf)
        self._clocks = dict.fromkeys(modalities, -math.inf)
        self._open = frozenset(modalities)  # replaced, never changed: other threads read it
        self._at = Stand()
        self._shown: dict[str, Spread[Tensor]] = {}
        self._waiting: list[Chunk] = []
        self._sound: list[Chunk] = []  # one that is marked as the last has a gap after it
        self._behind = 0  # bytes of these and of what waits
        self._clear()

    @property
    def provisional(self) -> float:
        """Seconds, every so many of which a segment is given as it is by then, too: never; UsageError for others."""
        return math.inf

    @provisional.setter
    def provisional(self, seconds: float) -> None:
        if seconds < math.inf:
            raise UsageError("a borrowed model tells nothing provisional", hint="leave out --provisional")

    @property
    def tokens(self) -> dict[str, tuple[int, int]]:
        """Of none: what is held are frames and sound."""
        return {}

    @property
    def open(self) -> frozenset[str]:
        """The streams of which chunks may still come."""
        return self._open

    @property
    def clock(self) -> float:
        """Seconds up to which every stream has been received; -inf before all have begun."""
        return min((self._clocks[n] for n in self._open), default=max(self._clocks.values()))

    @property
    def nbytes(self) -> int:
        """Bytes of frames and sound held."""
        return sum(map(snapshot.nbytes, self._shown.values())) + self._behind

    def take(self, item: Chunk | Gap) -> Iterator[Scene]:
        """The segments that the next chunk ends, or the next gap, across which no sound is joined.

        Raises:
            UsageError: its modality was not announced, or has ended.
            LimitError: another stream lags so far behind that more than WAITING bytes wait for it.
        """
        if item.modality not in self._open:
            known = "that stream has ended" if item.modality in self._clocks else f"wanted is {', '.join(self._clocks)}"
            raise UsageError(f"{item!r}: {known}")
        self._judge.hear(item, RATE if item.modality == "audio" else None)
        self._clocks[item.modality] = max(self._clocks[item.modality], item.end)
        if isinstance(item, Gap):
            if item.modality == "audio" and self._sound:
                self._sound[-1] = replace(self._sound[-1], last=True)
        else:
            self._add(item)
        yield from self._advance()
        if self._behind > WAITING:
            slow = min(self._open, key=lambda n: self._clocks[n])
            hint = "give the chunks of all streams in the order of their ends"
            raise LimitError("waiting", f"{self._behind >> 20} MiB wait for the stream {slow!r}", hint=hint)

    def close(self, name: str) -> Iterator[Scene]:
        """The segments that end as the stream `name` does."""
        if name in self._open:
            self._open -= {name}
            yield from self._advance()

    def finish(self) -> Iterator[Scene]:
        """The segment of the rest; streams that have not been marked as ended end here."""
        for name in self._clocks:
            yield from self.close(name)

    def now(self) -> Scene:
        """What there is of the segment so far."""
        if self._at.start is None:
            now = max(self._at.told, 0.0)
            return Scene(now, now, ())
        return self._scene(self._at.start, max(self._at.start, self.clock), until(self._sound, self.clock)[0])

    def leaves(self) -> dict[str, Any]:
        """All that is remembered, by name."""
        own = {"modalities": list(self._clocks), "clocks": list(self._clocks.values()), "open": sorted(self._open)}
        own |= snapshot.leaves(self._at, "at") | snapshot.leaves(self._judge, "judge")
        own |= snapshot.leaves(self._shown, "shown")
        self._sound = list(runs(self._sound))
        return own | pieces.leaves(self._waiting, "waiting") | pieces.leaves(self._sound, "sound")

    @classmethod
    def restored(cls, takes: Takes, judge: Judge, values: Mapping[str, Any]) -> Scenes:
        """Those whose `leaves` these are, to go on; `judge` is a fresh one of the same policy."""
        self = cls(takes, values["modalities"], snapshot.restore(judge, values, "judge"))
        self._clocks = dict(zip(values["modalities"], values["clocks"], strict=True))
        self._open = frozenset(values["open"])
        self._at = snapshot.restore(self._at, values, "at")
        self._shown = {n: snapshot.restore(s, values, f"shown.{n}") for n, s in self._shown.items()}
        self._waiting, self._sound = pieces.restored(values, "waiting"), pieces.restored(values, "sound")
        self._behind = _nbytes(self._waiting) + _nbytes(self._sound)
        return self

    def _add(self, chunk: Chunk) -> None:
        if len(chunk.data):
            self._at.seen = max(self._at.seen, chunk.end)
            self._behind += chunk.data.nbytes
            if chunk.modality == "audio":
                self._sound.append(replace(chunk, last=False))
            else:
                self._waiting += frames(chunk)
                self._waiting.sort(key=lambda c: (c.start, c.modality != "video"))
        if chunk.last:
            self._open -= {chunk.modality}

    def _advance(self) -> Iterator[Scene]:
        ready = self.clock if self._open else math.inf  # nothing that begins before is still to come
        while self._at.start is not None or self._begin(ready):
            due = self._due
            if (other := self._look(min(due, ready) - TICK)) is not None:
                yield self._end(other)
            elif min(ready, self._at.seen if not self._open else math.inf) >= due - TICK:
                yield self._end(due)
            elif self._open:
                return
            else:
                yield from self._rest()

    @property
    def _due(self) -> float:
        assert self._at.start is not None
        return min(self._judge.due, self._at.start + self._limit)

    def _begin(self, ready: float) -> bool:
        """Begin a segment with the first that has come since the last one, if nothing can come before it."""
        first = min((chunks[0].start for chunks in (self._waiting, self._sound) if chunks), default=math.inf)
        if first >= ready - TICK:
            return False
        first = max(first, self._at.told)
        self._at.start = max(self._at.told, self._judge.restart(first, first + 2 * TICK))
        return True

    def _look(self, limit: float) -> float | None:
        """Put the frames that begin before `limit` into the segment, up to one that is to begin the next: its time."""
        while self._waiting and self._waiting[0].start < limit:
            frame = self._waiting[0]
            heard = self._sound and self._sound[0].start < frame.start - HALF
            if (heard or any(s.values for s in self._shown.values())) and changed(self._judge, frame):
                return frame.start
            self._shown[frame.modality].add(frame.start, frame.data.clone)  # not a view of the whole chunk
            self._behind -= frame.data.nbytes
            del self._waiting[0]
        return None

    def _end(self, end: float) -> Scene:
        assert self._at.start is not None
        heard, self._sound = until(self._sound, end)
        self._behind -= _nbytes(heard)
        scene = self._scene(self._at.start, end, heard)
        self._at.start, self._at.told = None, end
        self._clear()
        return scene

    def _rest(self) -> Iterator[Scene]:
        first, start = self._at.told == -math.inf, self._at.start or 0.0
        scene = self._end(max(start, self._at.seen))
        if self._judge.least < math.inf and (first or scene.end - scene.start >= self._judge.least):
            yield scene

    def _clear(self) -> None:
        self._shown = {n: Spread(SPARE * self._takes.frames) for n in self._clocks if n != "audio"}

    def _scene(self, start: float, end: float, sound: Sequence[Chunk]) -> Scene:
        even = {n: spread.even(self._takes.frames, start, end) for n, spread in self._shown.items()}
        shown = film(self._takes, [x[0] for x in even.pop("video", [])], start, end)
        others = (Chunk(x, start, end, name) for name, some in even.items() for x in some)
        return Scene(start, end, (*shown, *joined(sound), *others))


def changed(judge: Judge, frame: Chunk) -> bool:
    """Whether the picture is no longer like what came before: by small, centred copies of the frames."""
    if frame.modality != "video":
        return False
    small = F.adaptive_avg_pool2d(frame.data[0].float(), THUMB).flatten()
    return judge.changed(frame.modality, (small - small.mean())[None], frame.end)


def _nbytes(chunks: Sequence[Chunk]) -> int:
    return sum(c.data.nbytes for c in chunks)
