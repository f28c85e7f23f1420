"""A model that listens for as long as its sources last, and speaks while it listens."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from queue import Empty, Queue
from typing import Any

from mmworld.errors import CheckpointError, MMWorldError, UsageError
from mmworld.models import snapshot
from mmworld.models.captioner import BATCH, Captioner, Failure
from mmworld.models.modality import split
from mmworld.models.opening import Opened
from mmworld.models.provisional import Agreement, Provisional
from mmworld.models.segments import Segment
from mmworld.stream.intake import End, Feed, Intake, Lane, Pressure
from mmworld.stream.memory import Memory, Moment
from mmworld.stream.policy import TICK
from mmworld.types import Caption, Chunk, Gap

WAITING = 64
"""Segments that may wait to be told of."""
HEARD = 1024
"""Events that may wait for who reads them, and the last captions of whose delay is told."""
RECALLED = 3
"""Moments that come with an answer."""
POLL = 0.2
"""Seconds after which who waits looks whether it is still wanted."""


@dataclass(frozen=True)
class Answer:
    """What was answered to a question.

    Attributes:
        time: seconds on the stream's clock at which it was asked.
        score: mean log-probability of its ids.
        moments: what had been told before, of all that is remembered, that fits the question, the best first.
    """

    question: str
    text: str
    time: float
    score: float
    moments: tuple[Moment, ...] = ()


Event = Caption | Provisional | Gap | Failure | Answer


@dataclass(eq=False)
class Ask:
    """A question on its way, and of what it is."""

    question: str
    future: Future[Answer]
    segment: Segment | None = None


@dataclass(eq=False)
class Save:
    """A snapshot on its way."""

    path: Path | str
    future: Future[None]
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Count:
    """How many events were told, answers left out, and how many captions of them."""

    events: int = 0
    captions: int = 0

    def with_(self, event: Any) -> Count:
        """This, and one event more."""
        if isinstance(event, Answer | BaseException) or event is None:
            return self
        return Count(self.events + 1, self.captions + isinstance(event, Caption))


@dataclass(frozen=True)
class Told:
    """A segment on its way, and when what ended it had come."""

    segment: Segment
    came: float


class Live:
    """Iterates over what is to be told of sources on one clock, as they run: captions, gaps, faults, answers.

    Three kinds of threads: one reads each source, one perceives, one speaks. What is said of a segment is said on a
    fork of what has been perceived, so that nothing waits for the speaking. Every queue between them is bounded: where
    the model is slower than a live source, `pressure` says what gives.

    Args:
        captioner: the model, when it speaks, and how.
        sources: opened for it; no modality twice.
        real_time: play files no faster than they were recorded.
        pressure, patience: see `Intake`.
        start: seconds at which the sources begin.
        memory: where what was told is kept and found again when asked, however long ago; closed with this.
        provisional: seconds, every so many of which what would be said by now of a segment is told, too.
        resume: a file that `save` wrote, to go on from with the same model and the same sources, opened from `start`.

    Attributes:
        before: what had been told before it was resumed.

    Raises:
        UsageError: a modality comes from two sources.
        CheckpointError: `resume` is damaged, or of another model or other sources.
    """

    def __init__(
        self,
        captioner: Captioner,
        sources: Sequence[Opened],
        *,
        real_time: bool = False,
        pressure: Pressure = "drop",
        patience: float = 2.0,
        start: float = 0.0,
        provisional: float = math.inf,
        resume: Path | str | None = None,
        memory: Memory | None = None,
    ) -> None:
        if not provisional > 0:
            raise UsageError(f"provisional captions every {provisional:g} s: must be more than 0")
        names = [n for s in sources for n in s.modalities]
        if twice := {n for n in names if names.count(n) > 1}:
            raise UsageError(f"{twice.pop()} comes from two sources", hint="one session has one source of each sense")
        self._captioner, self._name, self._memory = captioner, sources[0].name, memory
        self._agreement, since = Agreement(), None
        if resume is None:
            self._segments, self.before = captioner.begin(names, start), Count()
        else:
            found = snapshot.read(resume, "live", lambda v: self._restored(v, names, start))
            self._segments, since, self.before = found
        self._segments.provisional, self._count = provisional, self.before
        feeds = [self._feed(s, real_time) for s in sources]
        self.pressure: Pressure = pressure if any(f.live or f.real_time for f in feeds) else "block"
        self._jobs = Jobs(drop=self.pressure == "drop")
        self._events: Queue[Event | BaseException | None] = Queue(HEARD)
        self._delays: deque[float] = deque(maxlen=HEARD)
        self._open = True
        self._before: Segment | None = None
        self._intake = Intake(feeds, pressure=self.pressure, patience=patience, since=since, trim=self._trim)
        self._threads = [
            threading.Thread(target=self._perceive, daemon=True, name="perceive"),
            threading.Thread(target=self._speak, daemon=True, name="speak"),
        ]
        for thread in self._threads:
            thread.start()

    def __iter__(self) -> Iterator[Event]:
        """What happens, until every source has ended. An error that is not a source's own is raised."""
        while self._open:
            try:
                event = self._events.get(timeout=POLL)
            except Empty:
                continue
            if event is None:
                return
            if isinstance(event, BaseException):
                raise event
            yield event

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
        self._intake.close()
        self._jobs.close()
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
        return self._segments.session.clock

    @property
    def nbytes(self) -> int:
        """Bytes of tensors that the session holds."""
        return self._segments.session.nbytes

    @property
    def unsaid(self) -> int:
        """Segments of which nothing was said, as the speaking was too slow."""
        return self._jobs.dropped

    def delay(self, part: float) -> float:
        """Seconds within which this part of the captions came, counted from when what ended each was there."""
        ordered = sorted(self._delays)
        return ordered[min(int(part * len(ordered)), len(ordered) - 1)] if ordered else 0.0

    def _feed(self, source: Opened, real_time: bool) -> Feed:
        """What is live comes as it is, a file in long chunks unless it is played like one."""
        as_it_is = source.live or real_time
        chunks = source.chunks if as_it_is else self._captioner.joined(source)
        return Feed(source.name, source.modalities, chunks, source.live, real_time and not source.live)

    def _restored(self, values: Any, names: Sequence[str], start: float) -> tuple[Any, list[dict[str, float]], Count]:
        if values["model"] != repr(self._captioner.world.config) or values["modalities"] != list(names):
            raise CheckpointError("was saved of another model, or of other streams")
        self._agreement = snapshot.restore(self._agreement, values, "agreement")
        return self._captioner.restored(values, start), values["sources"], Count(values["events"], values["captions"])

    def _post(self, message: Any) -> Any:
        if not self._open:
            raise UsageError("this stream was closed")
        self._intake.post(message)
        return message.future

    def _trim(self, chunk: Chunk, time: float) -> Chunk | None:
        """What of a chunk comes from `time` on."""
        adapter: Any = self._captioner.world.adapters[chunk.modality]
        if not adapter.rate:
            return chunk if chunk.end > time + TICK else None
        rest = split(adapter, chunk, min(round((time - chunk.start) * adapter.rate), len(chunk.data)))[1]
        if not len(rest.data) and not rest.last:
            return None
        return replace(rest, start=max(rest.start, time), end=max(rest.end, time))

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
            if isinstance(item.error, MMWorldError):
                self._jobs.put(Failure(lane.name, item.error))
            elif item.error is not None:
                raise item.error
        else:
            if isinstance(item, Gap):
                self._jobs.put(item)
            self._told(self._segments.take(item), lane.taken)

    def _told(self, segments: Iterable[Segment], came: float) -> None:
        for segment in segments:
            self._before = segment if segment.final else self._before
            self._jobs.put(Told(segment, came))

    def _serve(self, message: Ask | Save) -> None:
        if isinstance(message, Ask):
            now = self._segments.now()
            message.segment = now if len(now.context) or self._before is None else self._before
        else:
            message.values = self._segments.leaves() | {"model": repr(self._captioner.world.config)}
            message.values["sources"] = [
                {n: c if self._segments.session.streams[n].open else math.inf for n, c in lane.clocks.items()}
                for lane in self.lanes
            ]
        self._jobs.put(message)

    def _speak(self) -> None:
        try:
            while jobs := self._jobs.take():
                self._do(jobs)
        except BaseException as e:
            self._emit(e)

    def _do(self, jobs: Sequence[Any]) -> None:
        if isinstance(jobs[0], Told):
            made = self._captioner.say([j.segment for j in jobs], self._name)
            told = iter(jobs)  # in the order of the captions; one of which nothing is said has none
            for caption in made:
                job = next(j for j in told if (j.segment.start, j.segment.end) == (caption.start, caption.end))
                if not job.segment.final:
                    self._emit(self._agreement.add(caption))
                    continue
                if self._memory is not None:
                    self._memory.add(Moment(caption.start, caption.end, caption.text, caption.source))
                self._delays.append(time.monotonic() - job.came)
                self._emit(caption)
            return
        (job,) = jobs
        if isinstance(job, Ask):
            _settle(job.future, lambda: self._answer(job))
        elif isinstance(job, Save):
            told_so_far = asdict(self._count) | snapshot.leaves(self._agreement, "agreement")
            _settle(job.future, lambda: snapshot.write(job.path, "live", job.values | told_so_far))
        else:
            self._emit(job)

    def _answer(self, job: Ask) -> Answer:
        assert job.segment is not None
        made = self._captioner.answer(job.segment, job.question)
        moments = self._memory.find(job.question, RECALLED) if self._memory is not None else ()
        answer = Answer(job.question, made.text, job.segment.end, made.score, tuple(moments))
        self._emit(answer)
        return answer

    def _emit(self, event: Any) -> None:
        while self._open:
            try:
                self._events.put(event, timeout=POLL)
            except Exception:
                continue
            self._count = self._count.with_(event)
            return


class Jobs:
    """What waits for the speaker, in order; of segments at most WAITING."""

    def __init__(self, *, drop: bool) -> None:
        self.dropped = 0
        self._drop = drop
        self._items: deque[Any] = deque()
        self._changed = threading.Condition()
        self._open = True

    def put(self, item: Any) -> None:
        """Add an item. With too many segments, wait, or leave out the oldest of them, first of those that go on."""
        with self._changed:
            while self._open and isinstance(item, Told) and self._told() >= WAITING:
                if self._drop:
                    told = [i for i in self._items if isinstance(i, Told)]
                    oldest = next((i for i in told if not i.segment.final), told[0])
                    self._items.remove(oldest)
                    self.dropped += oldest.segment.final
                else:
                    self._changed.wait(POLL)
            self._items.append(item)
            self._changed.notify_all()

    def take(self) -> list[Any]:
        """The next item; of segments as many as wait, up to a batch. [] once closed."""
        with self._changed:
            while self._open and not self._items:
                self._changed.wait(POLL)
            if not self._open:
                return []
            segments = isinstance(self._items[0], Told)
            taken = [self._items.popleft()]
            while segments and len(taken) < BATCH and self._items and isinstance(self._items[0], Told):
                taken.append(self._items.popleft())
            self._changed.notify_all()
            return taken

    def close(self) -> None:
        with self._changed:
            self._open = False
            for item in self._items:
                if isinstance(item, Ask | Save):
                    item.future.cancel()
            self._changed.notify_all()

    def _told(self) -> int:
        return sum(isinstance(i, Told) for i in self._items)


def _settle(future: Future[Any], make: Any) -> None:
    """Give a future its result, or its error."""
    if future.set_running_or_notify_cancel():
        try:
            future.set_result(make())
        except MMWorldError as e:
            future.set_exception(e)
