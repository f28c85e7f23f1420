"""A model that listens for as long as its sources last, and speaks while it listens."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmworld.errors import CheckpointError, MMWorldError, SourceError, UsageError
from mmworld.models import snapshot
from mmworld.models.events import STALL, Answer, Count, Event, Failure, Stall, event
from mmworld.models.hindsight import Hindsight
from mmworld.models.jobs import Ask, Jobs, Save, Told, settle
from mmworld.models.opening import Opened
from mmworld.models.outbox import Outbox
from mmworld.models.provisional import Agreement
from mmworld.models.segments import Piece, Segments
from mmworld.models.teller import Span, Teller
from mmworld.models.watchdog import Watchdog
from mmworld.stream.gaps import Gaps
from mmworld.stream.intake import End, Feed, Intake, Lane, Pressure
from mmworld.stream.memory import Memory
from mmworld.stream.pulse import Pulse
from mmworld.stream.unbroken import unbroken
from mmworld.types import Caption, Chunk, Gap, Moment

HEARD = 1024
"""The last captions of whose delay is told."""
RECALLED = 3
"""Moments that come with an answer."""


class Live:
    """Iterates over what is to be told of sources on one clock, as they run: captions, gaps, faults, answers, stalls.

    Three kinds of threads: one reads each source, one perceives, one speaks. What is said of a segment is said on a
    fork of what has been perceived, so that nothing waits for the speaking. Every queue between them is bounded: where
    the model is slower than a live source, `pressure` says what gives.

    Args:
        teller: the model, when it speaks, and how: a `Captioner`, or a `Watcher` of a borrowed one, which may remember.
        sources: opened for it; no modality twice.
        real_time: play files no faster than they were recorded.
        pressure, patience: see `Intake`.
        start: seconds at which the sources begin.
        memory: where what was told is kept and found again when asked, however long ago; closed with this.
        hindsight: keeps there what was perceived, too, and looks at it again when asked; of models of ours.
        provisional: seconds, every so many of which what would be said by now of a segment is told, too.
        tap: is shown every chunk that is perceived, by the thread that perceives.
        stall: seconds without progress, though there is something to do, after which a `Stall` names the part that
            hangs, and a second one when it goes on; inf names none.
        alarm: is given each `Stall` at once, by a thread of its own, however long the events wait for their reader.
        resume: a file that `save` wrote, to go on from with the same model and the same sources, opened from `start`.

    Attributes:
        before: what had been told before it was resumed.
        captions: how many were made, before it was resumed and since.

    Raises:
        UsageError: a modality comes from two sources, or a number of seconds is not above 0.
        CheckpointError: `resume` is damaged, or of another model or other sources.
    """

    def __init__(
        self,
        teller: Teller[Any],
        sources: Sequence[Opened],
        *,
        real_time: bool = False,
        pressure: Pressure = "drop",
        patience: float = 2.0,
        start: float = 0.0,
        provisional: float = math.inf,
        resume: Path | str | None = None,
        memory: Memory | None = None,
        hindsight: Hindsight | None = None,
        tap: Callable[[Chunk], object] | None = None,
        stall: float = STALL,
        alarm: Callable[[Stall], object] | None = None,
    ) -> None:
        if not provisional > 0:
            raise UsageError(f"provisional captions every {provisional:g} s: must be more than 0")
        if not stall > 0:
            raise UsageError(f"stalled after {stall:g} s: must be more than 0")
        names = [n for s in sources for n in s.modalities]
        if twice := {n for n in names if names.count(n) > 1}:
            raise UsageError(f"{twice.pop()} comes from two sources", hint="one session has one source of each sense")
        self._teller, self._name, self._memory = teller, sources[0].name, memory
        self._tap, self._alarm, self._agreement = tap, alarm, Agreement()
        self._gaps = Gaps()
        self._sources, since, self._repaired = sources, [dict[str, float]() for _ in sources], [False for _ in sources]
        self._hindsight = hindsight
        self.before = Count()
        untold: list[Event] = []
        self._ended = [False] * len(sources)  # those of which the end had been told before
        if resume is None:
            self._segments = teller.begin(names, start)
        else:
            found = snapshot.read(resume, "live", lambda v: self._restored(v, names, start))
            self._segments, since, self._repaired, self.before, untold = found
        self._segments.provisional = provisional
        self._outbox = Outbox(self.before, untold)
        self.captions = self.before.captions + sum(isinstance(e, Caption) for e in untold)
        feeds = [
            self._feed(s if odd else _later(s, left), real_time)
            for s, left, odd in zip(sources, since, self._repaired, strict=True)
        ]
        self.pressure: Pressure = pressure if any(f.live or f.real_time for f in feeds) else "block"
        self._jobs = Jobs(teller.waiting, drop=self.pressure != "block")
        if hindsight is not None and isinstance(self._segments, Segments):
            self._segments.passing = self._jobs.keep
        self._delays: deque[float] = deque(maxlen=HEARD)
        self._open = True
        self._latest: Span | None = None
        self._perceiving, self._speaking = Pulse("perceiving"), Pulse("speaking")
        self._intake = Intake(
            feeds, pressure=self.pressure, patience=patience, since=since, trim=teller.after, unit=teller.unit
        )
        self._threads = [
            threading.Thread(target=self._perceive, daemon=True, name="perceive"),
            threading.Thread(target=self._speak, daemon=True, name="speak"),
        ]
        pulses = [*(lane.pulse for lane in self.lanes), self._perceiving, self._speaking, self._outbox.pulse]
        self._watchdog = Watchdog(pulses, stall, self._stalled)
        for thread in self._threads:
            thread.start()

    def __iter__(self) -> Iterator[Event]:
        """What happens, until every source has ended; see `Outbox`. An error that is not a source's own is raised."""
        return iter(self._outbox)

    def __enter__(self) -> Live:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, question: str) -> Future[Answer]:
        """Ask about what has been perceived so far; from any thread, at any time before `close`. The future's result
        is an `Answer`; the asking is no part of what is remembered.
        """
        return self._post(Ask(question, Future()))

    def save(self, path: Path | str) -> Future[None]:
        """Write all that is remembered, once what was perceived by now has been told; the future's result is None, or
        raises ResourceError as a save does. The file replaces an older one whole or not at all.
        """
        return self._post(Save(path, Future()))

    def close(self) -> None:
        """Stop; what waits is given up."""
        self._open = False
        for part in (self._watchdog, self._intake, self._jobs, self._outbox):
            part.close()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(1.0)
        if self._memory is not None:
            self._memory.close()

    @property
    def lanes(self) -> list[Lane]:
        """The sources: their clocks, what waits, what was left out."""
        return self._intake.lanes

    @property
    def clock(self) -> float:
        """Seconds up to which every stream has been perceived."""
        return self._segments.clock

    @property
    def nbytes(self) -> int:
        """Bytes of tensors that are held of what has been perceived."""
        return self._segments.nbytes

    @property
    def tokens(self) -> dict[str, tuple[int, int]]:
        """Of each modality, how many tokens its encoder made, and how many of them went on, which an `Economy` decides;
        of none where the model is borrowed."""
        return self._segments.tokens

    @property
    def unsaid(self) -> int:
        """Segments of which nothing was said, as the speaking was too slow."""
        return self._jobs.dropped

    @property
    def stalls(self) -> tuple[Stall, ...]:
        """What hangs now; see `stall`."""
        return self._watchdog.stalls

    def delay(self, part: float) -> float:
        """Seconds within which this part of the captions came, counted from when what ended each was there."""
        ordered = sorted(self._delays)
        return ordered[min(int(part * len(ordered)), len(ordered) - 1)] if ordered else 0.0

    def _feed(self, source: Opened, real_time: bool) -> Feed:
        """What is live comes as it is, its holes marked; a file in long chunks unless it is played like one."""
        chunks: Iterable[Chunk | Gap] = source.chunks
        if source.live:
            chunks = unbroken(source.chunks, source.name)
        elif not real_time:
            chunks = self._teller.joined(source)
        return Feed(source.name, source.modalities, chunks, source.live, real_time and not source.live)

    def _restored(
        self, values: Any, names: Sequence[str], start: float
    ) -> tuple[Any, list[dict[str, float]], list[bool], Count, list[Event]]:
        if values["model"] != self._teller.identity or values["modalities"] != list(names):
            raise CheckpointError("was saved of another model, or of other streams")
        untold: list[Event] = [event(said) for said in values["untold"]]
        self._agreement = snapshot.restore(self._agreement, values, "agreement")
        self._gaps = Gaps.restored(values.get("gaps", {}))
        before, self._ended = Count(values["events"], values["captions"]), values["ended"]
        sources = values["sources"]
        repaired = values.get("repaired", [True for _ in sources])  # of an older save it is not known
        return self._teller.restored(values, start), sources, repaired, before, untold

    def _post(self, message: Any) -> Any:
        if not self._open:
            raise UsageError("this stream was closed")
        self._intake.post(message)
        return message.future

    def _perceive(self) -> None:
        try:
            for lane, item in self._intake:
                self._perceiving.at(item)
                self._take(lane, item)
                self._perceiving.rest()
            self._perceiving.at("the rest")
            self._told(self._segments.finish(), time.monotonic())
            self._hand(None)
            self._perceiving.rest()
            for message in self._intake.posted():
                self._perceiving.at(message)
                self._serve(message)
                self._perceiving.rest()
        except BaseException as e:
            self._perceiving.rest()
            self._jobs.put(e)
            for message in self._intake.posted():  # nobody must wait for an answer that cannot come
                message.future.set_exception(e)

    def _take(self, lane: Lane | None, item: Any) -> None:
        if lane is None:
            self._serve(item)
        elif isinstance(item, End):
            for name in lane.clocks:
                for gap in self._gaps.end(name):
                    self._hand(gap)
                self._told(self._segments.close(name), time.monotonic())
            error = None if self._ended[self.lanes.index(lane)] else item.error
            if isinstance(error, OSError):
                error = SourceError("device", f"{lane.name}: {error.strerror or error}")
            if isinstance(error, MMWorldError):
                self._hand(Failure(lane.name, error))
            elif error is not None:
                raise error
        else:
            for gap in self._gaps.take(item):
                self._hand(gap)
            if self._tap is not None and isinstance(item, Chunk):
                self._tap(item)
            self._told(self._segments.take(item), lane.taken)

    def _told(self, segments: Iterable[Span], came: float) -> None:
        for segment in segments:
            self._latest = segment
            self._hand(Told(segment, came))

    def _serve(self, message: Ask | Save) -> None:
        if isinstance(message, Ask):
            now = self._segments.now()
            message.segment = self._latest if now.empty and self._latest is not None else now
        else:
            message.values = self._segments.leaves() | {"model": self._teller.identity}
            message.values["gaps"] = self._gaps.leaves()
            message.values["ended"] = [
                lane.told or before for lane, before in zip(self.lanes, self._ended, strict=True)
            ]
            message.values["sources"] = [
                {n: c if n in self._segments.open else math.inf for n, c in lane.clocks.items()} for lane in self.lanes
            ]
            odd = zip(self._sources, self._repaired, strict=True)
            message.values["repaired"] = [before or source.repaired for source, before in odd]
        self._hand(message)

    def _hand(self, job: Any) -> None:
        """Give a job to who speaks; to wait for that is not to hang."""
        with self._perceiving.resting():
            self._jobs.put(job)

    def _speak(self) -> None:
        try:
            while jobs := self._jobs.take():
                self._speaking.at(jobs)
                self._do(jobs)
                self._speaking.rest()
        except BaseException as e:
            self._speaking.rest()
            self._outbox.put(e)

    def _tell(self, event: Event | BaseException | None) -> None:
        """Give an event to who reads; to wait for that is not to hang."""
        with self._speaking.resting():
            self._outbox.put(event)

    def _stalled(self, stall: Stall) -> None:
        self._outbox.offer(stall)
        if self._alarm is not None:
            self._alarm(stall)

    def _do(self, jobs: Sequence[Any]) -> None:
        if self._hindsight is not None and isinstance(jobs[0], Piece):
            for piece in jobs:
                self._hindsight.keep(piece, self._name)
            return
        if isinstance(jobs[0], Told):
            made = self._teller.say([j.segment for j in jobs], self._name)
            told = iter(jobs)  # in the order of the captions; one of which nothing is said has none
            for caption in made:
                job = next(j for j in told if (j.segment.start, j.segment.end) == (caption.start, caption.end))
                if not job.segment.final:
                    self._tell(self._agreement.add(caption))
                    continue
                if self._memory is not None:
                    self._memory.add(Moment(caption.start, caption.end, caption.text, caption.source))
                self.captions += 1
                self._delays.append(time.monotonic() - job.came)
                self._tell(caption)
            return
        (job,) = jobs
        if isinstance(job, Ask):
            settle(job.future, lambda: self._answer(job))
        elif isinstance(job, Save):
            said = self._outbox.leaves() | snapshot.leaves(self._agreement, "agreement")
            settle(job.future, lambda: snapshot.write(job.path, "live", job.values | said))
        else:
            self._tell(job)

    def _answer(self, job: Ask) -> Answer:
        assert job.segment is not None
        made = self._teller.answer(job.segment, job.question)
        moments = self._memory.find(job.question, RECALLED) if self._memory is not None else []
        if self._hindsight is not None:
            moments = self._hindsight.look(moments, job.question)
        answer = Answer(job.question, made.text, job.segment.end, made.score, tuple(moments))
        self._tell(answer)
        return answer


def _later(source: Opened, left: Mapping[str, float]) -> Opened:
    """A source from about where its streams were left on, as far as that gives the same; nothing of one that ended."""
    time = min(left.values(), default=-math.inf)
    if source.since is None or time == -math.inf:
        return source
    return replace(source, chunks=source.since(time) if time < math.inf else iter(()))
