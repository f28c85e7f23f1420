"""What is asked of who tells of a live stream: our own models and borrowed ones alike."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from mmworld.generate.decode import Generation
from mmworld.media.gate import Media
from mmworld.models.opening import Opened
from mmworld.types import Caption, Chunk, Gap, Source


class Span(Protocol):
    """A segment: [start, end) seconds of a stream, and what there is of them."""

    @property
    def start(self) -> float: ...

    @property
    def end(self) -> float: ...

    @property
    def empty(self) -> bool:
        """Whether there is nothing in it."""
        ...

    @property
    def final(self) -> bool:
        """Whether it has ended; one that has not goes on."""
        ...


S = TypeVar("S", bound=Span)
S_co = TypeVar("S_co", bound=Span, covariant=True)


class Cutting(Protocol[S_co]):
    """One stream of any mixture, cut into segments as it comes: what is held of it, bounded.

    Attributes:
        provisional: seconds, every so many of which a segment is given as it is by then, too; inf: only at its end.
    """

    provisional: float

    @property
    def clock(self) -> float:
        """Seconds up to which every stream has been received; -inf before all have begun."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes of tensors held."""
        ...

    @property
    def tokens(self) -> dict[str, tuple[int, int]]:
        """Of each stream, how many tokens its encoder made, and how many of them went on; of none whose model makes its
        own."""
        ...

    @property
    def open(self) -> Collection[str]:
        """The streams of which chunks may still come."""
        ...

    def take(self, item: Chunk | Gap) -> Iterator[S_co]:
        """The segments that the next chunk ends, or the next gap."""
        ...

    def close(self, name: str) -> Iterator[S_co]:
        """The segments that end as the stream `name` does."""
        ...

    def finish(self) -> Iterator[S_co]:
        """The segment of the rest."""
        ...

    def now(self) -> S_co:
        """What has come of the segment so far; what goes on does not change it."""
        ...

    def leaves(self) -> dict[str, Any]:
        """All that is remembered, by name, `modalities` among it."""
        ...


class Teller(Protocol[S]):
    """Says what there is in segments.

    Attributes:
        waiting: segments that may wait to be told of.
    """

    waiting: int

    @property
    def identity(self) -> str:
        """What a saved stream goes on with: the same in every process."""
        ...

    def open(
        self,
        source: Source | Media | Opened,
        modality: str | None = None,
        *,
        start: float = 0.0,
        end: float | None = None,
        fps: float | None = None,
    ) -> Opened:
        """What of a source the model takes, or its stream of one modality."""
        ...

    def joined(self, opened: Opened) -> Iterator[Chunk | Gap]:
        """The chunks of a source, as long as they are best perceived."""
        ...

    def after(self, chunk: Chunk, time: float) -> Chunk | None:
        """What of a chunk comes from `time` on; None if nothing does."""
        ...

    def unit(self, modality: str) -> float:
        """Seconds of a stream of frames that are perceived as one; 0: what comes in one chunk is."""
        ...

    def begin(self, modalities: Sequence[str], start: float = 0.0) -> Cutting[S]:
        """What cuts a fresh stream of these modalities, that begins at `start` seconds, into segments."""
        ...

    def restored(self, values: Mapping[str, Any], start: float = 0.0) -> Cutting[S]:
        """What goes on with the stream whose `leaves` these are."""
        ...

    def say(self, segments: Sequence[S], source: str) -> Iterator[Caption]:
        """The captions of segments, in order."""
        ...

    def answer(self, segment: S, question: str) -> Generation:
        """What the model says of a segment, asked."""
        ...
