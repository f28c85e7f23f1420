"""A model that listens for as long as its sources last, and speaks while it listens."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from mmworld.errors import CheckpointError, MMWorldError, SourceError, UsageError
from mmworld.models import snapshot
from mmworld.models.events import Answer, Count, Event, Failure, event
from mmworld.models.jobs import Ask, Jobs, Save, Told, settle
from mmworld.models.opening import Opened
from mmworld.models.outbox import Outbox
from mmworld.models.provisional import Agreement
from mmworld.models.teller import Span, Teller
from mmworld.stream.intake import End, Feed, Intake, Lane, Pressure
from mmworld.stream.memory import Memory
from mmworld.stream.unbroken import unbroken
from mmworld.types import Chunk, Gap, Moment

HEARD = 1024
"""The last captions of whose delay is told."""
RECALLED = 3
"""Moments that come with an answer."""


class Live:
    """Iterates over what is to be told of sources on one clock, as they run: captions, gaps, faults, answers.

    Three kinds of threads: one reads each source, one perceives, one speaks. What is said of a segment is said on a
    fork of what has been perceived, so that nothing waits for the speaking. Every queue between them is bounded: where
    the model is slower than a live source, `pressure` says what gives.

    Args:
        teller: the model, when it speaks, and how: a `Captioner`, or a `Watcher` of a borrowed one.
        sources: opened for it; no modality twice.
        real_time: play files no faster than they were recorded.
        pressure, patience: see `Intake`.
        start: seconds at which the sources begin.
        memory: where what was told is kept and found again when asked, however long ago; closed with this.
        provisional: seconds, every so many of which what would be said by now of a segment is told, too.
        tap: is shown every chunk that is perceived, by the thread that perceives.
        resume: a file that `save` wrote, to go on from with the same model and the same sources, opened from `start`.

    Attributes:
        before: what had been told before it was resumed.

    Raises:
        UsageError: a modality comes from two sources.
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
        tap: Callable[[Chunk], object] | None = None,
    ) -> None:
        if not provisional > 0:
            raise UsageError(f"provisional captions every {provisional:g} s: must be more than 0")
        names = [n for s in sources for n in s.modalities]
        if twice := {n for n in names if names.count(n) > 1}:
            raise UsageError(f"{twice.pop()} comes from two sources", hint="one session has one source of each sense")
        self._teller, self._name, self._memory = teller, sources[0].name, memory
        self._tap, self._agreement = tap, Agreement()
        since: list[dict[str, float]] | None = None
        self.before = Count()
        untold: list[Event] = []
        self._ended = [False] * len(sources)  # those of which the end had been told before
        if resume is None:
            self._segments = teller.begin(names, start)
        else:
            found = snapshot.read(resume, "live", lambda v: self._restored(v, names, start))
            self._segments, since, self.before, untold = found
        self._segments.provisional = provisional
        self._outbox = Outbox(self.before, untold)
        feeds = [self._feed(s, real_time) for s in sources]
        self.pressure: Pressure = pressure if any(f.live or f.real_time for f in feeds) else "block"
        self._jobs = Jobs(teller.waiting, drop=self.pressure == "drop")
        self._delays: deque[float] = deque(maxlen=HEARD)
        self._open = True
        self._latest: Span | None = None
        self._intake = Intake(feeds, pressure=self.pressure, patience=patience, since=since, trim=teller.after)
        self._threads = [
            threading.Thread(target=self._perceive, daemon=True, name="perceive"),
            threading.Thread(target=self._speak, daemon=True, name="speak"),
        ]
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
        for part in (self._intake, self._jobs, self._outbox):
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
    def unsaid(self) -> int:
        """Segments of which nothing was said, as the speaking was too slow."""
        return self._jobs.dropped

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

    def _restored(self, values: Any, names: Sequence[str], start: float) -> tuple[Any, Any, Count, list[Event]]:
        if values["model"] != self._teller.identity or values["modalities"] != list(names):
            raise CheckpointError("was saved of another model, or of other streams")
        untold: list[Event] = [event(said) for said in values["untold"]]
        self._agreement = snapshot.restore(self._agreement, values, "agreement")
        before, self._ended = Count(values["events"], values["captions"]), values["ended"]
        return self._teller.restored(values, start), values["sources"], before, untold

    def _post(self, message: Any) -> Any:
        if not self._open:
            raise UsageError("this stream was closed")
        self._intake.post(message)
        return message.future

    def _perceive(self) -> None:
        try:
            for lane, item in self._intake:
                self._take(lane, item)
            self._told(self._segments.finish(), time.monotonic())
            self._jobs.put(None)
            for message in self._intake.posted():
                self._serve(message)
        except BaseException as e:
            self._jobs.put(e)
            for message in self._intake.posted():  # nobody must wait for an answer that cannot come
                message.future.set_exception(e)

    def _take(self, lane: Lane | None, item: Any) -> None:
        if lane is None:
            self._serve(item)
        elif isinstance(item, End):
            for name in lane.clocks:
                self._told(self._segments.close(name), time.monotonic())
            error = None if self._ended[self.lanes.index(lane)] else item.error
            if isinstance(error, OSError):
                error = SourceError("device", f"{lane.name}: {error.strerror or error}")
            if isinstance(error, MMWorldError):
                self._jobs.put(Failure(lane.name, error))
            elif error is not None:
                raise error
        else:
            if isinstance(item, Gap):
                self._jobs.put(item)
            elif self._tap is not None:
                self._tap(item)
            self._told(self._segments.take(item), lane.taken)

    def _told(self, segments: Iterable[Span], came: float) -> None:
        for segment in segments:
            self._latest = segment
            self._jobs.put(Told(segment, came))

    def _serve(self, message: Ask | Save) -> None:
        if isinstance(message, Ask):
            now = self._segments.now()
            message.segment = self._latest if now.empty and self._latest is not None else now
        else:
            message.values = self._segments.leaves() | {"model": self._teller.identity}
            message.values["ended"] = [
                lane.told or before for lane, before in zip(self.lanes, self._ended, strict=True)
            ]
            message.values["sources"] = [
                {n: c if n in self._segments.open else math.inf for n, c in lane.clocks.items()} for lane in self.lanes
            ]
        self._jobs.put(message)

    def _speak(self) -> None:
        try:
            while jobs := self._jobs.take():
                self._do(jobs)
        except BaseException as e:
            self._outbox.put(e)

    def _do(self, jobs: Sequence[Any]) -> None:
        if isinstance(jobs[0], Told):
            made = self._teller.say([j.segment for j in jobs], self._name)
            told = iter(jobs)  # in the order of the captions; one of which nothing is said has none
            for caption in made:
                job = next(j for j in told if (j.segment.start, j.segment.end) == (caption.start, caption.end))
                if not job.segment.final:
                    self._outbox.put(self._agreement.add(caption))
                    continue
                if self._memory is not None:
                    self._memory.add(Moment(caption.start, caption.end, caption.text, caption.source))
                self._delays.append(time.monotonic() - job.came)
                self._outbox.put(caption)
            return
        (job,) = jobs
        if isinstance(job, Ask):
            settle(job.future, lambda: self._answer(job))
        elif isinstance(job, Save):
            said = self._outbox.leaves() | snapshot.leaves(self._agreement, "agreement")
            settle(job.future, lambda: snapshot.write(job.path, "live", job.values | said))
        else:
            self._outbox.put(job)

    def _answer(self, job: Ask) -> Answer:
        assert job.segment is not None
        made = self._teller.answer(job.segment, job.question)
        moments = self._memory.find(job.question, RECALLED) if self._memory is not None else ()
        answer = Answer(job.question, made.text, job.segment.end, made.score, tuple(moments))
        self._outbox.put(answer)
        return answer
