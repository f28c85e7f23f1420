"""A model that listens for as long as its sources last, and speaks while it listens."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmworld.errors import UsageError
from mmworld.models.events import STALL, Answer, Event, Stall
from mmworld.models.hindsight import Hindsight
from mmworld.models.jobs import Ask, Jobs, Save
from mmworld.models.left import fresh, read
from mmworld.models.opening import Opened
from mmworld.models.outbox import Outbox
from mmworld.models.perceiver import Perceiver
from mmworld.models.segments import Segments
from mmworld.models.teller import Teller
from mmworld.models.voice import Voice
from mmworld.models.watchdog import Watchdog
from mmworld.stream.intake import Feed, Intake, Lane, Pressure
from mmworld.stream.memory import Memory
from mmworld.stream.unbroken import unbroken
from mmworld.types import Caption, Chunk, Gap


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
        left = fresh(teller, names, start, len(sources)) if resume is None else read(resume, teller, names, start)
        self._teller, self._alarm = teller, alarm
        left.segments.provisional = provisional
        self.before, self._outbox = left.before, Outbox(left.before, left.untold)
        self._resumed = left.before.captions + sum(isinstance(e, Caption) for e in left.untold)
        feeds = [
            _feed(teller, s if odd else _later(s, since), real_time)
            for s, since, odd in zip(sources, left.since, left.repaired, strict=True)
        ]
        self.pressure: Pressure = pressure if any(f.live or f.real_time for f in feeds) else "block"
        self._jobs = Jobs(teller.waiting, drop=self.pressure != "block")
        if hindsight is not None and isinstance(left.segments, Segments):
            left.segments.passing = self._jobs.keep
        self._intake = Intake(
            feeds, pressure=self.pressure, patience=patience, since=left.since, trim=teller.after, unit=teller.unit
        )
        self._perceiver = Perceiver(left, sources, self._intake, self._jobs, tap)
        self._voice = Voice(teller, sources[0].name, self._jobs, self._outbox, left.agreement, memory, hindsight)
        self._memory, self._open = memory, True
        runs = {"perceive": self._perceiver.run, "speak": self._voice.run}
        self._threads = [threading.Thread(target=run, daemon=True, name=name) for name, run in runs.items()]
        pulses = [*(lane.pulse for lane in self.lanes), self._perceiver.pulse, self._voice.pulse, self._outbox.pulse]
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
        return self._post(Save(path, Future(), {"model": self._teller.identity}))

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
        return self._perceiver.segments.clock

    @property
    def nbytes(self) -> int:
        """Bytes of tensors that are held of what has been perceived."""
        return self._perceiver.segments.nbytes

    @property
    def tokens(self) -> dict[str, tuple[int, int]]:
        """Of each modality, how many tokens its encoder made, and how many of them went on, which an `Economy` decides;
        of none where the model is borrowed."""
        return self._perceiver.segments.tokens

    @property
    def unsaid(self) -> int:
        """Segments of which nothing was said, as the speaking was too slow."""
        return self._jobs.dropped

    @property
    def stalls(self) -> tuple[Stall, ...]:
        """What hangs now; see `stall`."""
        return self._watchdog.stalls

    @property
    def captions(self) -> int:
        """How many were made, before it was resumed and since."""
        return self._resumed + self._voice.captions

    def delay(self, part: float) -> float:
        """Seconds within which this part of the captions came, counted from when what ended each was there."""
        return self._voice.delay(part)

    def _post(self, message: Any) -> Any:
        if not self._open:
            raise UsageError("this stream was closed")
        self._intake.post(message)
        return message.future

    def _stalled(self, stall: Stall) -> None:
        self._outbox.offer(stall)
        if self._alarm is not None:
            self._alarm(stall)


def _feed(teller: Teller[Any], source: Opened, real_time: bool) -> Feed:
    """What is live comes as it is, its holes marked; a file in long chunks unless it is played like one."""
    chunks: Iterable[Chunk | Gap] = source.chunks
    if source.live:
        chunks = unbroken(source.chunks, source.name)
    elif not real_time:
        chunks = teller.joined(source)
    return Feed(source.name, source.modalities, chunks, source.live, real_time and not source.live)


def _later(source: Opened, left: Mapping[str, float]) -> Opened:
    """A source from about where its streams were left on, as far as that gives the same; nothing of one that ended."""
    time = min(left.values(), default=-math.inf)
    if source.since is None or time == -math.inf:
        return source
    return replace(source, chunks=source.since(time) if time < math.inf else iter(()))
