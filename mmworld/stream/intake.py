"""Sources read in threads of their own, given one after the other in the order of their times: bounded, and counted."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from mmworld.stream.ops import paced
from mmworld.stream.policy import TICK
from mmworld.stream.pulse import Pulse
from mmworld.stream.thin import Thin
from mmworld.types import Chunk, Gap

Item = Chunk | Gap


@dataclass(frozen=True)
class Feed:
    """One source as it is read.

    Attributes:
        live: it comes at its own pace, and may stall.
        real_time: it is played no faster than it was recorded.
    """

    name: str
    modalities: tuple[str, ...]
    items: Iterable[Item]
    live: bool = False
    real_time: bool = False


@dataclass(frozen=True)
class End:
    """A source has given all it had, or ended in a fault."""

    error: BaseException | None = None


Pressure = Literal["block", "drop", "thin"]
"""What is done where the model is slower than a live source: "block" has it wait; "drop" leaves out the oldest pictures
and clouds that wait; "thin" lets through every second of those that come, every fourth and so on, until less waits.
Sound is never left out, and gaps are marked. What is read as fast as it can be always waits."""

MOST, MOST_BYTES = 256, 256 << 20
"""Items of one source that may wait, and their bytes."""
PATIENCE = 1.0
"""Seconds for which a reader's end is waited for."""
FRAMES = ("video", "image", "points")
"""What may be left out: what comes next shows the same world."""


@dataclass(eq=False)
class Lane:
    """What one source has given and the model has not taken.

    Attributes:
        live: it comes at its own pace, and may stall.
        clocks: of each modality, the end of what was taken.
        stamps: when each of the items came, on the machine's monotonic clock.
        arrived, taken: when the last came, and when the one that was taken last had come.
        ended: no more comes; `error` says why, if it is a fault, and `told` whether the model knows.
        counts: of what was left out, by reason.
        pulse: of who reads it.
        thins: of each modality whose rate is lowered, by how much.
    """

    name: str
    live: bool
    clocks: dict[str, float]
    items: deque[Item] = field(default_factory=deque)
    stamps: deque[float] = field(default_factory=deque)
    nbytes: int = 0
    arrived: float = field(default_factory=time.monotonic)
    taken: float = 0.0
    ended: bool = False
    error: BaseException | None = None
    told: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    pulse: Pulse = field(default_factory=lambda: Pulse("reading"))
    thins: dict[str, Thin] = field(default_factory=dict)

    @property
    def filled(self) -> float:
        """The share of the room that is taken."""
        return max(len(self.items) / MOST, self.nbytes / MOST_BYTES)

    @property
    def full(self) -> bool:
        return self.filled >= 1

    @property
    def step(self) -> int:
        """One frame in so many is let through."""
        return max((thin.step for thin in self.thins.values()), default=1)

    def add(self, item: Item) -> None:
        passes = self._passes(item)
        self.items.append(item)
        self.nbytes += size(item)
        self.arrived = time.monotonic()
        self.stamps.append(self.arrived)
        if not passes:
            self._leave_out(len(self.items) - 1)

    def take(self) -> Item:
        item = self.items.popleft()
        self.taken = self.stamps.popleft()
        self.nbytes -= size(item)
        self.clocks[item.modality] = max(self.clocks.get(item.modality, -math.inf), item.end)
        return item

    def drop(self) -> bool:
        """Leave out the oldest picture or cloud, a gap in its place; False if there is none."""
        for i, item in enumerate(self.items):
            if item.modality in FRAMES and _may_go(item):
                self._leave_out(i)
                return True
        return False

    def _passes(self, item: Item) -> bool:
        thin = self.thins.get(item.modality)
        return thin is None or not _may_go(item) or thin.passes(item.start, self.filled)

    def _leave_out(self, at: int) -> None:
        """Put a gap in the place of a chunk, or have the gap right before it go on."""
        gone = self.items[at]
        assert isinstance(gone, Chunk)
        self.nbytes -= size(gone)
        self.counts["slow"] += len(gone.data)
        before = next((i for i in range(at - 1, -1, -1) if self.items[i].modality == gone.modality), None)
        gap = None if before is None else self.items[before]
        if before is not None and isinstance(gap, Gap) and gap.reason == "slow":
            self.items[before] = replace(gap, end=gone.end)
            del self.items[at], self.stamps[at]
        else:
            self.items[at] = Gap(gone.start, gone.end, gone.modality, "slow", self.name)


class Intake:
    """Iterates over (lane, item): of the heads of all lanes the one that ends first, once none can come before it.
    Each lane's last item is an `End`. What is posted comes as (None, message).

    What is read as fast as it can be is waited for. A live source that lies further behind the others than `patience`
    is not: its gap is marked, and what comes of it too late is left out and counted.

    Args:
        feeds: the sources.
        pressure: where the model is slower than they are.
        patience: seconds on the streams' clock.
        since: of each source, where each modality's stream was left; what lies before it is left out.
        trim: what of a chunk lies after a time; None if nothing does.
        unit: of a modality, see `Thin`.
    """

    def __init__(
        self,
        feeds: Sequence[Feed],
        *,
        pressure: Pressure = "block",
        patience: float = 2.0,
        since: Sequence[dict[str, float]] | None = None,
        trim: Callable[[Chunk, float], Chunk | None] | None = None,
        unit: Callable[[str], float] = lambda modality: 0.0,
    ) -> None:
        self.pressure, self.patience, self._trim = pressure, patience, trim or _whole
        begun: Sequence[dict[str, float]] = since or [{} for _ in feeds]
        self.lanes = [_lane(f, left) for f, left in zip(feeds, begun, strict=True)]
        for lane in self.lanes:
            if pressure == "thin" and lane.live:
                lane.thins = {m: Thin(unit(m)) for m in lane.clocks if m in FRAMES}
        self._posted: deque[Any] = deque()
        self._changed = threading.Condition()
        self._open = True
        self._threads = [
            threading.Thread(target=self._read, args=(lane, feed, left), daemon=True, name=f"read {feed.name}")
            for lane, feed, left in zip(self.lanes, feeds, begun, strict=True)
        ]
        for thread in self._threads:
            thread.start()

    def post(self, message: Any) -> None:
        """Have the iterator give (None, message) next, before anything that waits. From any thread."""
        with self._changed:
            self._posted.append(message)
            self._changed.notify_all()

    def __iter__(self) -> Iterator[tuple[Lane | None, Any]]:
        while True:
            with self._changed:
                while (found := self._next()) is None:
                    if not self._open or all(lane.told for lane in self.lanes):
                        return
                    self._changed.wait()
            yield found

    def posted(self) -> Iterator[Any]:
        """What is posted once the sources have ended, until this is closed."""
        while self._open:
            with self._changed:
                if not self._posted:
                    self._changed.wait()
                waiting = [self._posted.popleft()] if self._posted else []
            yield from waiting

    def close(self) -> None:
        """End the readers; one that hangs in a device is left behind."""
        with self._changed:
            self._open = False
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(PATIENCE)

    def _next(self) -> tuple[Lane | None, Any] | None:
        if self._posted:
            return None, self._posted.popleft()
        while True:
            for lane in self.lanes:
                if lane.ended and not lane.items and not lane.told:
                    lane.told = True
                    return lane, End(lane.error)
            if not (heads := [lane for lane in self.lanes if lane.items]):
                return None
            first = min(heads, key=lambda lane: lane.items[0].end)
            if (late := self._awaited(first.items[0].end)) is not None:
                return late if late[1] is not None else None
            if (item := self._fresh(first)) is not None:  # else it was too late, and may have been the last
                return first, item

    def _awaited(self, end: float) -> tuple[Lane, Gap | None] | None:
        """The lane that may still give what ends before `end`, with the gap of one that is not waited for."""
        came = [math.inf if lane.full else lane.items[-1].end for lane in self.lanes if lane.live and lane.items]
        newest = max(came, default=-math.inf)  # what has no more room cannot come up to the patience
        for lane in self.lanes:
            behind = [m for m, clock in lane.clocks.items() if clock < end - TICK]
            if lane.items or lane.ended or not behind:
                continue
            until = min(newest - self.patience, end)
            if lane.live and (gone := [m for m in behind if -math.inf < lane.clocks[m] < until - TICK]):
                gap = Gap(lane.clocks[gone[0]], until, gone[0], "late", lane.name)
                lane.clocks[gone[0]] = until
                return lane, gap
            return lane, None
        return None

    def _fresh(self, lane: Lane) -> Item | None:
        """The head of a lane, or what of it is not too late."""
        clock = lane.clocks.get(lane.items[0].modality, -math.inf)
        if lane.full:
            self._changed.notify_all()  # its reader may wait for room
        item = lane.take()
        kept = self._after(item, clock)
        if isinstance(item, Chunk) and kept is not item:
            lane.counts["late"] += len(item.data) - (len(kept.data) if isinstance(kept, Chunk) else 0)
        return kept

    def _after(self, item: Item, time: float) -> Item | None:
        """What of an item comes after a time."""
        if item.start >= time - TICK:
            return item
        if isinstance(item, Chunk):
            return self._trim(item, time)
        return replace(item, start=time) if item.end > time else None

    def _read(self, lane: Lane, feed: Feed, since: dict[str, float]) -> None:
        items = self._left(lane.pulse.making(iter(feed.items), lane.name), since)
        if feed.real_time:
            items = paced(items)
        try:
            for item in items:
                if not self._put(lane, item):
                    break
        except BaseException as e:
            lane.error = e
        finally:
            for made in (items, feed.items):
                if isinstance(made, Generator):
                    made.close()
            with self._changed:
                lane.ended = True
                self._changed.notify_all()

    def _left(self, items: Iterator[Item], since: dict[str, float]) -> Iterator[Item]:
        """What comes after the times where the streams were left."""
        for item in items:
            time = since.get(item.modality, -math.inf)
            if time < math.inf and (rest := self._after(item, time)) is not None:
                yield rest

    def _put(self, lane: Lane, item: Item) -> bool:
        with self._changed:
            while self._open and lane.full:
                if self.pressure != "drop" or not lane.live or not lane.drop():
                    self._changed.wait()
            lane.add(item)
            self._changed.notify_all()
            return self._open


def size(item: Item) -> int:
    """Bytes of an item."""
    return item.data.nbytes if isinstance(item, Chunk) else 0


def _lane(feed: Feed, left: dict[str, float]) -> Lane:
    clocks = {m: left.get(m, 0.0 if feed.live else -math.inf) for m in feed.modalities}
    pulse = Pulse("source" if feed.live else "reading")
    return Lane(feed.name, feed.live or feed.real_time, clocks, pulse=pulse)


def _may_go(item: Item) -> bool:
    """Whether it is a chunk that can be left out: an empty one costs nothing, and the last ends its stream."""
    return isinstance(item, Chunk) and len(item.data) > 0 and not item.last


def _whole(chunk: Chunk, clock: float) -> Chunk | None:
    return None
