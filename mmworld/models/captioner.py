"""Captions of a stream while it runs: chunks in, a sentence out whenever the policy says."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from mmworld.errors import MediaError, MMWorldError, UsageError
from mmworld.generate.beam import Beam
from mmworld.generate.decode import Generation, after, generate_many
from mmworld.generate.samplers import GREEDY, Sampler
from mmworld.generate.stop import STOP, Stop
from mmworld.media.gate import Media
from mmworld.models.desk import LiveSession, answered
from mmworld.models.events import Failure
from mmworld.models.keep import Keep
from mmworld.models.modality import split
from mmworld.models.opening import Opened, label, open_modality, open_streams
from mmworld.models.segments import Segment, Segments
from mmworld.models.teller import Cutting, S_co
from mmworld.models.world import Item, World
from mmworld.stream.economy import Economy
from mmworld.stream.ops import batched, join, merge, prefetch
from mmworld.stream.policy import TICK, Every, Policy
from mmworld.types import Caption, Chunk, Gap, Source

DEFAULT = Every(5.0)
JOINED = 5.0
"""Seconds of a file that are encoded at once, at most; what is live is encoded as it comes."""
BOUNDED, WINDOW = 60.0, 512
"""A segment that may grow longer than so many seconds keeps only so many blocks."""
BATCH, SHORT = 32, 10.0
"""Inputs captioned side by side, and the longest of them in seconds."""
AHEAD = 40.0
"""Seconds of a file whose segments are captioned side by side; what is live is captioned as it comes."""

Tap = Callable[[Chunk], Any]


@dataclass(frozen=True)
class Short:
    """An input that has been read whole and has one caption."""

    source: str
    chunks: tuple[Chunk, ...]

    @property
    def span(self) -> tuple[float, float]:
        return min(c.start for c in self.chunks), max(c.end for c in self.chunks)


class Captioner:
    """Says what comes in, in segments that tile its time: each caption covers [end of the segment before, now), and
    then the context is cleared. A segment without anything in it, or of which the model says nothing, has no caption.
    The captions do not depend on how the stream is cut into chunks.

    Args:
        world: the model.
        policy: when to speak.
        sampler, prompt, stop: how.
        economy: of a modality, which tokens are worth their place; see `Session`.
        keep: a caption is of all that is remembered by then, which is this; None: of its segment alone.
    """

    waiting = 64

    def __init__(
        self,
        world: World,
        policy: Policy = DEFAULT,
        sampler: Sampler | Beam = GREEDY,
        prompt: str = "",
        stop: Stop = STOP,
        keep: Keep | None = None,
        economy: Mapping[str, Economy] | None = None,
    ) -> None:
        self.world, self.policy, self.sampler, self.prompt, self.stop = world, policy, sampler, prompt, stop
        self.keep, self.economy = keep, economy

    def stream(
        self,
        source: Source | Media | Opened | None = None,
        *,
        start: float = 0.0,
        end: float | None = None,
        fps: float | None = None,
        modalities: Sequence[str] | None = None,
        tap: Tap | None = None,
        **sources: Source,
    ) -> Iterator[Caption]:
        """Captions of one source, or of several that run on one clock (`video="a.mp4", sensor="b.csv"`), as it is read.

        Args:
            start, end: seconds.
            fps: frames looked at a second, at most the model's rate.
            modalities: of `source`, only these.
            tap: is shown every chunk that is read.

        Raises:
            MediaError: from the media; captions of what came before it have been given by then.
            UsageError: neither or both of `source` and `sources` are given.
        """
        if (source is None) == (not sources):
            raise UsageError("give one source, or sources by modality")
        if source is not None:
            opened = open_streams(self.world, source, start=start, end=end, fps=fps, modalities=modalities)
        else:
            parts = [self.open(s, n, start=start, end=end) for n, s in sources.items()]
            chunks = merge(*(p.chunks for p in parts))
            opened = Opened(parts[0].name, tuple(sources), chunks, any(p.live for p in parts))
        return self._stream(opened, start, tap)

    def caption(self, source: Source | Media | Opened | None = None, **options: Any) -> list[Caption]:
        """All captions of `stream`, once it has ended."""
        return list(self.stream(source, **options))

    def stream_many(
        self, sources: Iterable[Source | Media | Opened], *, start: float = 0.0, tap: Tap | None = None, **options: Any
    ) -> Iterator[Caption | Failure]:
        """Captions of one source after another, in order; of a bad one what could be made and then a `Failure`.

        Images, and clips that have one caption, go through the model side by side. Options are those of `stream`.
        """
        ready: list[Short | Failure] = []
        for source in sources:
            found = self._open(source, start, options)
            if not isinstance(found, Opened):
                ready.append(found)
            if isinstance(found, Opened) or len(ready) == BATCH:
                yield from self._side_by_side(ready, tap)
                ready = []
            if isinstance(found, Opened):
                yield from self._to_its_fault(found, start, tap)
        yield from self._side_by_side(ready, tap)

    def open(
        self,
        source: Source | Media | Opened,
        modality: str | None = None,
        *,
        start: float = 0.0,
        end: float | None = None,
        fps: float | None = None,
    ) -> Opened:
        """What of `source` the model takes, or its stream of one modality; errors as of `stream`."""
        if modality is None or isinstance(source, Opened):
            return open_streams(self.world, source, start=start, end=end, fps=fps)
        return open_modality(self.world, modality, source, start=start, end=end, fps=fps)

    def begin(self, modalities: Sequence[str], start: float = 0.0) -> Segments:
        """What cuts a fresh stream of these modalities, that begins at `start` seconds, into segments."""
        window = WINDOW if self.policy.longest > BOUNDED and self.keep is None else None
        session = LiveSession(self.world, modalities=modalities, window=window, keep=self.keep, economy=self.economy)
        return Segments(session, self.policy.start(start), rolling=self.keep is not None)

    def restored(self, values: Mapping[str, Any], start: float = 0.0) -> Segments:
        """What goes on with the stream whose `Segments.leaves` these are."""
        session, judge = LiveSession.restored(self.world, values, economy=self.economy), self.policy.start(start)
        return Segments.restored(session, judge, values, rolling=self.keep is not None)

    def answer(self, segment: Segment, question: str) -> Generation:
        """What the model says of a segment, asked."""
        return answered(self.world, [segment.context], question, self.sampler, self.stop)[0]

    def _stream(self, opened: Opened, start: float, tap: Tap | None) -> Iterator[Caption]:
        segments = self.begin(opened.modalities, start)
        most = 1 if opened.live else max(1, min(BATCH, int(AHEAD / self.policy.longest)))
        with closing(prefetch(self.joined(opened))) as chunks:
            for some in batched(cut(chunks, segments, tap), most):
                yield from self.say(some, opened.name)

    def say(self, segments: Sequence[Segment], source: str) -> Iterator[Caption]:
        """The captions of segments, side by side."""
        contexts = [s.context for s in segments]
        made = answered(self.world, contexts, self.prompt, self.sampler, self.stop)
        for segment, text in zip(segments, made, strict=True):
            if text.text:
                yield Caption(after(self.prompt, text.text), segment.start, segment.end, text.score, source)

    @property
    def identity(self) -> str:
        """What a saved stream goes on with."""
        return repr(self.world.config)

    def after(self, chunk: Chunk, time: float) -> Chunk | None:
        """What of a chunk comes from `time` on; None if nothing does."""
        adapter: Any = self.world.adapters[chunk.modality]
        if not adapter.rate:
            return chunk if chunk.end > time + TICK else None
        rest = split(adapter, chunk, min(round((time - chunk.start) * adapter.rate), len(chunk.data)))[1]
        if chunk.end <= time + TICK and not rest.last:
            return None
        return replace(rest, start=time, end=max(rest.end, time))  # the part of a row that is left is no gap

    def unit(self, modality: str) -> float:
        """Seconds of a block of the modality's encoder."""
        adapter: Any = self.world.adapters[modality]
        return float(adapter.hop)

    def joined(self, opened: Opened) -> Iterator[Chunk | Gap]:
        """The chunks of a source, those of a file in long ones."""
        seconds = min(JOINED, self.policy.longest)
        return opened.chunks if opened.live else join(opened.chunks, seconds, self._joinable(opened))

    def _joinable(self, opened: Opened) -> set[str]:
        return {n for n in opened.modalities if self.world.adapters[n].rate is not None}

    def _to_its_fault(self, opened: Opened, start: float, tap: Tap | None) -> Iterator[Caption | Failure]:
        try:
            yield from self._stream(opened, start, tap)
        except MMWorldError as e:
            yield Failure(opened.name, e)

    def _open(self, source: Source | Media | Opened, start: float, options: dict[str, Any]) -> Opened | Short | Failure:
        try:
            return self._short(open_streams(self.world, source, start=start, **options), start)
        except MMWorldError as e:
            return Failure(label(source), e)

    def _short(self, opened: Opened, start: float) -> Short | Opened:
        """The whole of `opened` if it is short and nothing in it could make the policy speak before its end."""
        if opened.live or not self.policy.timed(opened.modalities):
            return opened
        read: list[Chunk | Gap] = []
        limit = start + min(self.policy.longest, SHORT)
        for chunk in opened.chunks:
            read.append(chunk)
            if chunk.end > limit + TICK:
                return replace(opened, chunks=itertools.chain(read, opened.chunks))
        whole = _whole(read, self._joinable(opened))
        return Short(opened.name, whole) if whole else replace(opened, chunks=iter(read))

    def _side_by_side(self, inputs: Sequence[Short | Failure], tap: Tap | None) -> Iterator[Caption | Failure]:
        given = self.world.prompt(self.prompt)
        items = [Item(i.chunks, given, len(given)) for i in inputs if isinstance(i, Short)]
        made = iter(generate_many(self.world, items, self.sampler, self.stop, batch=BATCH))
        for one in inputs:
            if isinstance(one, Failure):
                yield one
                continue
            if tap is not None:
                for chunk in one.chunks:
                    tap(chunk)
            text = next(made)
            if text.text:
                yield Caption(after(self.prompt, text.text), *one.span, text.score, one.source)


def one_by_one(
    stream: Callable[..., Iterator[Caption]], sources: Iterable[Source | Media], **options: Any
) -> Iterator[Caption | Failure]:
    """What `stream` makes of one source after another; of a bad one what it could make and then a `Failure`."""
    for source in sources:
        try:
            yield from stream(source, **options)
        except MMWorldError as e:
            yield Failure(label(source), e)


def cut(chunks: Iterable[Chunk | Gap], segments: Cutting[S_co], tap: Tap | None) -> Iterator[S_co]:
    """The segments of a stream as it is read; if it ends in a fault, of what came before it, and then the fault."""
    try:
        for chunk in chunks:
            if tap is not None and isinstance(chunk, Chunk):
                tap(chunk)
            yield from segments.take(chunk)
    except MediaError:
        yield from segments.finish()
        raise
    yield from segments.finish()


def _whole(chunks: Sequence[Chunk | Gap], joinable: set[str]) -> tuple[Chunk, ...]:
    """The streams in one chunk each; nothing where that cannot be."""
    streams: dict[str, list[Chunk]] = defaultdict(list)
    for chunk in chunks:
        if isinstance(chunk, Gap):
            return ()
        streams[chunk.modality].append(chunk)
    if any(len(parts) > 1 and name not in joinable for name, parts in streams.items()):
        return ()
    return tuple(join((c for c in chunks if isinstance(c, Chunk)), float("inf"), joinable))
