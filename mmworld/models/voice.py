"""The thread of a live stream that speaks: of segments, to questions; and that writes what is saved and remembered."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from mmworld.models import snapshot
from mmworld.models.events import Answer, Event
from mmworld.models.hindsight import Hindsight
from mmworld.models.jobs import Ask, Jobs, Save, Told, settle
from mmworld.models.outbox import Outbox
from mmworld.models.provisional import Agreement
from mmworld.models.segments import Piece
from mmworld.models.teller import Teller
from mmworld.stream.memory import Memory
from mmworld.stream.pulse import Pulse
from mmworld.types import Caption, Moment

HEARD = 1024
"""The last captions of whose delay is told."""
RECALLED = 3
"""Moments that come with an answer."""


class Voice:
    """Does what waits to be told, in order.

    Args:
        name: of the source, as captions give it.
        jobs: what waits.
        outbox: what it says.
        agreement: of the provisional captions so far.
        memory: where what was told is kept.
        hindsight: keeps there what was perceived, too.

    Attributes:
        captions: how many it made.
    """

    def __init__(
        self,
        teller: Teller[Any],
        name: str,
        jobs: Jobs,
        outbox: Outbox,
        agreement: Agreement,
        memory: Memory | None,
        hindsight: Hindsight | None,
    ) -> None:
        self.pulse, self.captions = Pulse("speaking"), 0
        self._teller, self._name, self._jobs, self._outbox = teller, name, jobs, outbox
        self._agreement, self._memory, self._hindsight = agreement, memory, hindsight
        self._delays: deque[float] = deque(maxlen=HEARD)

    def delay(self, part: float) -> float:
        """Seconds within which this part of the captions came, counted from when what ended each was there."""
        ordered = sorted(self._delays)
        return ordered[min(int(part * len(ordered)), len(ordered) - 1)] if ordered else 0.0

    def run(self) -> None:
        """Speak until the jobs are closed."""
        try:
            while jobs := self._jobs.take():
                self.pulse.at(jobs)
                self._do(jobs)
                self.pulse.rest()
        except BaseException as e:
            self.pulse.rest()
            self._outbox.put(e)

    def _do(self, jobs: Sequence[Any]) -> None:
        first = jobs[0]
        if isinstance(first, Piece):
            self._keep(jobs)
        elif isinstance(first, Told):
            for event in self._said(jobs):
                self._tell(event)
        elif isinstance(first, Ask):
            settle(first.future, lambda: self._answer(first))
        elif isinstance(first, Save):
            said = self._outbox.leaves() | snapshot.leaves(self._agreement, "agreement")
            settle(first.future, lambda: snapshot.write(first.path, "live", first.values | said))
        else:
            self._tell(first)

    def _keep(self, pieces: Sequence[Piece]) -> None:
        if self._hindsight is not None:
            for piece in pieces:
                self._hindsight.keep(piece, self._name)

    def _said(self, jobs: Sequence[Told]) -> Iterator[Event]:
        """What is said of segments, side by side."""
        told = iter(jobs)  # in the order of the captions; one of which nothing is said has none
        for caption in self._teller.say([j.segment for j in jobs], self._name):
            job = next(j for j in told if (j.segment.start, j.segment.end) == (caption.start, caption.end))
            yield self._final(caption, job.came) if job.segment.final else self._agreement.add(caption)

    def _final(self, caption: Caption, came: float) -> Caption:
        if self._memory is not None:
            self._memory.add(Moment(caption.start, caption.end, caption.text, caption.source))
        self.captions += 1
        self._delays.append(time.monotonic() - came)
        return caption

    def _answer(self, job: Ask) -> Answer:
        assert job.segment is not None
        made = self._teller.answer(job.segment, job.question)
        moments = self._memory.find(job.question, RECALLED) if self._memory is not None else []
        if self._hindsight is not None:
            moments = self._hindsight.look(moments, job.question)
        answer = Answer(job.question, made.text, job.segment.end, made.score, tuple(moments))
        self._tell(answer)
        return answer

    def _tell(self, event: Event | BaseException | None) -> None:
        """Give an event to who reads; to wait for that is not to hang."""
        with self.pulse.resting():
            self._outbox.put(event)
