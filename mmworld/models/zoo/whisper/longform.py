"""Transcripts of sounds of any length, window by window (Radford et al. 2022, section 4.5)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mmworld.generate.decode import Generation
from mmworld.models.zoo.conversation import like, vocabulary
from mmworld.models.zoo.whisper.decoding import DECODING, Decoding, Window
from mmworld.models.zoo.whisper.marks import STEP
from mmworld.models.zoo.whisper.model import Whisper
from mmworld.models.zoo.whisper.timing import moments, words
from mmworld.types import Caption

FRAME = 0.01
"""Seconds of a frame; a time that can be said is two."""
TINY = 1e-6
WARM = 0.5
"""What was decoded at this temperature or above is not what the next window is told of."""


class Windowed(Protocol):
    """A sound that is read window by window."""

    def window(self, at: int) -> tuple[Tensor, int]:
        """Frames [T, M] from frame `at` on, and how many of them are of the sound."""
        ...


@dataclass(frozen=True)
class Stretch:
    """Ids that were said together, from `start` to `end` seconds in their window."""

    first: int
    last: int
    start: float
    end: float


Quiet = Callable[[float, float], float]
"""Seconds from one time of a sound on, at most until another, in which nobody speaks."""


@torch.no_grad()
def transcribe(
    model: Whisper,
    sound: Windowed,
    how: Decoding = DECODING,
    *,
    quiet: Quiet | None = None,
    start: float = 0.0,
    source: str = "",
) -> Iterator[Caption]:
    """What is said, as it is found out: each window begins where the last time said in the one before it is.

    Args:
        quiet: what is not listened to; asked of times that the windows have come to.
        start: seconds at which the sound begins.
        source: name that each segment bears.

    Raises:
        UsageError: the model has no vocabulary or special tokens, or not the language or task.
    """
    language = None if how.language is None else model.marks.language(how.language)
    before = vocabulary(model).encode(f" {how.prompt.strip()}", whole=False) if how.prompt else []
    at, told = 0, True
    while (found := sound.window(at))[1] > 0:
        mel, n = found
        if quiet and (skipped := int(quiet(at * FRAME, (at + n) * FRAME) / FRAME + TINY)):
            at += skipped
            continue
        heard = model.encode(like(model, mel)[None])
        if how.language is None and language is None:
            language = next(iter(model.languages(heard)), None)
        window = Window(model, how, heard, language, before if told else [])
        made, temperature = window.likely(seed=at)
        told = how.previous and temperature < WARM
        parts, step = stretches(made.ids, model.marks.zero, n) if made else ([], n)
        if made:
            before = [*before, *made.ids[: parts[-1].last]][-model.config.max_target_positions :]
            yield from _captions(window, made, parts, n, start + at * FRAME, source)
        at += step or n


def stretches(ids: Sequence[int], zero: int, n: int) -> tuple[list[Stretch], int]:
    """The stretches of a window of n frames that pairs of times part, and the frames to go on to: those up to the last
    pair, whose rest is said again in the next window, or all where the window ends in one time, or has no pair.
    """
    times = [i >= zero for i in ids]
    pairs = [k + 1 for k in range(len(ids) - 1) if times[k] and times[k + 1]]
    if not pairs:
        last = next((i - zero for i in reversed(ids) if i > zero), n // 2)
        return [Stretch(0, len(ids), 0.0, last * STEP)], n
    over = times[-2:] == [False, True]
    ends = [*pairs, len(ids)] if over else pairs
    parts = [
        Stretch(first, last, (ids[first] - zero) * STEP, (ids[last - 1] - zero) * STEP)
        for first, last in zip([0, *ends], ends, strict=False)
    ]
    return parts, n if over else 2 * (ids[pairs[-1] - 1] - zero)


def _captions(
    window: Window, made: Generation, parts: Sequence[Stretch], n: int, offset: float, source: str
) -> Iterator[Caption]:
    """The stretches with words in them, of a window of n frames that begins at `offset` seconds."""
    spans = [(offset + a, offset + b) for a, b in _spans(window, made.ids, n)] if window.how.words else []
    for part in parts:
        places = [k for k in range(part.first, part.last) if made.ids[k] < window.model.marks.end]
        ids = [made.ids[k] for k in places]
        if text := window.decode(ids).strip():
            timed = words(window.decode, ids, [spans[k] for k in places], window.language) if spans else []
            times = offset + part.start, offset + max(part.start, part.end)
            yield Caption(text, *times, made.score, source, tuple(timed), window.language or "en")


def _spans(window: Window, ids: Sequence[int], n: int) -> list[tuple[float, float]]:
    """Seconds from and to which each id was said, in a window of n frames. As in the reference, an id counts as
    said when it is read, and the last one that fits is never read.
    """
    read = [*window.ids, *ids[: window.most - 1]]
    weights = window.model.following(read, window.state)[:, len(window.ids) :, : n // 2]
    ends = moments(weights) if weights.numel() else [0.0]
    ends += ends[-1:] * (len(ids) - len(ends))
    return list(zip([0.0, *ends], ends, strict=False))
