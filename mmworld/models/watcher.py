"""Captions of a stream by a borrowed model: it is shown each segment when the segment has ended."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, Generic

import torch

from mmworld.generate.beam import Beam
from mmworld.generate.decode import Generation, after, decode
from mmworld.generate.samplers import GREEDY, Sampler
from mmworld.generate.stop import STOP, Stop
from mmworld.media.gate import Media
from mmworld.models import pieces
from mmworld.models.captioner import DEFAULT, Failure, Tap, cut, one_by_one
from mmworld.models.looking import look
from mmworld.models.message import Assistant, Message, Part
from mmworld.models.opening import Opened
from mmworld.models.scenes import Scene, Scenes
from mmworld.models.teller import Cutting, S
from mmworld.stream.ops import prefetch
from mmworld.stream.policy import Policy
from mmworld.types import Caption, Chunk, Gap, Source

FASTEST = 8.0
"""Frames looked at a second, at most."""


class Borrowed(ABC, Generic[S]):
    """What says what comes in, as `Captioner` does with a model of ours: captions of segments that tile the time.

    `OnChange` goes by the picture: by small, centred copies of its frames. One kind of it gives what cuts a stream into
    segments, and what is said of one.

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

    waiting = 4  # each holds whole frames

    def stream(
        self,
        source: Source | Media | Opened,
        *,
        start: float = 0.0,
        end: float | None = None,
        fps: float | None = None,
        modalities: Sequence[str] | None = None,
        tap: Tap | None = None,
    ) -> Iterator[Caption]:
        """Captions of `source` as it is read; arguments and errors as of `Captioner.stream`."""
        opened = self._opened(source, modalities, start, end, fps)
        with closing(prefetch(opened.chunks)) as chunks:
            for scene in cut(chunks, self.begin(opened.modalities, start), tap):
                yield from self.say([scene], opened.name)

    def caption(self, source: Source | Media, **options: object) -> list[Caption]:
        """All captions of `stream`, once it has ended."""
        return list(self.stream(source, **options))  # type: ignore[arg-type]

    def stream_many(self, sources: Iterable[Source | Media], **options: object) -> Iterator[Caption | Failure]:
        """Captions of one source after another; of a bad one what could be made and then a `Failure`."""
        return one_by_one(self.stream, sources, **options)

    @property
    def identity(self) -> str:
        """What a saved stream goes on with: what is held of it is as the model takes it, and nothing of the model."""
        return f"{type(self.model).__name__} {self.model.takes}"

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
        return self._opened(source, None if modality is None else (modality,), start, end, fps)

    def joined(self, opened: Opened) -> Iterator[Chunk | Gap]:
        """The chunks of a source."""
        return opened.chunks

    def after(self, chunk: Chunk, time: float) -> Chunk | None:
        """What of a chunk comes from `time` on; None if nothing does."""
        return pieces.after(chunk, time)

    def unit(self, modality: str) -> float:
        """A frame is shown by itself."""
        return 0.0

    @abstractmethod
    def begin(self, modalities: Sequence[str], start: float = 0.0) -> Cutting[S]:
        """What cuts a fresh stream of these modalities, that begins at `start` seconds, into segments."""

    @abstractmethod
    def restored(self, values: Mapping[str, Any], start: float = 0.0) -> Cutting[S]:
        """What goes on with the stream whose leaves these are."""

    @abstractmethod
    def say(self, segments: Sequence[S], source: str) -> Iterator[Caption]:
        """The captions of segments, one after the other."""

    @abstractmethod
    def answer(self, segment: S, question: str) -> Generation:
        """What the model says of a segment, asked; UsageError if it cannot be asked so."""

    @abstractmethod
    def rate(self) -> float:
        """Frames looked at a second, if nothing is said."""

    def _opened(
        self,
        source: Source | Media | Opened,
        modalities: Sequence[str] | None,
        start: float,
        end: float | None,
        fps: float | None,
    ) -> Opened:
        if isinstance(source, Opened):
            return source
        return look(source, self.model.takes, fps=fps or self.rate(), start=start, end=end, modalities=modalities)


class Watcher(Borrowed[Scene]):
    """It is shown each segment when the segment has ended."""

    def begin(self, modalities: Sequence[str], start: float = 0.0) -> Scenes:
        """What cuts a fresh stream of these modalities, that begins at `start` seconds, into segments."""
        return Scenes(self.model.takes, modalities, self.policy.start(start))

    def restored(self, values: Mapping[str, Any], start: float = 0.0) -> Scenes:
        """What goes on with the stream whose `Scenes.leaves` these are."""
        return Scenes.restored(self.model.takes, self.policy.start(start), values)

    def say(self, segments: Sequence[Scene], source: str) -> Iterator[Caption]:
        """The captions of segments, one after the other."""
        for scene in segments:
            made = self._made(scene.parts, self.prompt)
            if made.text:
                yield Caption(after(self.prompt, made.text), scene.start, scene.end, made.score, source)

    def answer(self, segment: Scene, question: str) -> Generation:
        """What the model says of a segment, asked; UsageError if it cannot be asked so."""
        return self._made((*segment.parts, question))

    @torch.no_grad()
    def _made(self, parts: tuple[Part, ...], prompt: str = "") -> Generation:
        begun = [Message("assistant", (prompt,))] if prompt else []
        state, logits = self.model.begin([Message("user", parts), *begun])
        return decode(self.model, state, logits, self.sampler, self.stop)[0]

    def rate(self) -> float:
        """Frames a second: twice as many as are shown of a segment."""
        takes = self.model.takes
        return min(FASTEST, max(1.0, 2 * takes.frames / min(self.policy.longest, takes.seconds)))
