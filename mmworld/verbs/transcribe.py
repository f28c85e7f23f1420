"""What is said in a sound or a film: `for segment in mmworld.transcribe(path, model=…)`."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any, Protocol

from torch import Tensor

from mmworld.errors import MediaError
from mmworld.media.audio import samples
from mmworld.media.gate import Media, open_media
from mmworld.media.sound import Samples
from mmworld.modalities.audio.speech import Heard, Hysteresis
from mmworld.modalities.audio.vad import SileroVAD
from mmworld.models.captioner import Failure, Tap, one_by_one
from mmworld.models.message import RATE
from mmworld.models.zoo.whisper.decoding import DECODING, Decoding
from mmworld.models.zoo.whisper.longform import Quiet
from mmworld.stream.ops import prefetch
from mmworld.types import Caption, Chunk, Source
from mmworld.verbs.model import able, loaded

SPOKEN = Hysteresis(silence=0.5, margin=0.2)
"""What is listened to: with pauses between words, and somewhat more."""


class Scribe(Protocol):
    """A model that writes down what is said."""

    def transcribe(
        self,
        sound: Iterable[Tensor],
        how: Decoding,
        *,
        quiet: Quiet | None = None,
        start: float = 0.0,
        source: str = "",
    ) -> Iterator[Caption]:
        """What is said in samples [S] at `RATE`, which begin at `start` seconds, as it is found out, without what is
        quiet.
        """
        ...


def transcribe(
    source: Source | Media,
    *,
    model: str | os.PathLike[str] | Scribe,
    language: str | None = None,
    task: str = "transcribe",
    words: bool = False,
    vad: str | os.PathLike[str] | SileroVAD | None = None,
    device: str = "cpu",
    start: float = 0.0,
    end: float | None = None,
    tap: Tap | None = None,
    **options: Any,
) -> Iterator[Caption]:
    """Segments of what is said in a sound or a film, as it is read: no more than a window of it is ever held.

    Args:
        source: a path, bytes, a binary file, a `data:` address.
        model: a folder or a name on the hub, or a model: a Whisper.
        language: name or code; None is the one that is spoken in the first window.
        task: "transcribe", or "translate" into English.
        words: whether segments have their words, with the times of each.
        vad: a voice activity detector, or its file (Silero's ONNX): where nobody speaks, nothing is listened to.
        start, end: seconds.
        tap: is shown every chunk that is read.
        options: others of `Decoding`: width, temperatures, limits, prompt.

    Raises:
        CheckpointError: there is no such model.
        UsageError: the model does not transcribe, or not this language or task.
        MediaError: the source is refused, or ends in a fault; what was said before it has been given by then.
    """
    how = Decoding(language, task, words, **options)
    return Transcriber(loaded(model, device), how, vad).stream(source, start=start, end=end, tap=tap)


def languages(
    source: Source | Media, *, model: Any, device: str = "cpu", start: float = 0.0, end: float | None = None
) -> dict[str, float]:
    """How likely each language is spoken in the first window of a sound or a film, by its code, the likeliest first.

    Raises:
        CheckpointError, UsageError, MediaError: as `transcribe`.
    """
    listener = able(loaded(model, device), "spoken", "tell what language is spoken", "transcribe")
    read = samples(open_media(source), rate=RATE, start=start, end=end, mono=True)
    found: dict[str, float] = listener.spoken(piece.data[:, 0] for piece in read)
    return found


class Transcriber:
    """Writes down what is said, as `Captioner` says what comes in.

    Args:
        model: see `Scribe`.
        how: language, task, and how it is decoded.
        vad: tells where nobody speaks.
    """

    def __init__(
        self,
        model: Any,
        how: Decoding = DECODING,
        vad: str | os.PathLike[str] | SileroVAD | None = None,
    ) -> None:
        self.model: Scribe = able(model, "transcribe", "write down what is said", "transcribe")
        self.how = how
        self.vad = SileroVAD.load(os.fspath(vad)) if isinstance(vad, str | os.PathLike) else vad

    def stream(
        self, source: Source | Media, *, start: float = 0.0, end: float | None = None, tap: Tap | None = None
    ) -> Iterator[Caption]:
        """Segments of `source`; arguments and errors as of `transcribe`."""
        media, faults = open_media(source), list[MediaError]()
        with closing(prefetch(samples(media, rate=RATE, start=start, end=end, mono=True))) as read:
            pieces = _to_its_fault(read, faults)
            if (first := next(pieces, None)) is not None:
                heard = (_shown(piece, tap) for piece in itertools.chain([first], pieces))
                yield from self._said(heard, first.time, media.name)
        if faults:
            raise faults[0]

    def _said(self, pieces: Iterator[Tensor], start: float, source: str) -> Iterator[Caption]:
        if self.vad is None:
            return self.model.transcribe(pieces, self.how, start=start, source=source)
        heard = Heard(pieces, self.vad, SPOKEN)
        return self.model.transcribe(heard, self.how, quiet=heard.quiet, start=start, source=source)

    def stream_many(self, sources: Iterable[Source | Media], **options: Any) -> Iterator[Caption | Failure]:
        """Segments of one source after another; of a bad one what could be heard and then a `Failure`."""
        return one_by_one(self.stream, sources, **options)


def _to_its_fault(pieces: Iterator[Samples], faults: list[MediaError]) -> Iterator[Samples]:
    """The pieces; a fault in the reading ends them, and is put into `faults`."""
    try:
        yield from pieces
    except MediaError as e:
        faults.append(e)


def _shown(piece: Samples, tap: Tap | None) -> Tensor:
    if tap is not None:
        tap(Chunk(piece.data, piece.time, piece.time + len(piece.data) / RATE, "audio"))
    return piece.data[:, 0]
