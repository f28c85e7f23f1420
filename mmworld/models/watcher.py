"""Captions of a stream by a borrowed model: it is shown each segment when the segment has ended."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from mmworld.generate.beam import Beam
from mmworld.generate.decode import after, decode
from mmworld.generate.samplers import GREEDY, Sampler
from mmworld.generate.stop import STOP, Stop
from mmworld.media.gate import Media
from mmworld.models.captioner import DEFAULT, Failure, Tap, one_by_one
from mmworld.models.looking import film, look
from mmworld.models.message import RATE, Assistant, Message
from mmworld.stream.ops import prefetch
from mmworld.stream.policy import TICK, Judge, Policy
from mmworld.stream.spread import Spread
from mmworld.types import Caption, Chunk, Source, Takes

SPARE = 4
"""Frames kept of a segment for each that is shown, so that those shown lie evenly in it."""
FASTEST = 8.0
"""Frames looked at a second, at most."""
HALF = 0.5 / RATE
"""Seconds of half a sample: what is nearer to an end begins there."""
THUMB = 8
"""Side of the picture by which a change is seen."""


@dataclass
class Segment:
    """What has been seen and heard since `start`, bounded in frames; of sound the model's `seconds` bound it."""

    takes: Takes
    start: float
    end: float = -math.inf
    frames: Spread[Tensor] = field(init=False)
    others: list[Chunk] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.frames = Spread(SPARE * self.takes.frames)
        self.end = self.start

    def __bool__(self) -> bool:
        return bool(self.frames.values or self.others)

    def add(self, chunk: Chunk) -> None:
        self.end = max(self.end, chunk.end)
        if chunk.modality == "video":
            self.frames.add(chunk.start, lambda: chunk.data[0])
        else:
            self.others.append(chunk)

    def parts(self, end: float) -> tuple[Chunk, ...]:
        """As a message shows it."""
        shown = film(self.takes, self.frames.even(self.takes.frames, self.start, end), self.start, end)
        heard = [c for c in self.others if c.modality == "audio"]
        if heard:
            sound = torch.cat([c.data for c in heard])
            shown.append(Chunk(sound, heard[0].start, heard[-1].end, "audio"))
        return (*shown, *(c for c in self.others if c.modality != "audio"))


class Watcher:
    """Says what comes in, as `Captioner` does with a model of ours: captions of segments that tile the time.

    `OnChange` goes by the picture: by small, centred copies of its frames.

    Args:
        model: borrowed, with a vocabulary and what prepares what it is shown.
        policy: when to speak.
        sampler, stop: how.
        prompt: how each caption begins.
    """

    def __init__(
        self,
        model: Assistant,
        policy: Policy = DEFAULT,
        sampler: Sampler | Beam = GREEDY,
        prompt: str = "",
        stop: Stop = STOP,
    ) -> None:
        self.model, self.policy, self.sampler, self.prompt, self.stop = model, policy, sampler, prompt, stop

    def stream(
        self,
        source: Source | Media,
        *,
        start: float = 0.0,
        end: float | None = None,
        fps: float | None = None,
        modalities: Sequence[str] | None = None,
        tap: Tap | None = None,
    ) -> Iterator[Caption]:
        """Captions of `source` as it is read; arguments and errors as of `Captioner.stream`."""
        takes = self.model.takes
        rate = fps or min(FASTEST, max(1.0, 2 * takes.frames / min(self.policy.longest, takes.seconds)))
        opened = look(source, takes, fps=rate, start=start, end=end, modalities=modalities)
        with closing(prefetch(opened.chunks)) as chunks:
            for segment, until in segments(_tapped(chunks, tap), takes, self.policy.start(start)):
                yield from self._say(segment.parts(until), segment.start, until, opened.name)

    def caption(self, source: Source | Media, **options: object) -> list[Caption]:
        """All captions of `stream`, once it has ended."""
        return list(self.stream(source, **options))  # type: ignore[arg-type]

    def stream_many(self, sources: Iterable[Source | Media], **options: object) -> Iterator[Caption | Failure]:
        """Captions of one source after another; of a bad one what could be made and then a `Failure`."""
        return one_by_one(self.stream, sources, **options)

    @torch.no_grad()
    def _say(self, parts: Sequence[Chunk], start: float, end: float, source: str) -> Iterator[Caption]:
        begun = [Message("assistant", (self.prompt,))] if self.prompt else []
        state, logits = self.model.begin([Message("user", tuple(parts)), *begun])
        (made,) = decode(self.model, state, logits, self.sampler, self.stop)
        if made.text:
            yield Caption(after(self.prompt, made.text), start, end, made.score, source)


def segments(chunks: Iterable[Chunk], takes: Takes, judge: Judge) -> Iterator[tuple[Segment, float]]:
    """What is to be told of, and until when: the segments that the judge asks for, none longer than the model takes."""
    held: Segment | None = None
    told = -math.inf  # until when
    for whole in chunks:
        judge.hear(whole, RATE)
        left: Chunk | None = whole
        while left is not None:
            if held is not None and left.start >= _due(held, judge) - (HALF if left.modality == "audio" else TICK):
                told = _due(held, judge)
                yield held, told
                held = None
            if held and _changed(judge, left):
                told = left.start
                yield held, told
                held = None
            if held is None:
                now = max(left.start, told)
                held = Segment(takes, max(told, judge.restart(now, now + 2 * TICK)))
            first, left = _cut(left, _due(held, judge))
            held.add(first)
    if held and (told == -math.inf or held.end - held.start >= judge.least):
        yield held, min(held.end, _due(held, judge))


def _due(segment: Segment, judge: Judge) -> float:
    return min(judge.due, segment.start + segment.takes.seconds)


def _cut(chunk: Chunk, at: float) -> tuple[Chunk, Chunk | None]:
    """Sound up to a time, and the rest of it; anything else is of the segment in which it begins."""
    n = round((at - chunk.start) * RATE) if chunk.modality == "audio" and at < chunk.end - TICK else len(chunk.data)
    if n >= len(chunk.data):
        return chunk, None
    at = chunk.start + n / RATE
    return replace(chunk, data=chunk.data[:n], end=at), replace(chunk, data=chunk.data[n:], start=at)


def _changed(judge: Judge, chunk: Chunk) -> bool:
    if chunk.modality != "video":
        return False
    small = F.adaptive_avg_pool2d(chunk.data[0].float(), THUMB).flatten()
    return judge.changed(chunk.modality, (small - small.mean())[None], chunk.end)


def _tapped(chunks: Iterable[Chunk], tap: Tap | None) -> Iterator[Chunk]:
    for chunk in chunks:
        if tap is not None:
            tap(chunk)
        yield chunk
