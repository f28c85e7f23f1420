"""The thread of a live stream that perceives: what its sources give goes into segments, and these to who speaks."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from mmworld.errors import MMWorldError, SourceError
from mmworld.models.events import Failure
from mmworld.models.jobs import Ask, Jobs, Save, Told
from mmworld.models.left import Left
from mmworld.models.opening import Opened
from mmworld.models.teller import Span
from mmworld.stream.intake import End, Intake, Lane
from mmworld.stream.pulse import Pulse
from mmworld.types import Chunk, Gap


class Perceiver:
    """Takes what comes, in order; hands on segments, gaps and faults, and questions and saves with what they are of.

    Args:
        left: what it goes on with.
        sources: what the intake reads.
        intake: what comes.
        jobs: what it hands on.
        tap: is shown every chunk.
    """

    def __init__(
        self,
        left: Left,
        sources: Sequence[Opened],
        intake: Intake,
        jobs: Jobs,
        tap: Callable[[Chunk], object] | None,
    ) -> None:
        self.segments, self.pulse = left.segments, Pulse("perceiving")
        self._gaps, self._ended, self._repaired, self._sources = left.gaps, left.ended, left.repaired, sources
        self._intake, self._jobs, self._tap = intake, jobs, tap
        self._latest: Span | None = None

    def run(self) -> None:
        """Perceive until the sources have ended, and serve questions and saves until the intake is closed."""
        try:
            for lane, item in self._intake:
                self.pulse.at(item)
                self._take(lane, item)
                self.pulse.rest()
            self.pulse.at("the rest")
            self._told(self.segments.finish(), time.monotonic())
            self._hand(None)
            self.pulse.rest()
            for message in self._intake.posted():
                self.pulse.at(message)
                self._serve(message)
                self.pulse.rest()
        except BaseException as e:
            self.pulse.rest()
            self._jobs.put(e)
            for message in self._intake.posted():  # nobody must wait for an answer that cannot come
                message.future.set_exception(e)

    def _take(self, lane: Lane | None, item: Any) -> None:
        if lane is None:
            self._serve(item)
        elif isinstance(item, End):
            self._end(lane, item.error)
        else:
            self._tell(self._gaps.take(item))
            if self._tap is not None and isinstance(item, Chunk):
                self._tap(item)
            self._told(self.segments.take(item), lane.taken)

    def _end(self, lane: Lane, error: BaseException | None) -> None:
        """A source has ended, or failed; that it did is told once, however often a run is gone on with."""
        for name in lane.clocks:
            self._tell(self._gaps.end(name))
            self._told(self.segments.close(name), time.monotonic())
        if isinstance(error, OSError):
            error = SourceError("device", f"{lane.name}: {error.strerror or error}")
        if error is None or self._ended[self._intake.lanes.index(lane)]:
            return
        if not isinstance(error, MMWorldError):
            raise error
        self._hand(Failure(lane.name, error))

    def _told(self, segments: Iterable[Span], came: float) -> None:
        for segment in segments:
            self._latest = segment
            self._hand(Told(segment, came))

    def _tell(self, gaps: Iterable[Gap]) -> None:
        for gap in gaps:
            self._hand(gap)

    def _serve(self, message: Ask | Save) -> None:
        if isinstance(message, Ask):
            now = self.segments.now()
            message.segment = self._latest if now.empty and self._latest is not None else now
        else:
            message.values |= self._leaves()
        self._hand(message)

    def _leaves(self) -> dict[str, Any]:
        """All that is remembered of what was perceived, by name, as `left.read` takes it."""
        lanes, odd = self._intake.lanes, zip(self._sources, self._repaired, strict=True)
        return self.segments.leaves() | {
            "repaired": [before or source.repaired for source, before in odd],
            "gaps": self._gaps.leaves(),
            "ended": [lane.told or before for lane, before in zip(lanes, self._ended, strict=True)],
            "sources": [{n: c if n in self.segments.open else math.inf for n, c in x.clocks.items()} for x in lanes],
        }

    def _hand(self, job: Any) -> None:
        """Give a job to who speaks; to wait for that is not to hang."""
        with self.pulse.resting():
            self._jobs.put(job)
