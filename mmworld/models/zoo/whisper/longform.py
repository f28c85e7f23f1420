"""Transcripts of sounds of any length, window by window (Radford et al. 2022, section 4.5)."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from mmworld.generate.beam import Beam
from mmworld.generate.decode import Generation, decode
from mmworld.generate.rules import Prefix, Rule, Suppress
from mmworld.generate.samplers import Greedy, Pick, Sample, Sampler
from mmworld.generate.stop import Stop
from mmworld.models.zoo.conversation import like, row, vocabulary
from mmworld.models.zoo.whisper.marks import STEP
from mmworld.models.zoo.whisper.model import Whisper
from mmworld.models.zoo.whisper.timing import moments, words
from mmworld.nn.state import KVState
from mmworld.types import Caption

FRAME = 0.01
"""Seconds of a frame; a time that can be said is two."""
TINY = 1e-6
WARM = 0.5
"""What was decoded at this temperature or above is not what the next window is told of."""


@dataclass(frozen=True)
class Decoding:
    """How a transcript is decoded.

    Attributes:
        language: name or code; None is the one that is spoken in the first window.
        task: "transcribe", or "translate" into English.
        words: whether each word has its times.
        width: of the search at temperature 0; 1 takes the likeliest id each time.
        temperatures: tried one after the other, until a text is likely and does not repeat itself.
        compression: times that the text may be longer than compressed; None is no limit.
        log_p: least mean log-probability of the ids; None is no limit.
        no_speech: probability of silence from which on a text that is not likely is none; None is never.
        previous: whether each window is told the words before it.
        prompt: words that are said to have gone before.
    """

    language: str | None = None
    task: str = "transcribe"
    words: bool = False
    width: int = 1
    temperatures: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    compression: float | None = 2.4
    log_p: float | None = -1.0
    no_speech: float | None = 0.6
    previous: bool = True
    prompt: str = ""

    def __post_init__(self) -> None:
        if not self.temperatures or min(self.temperatures) < 0:
            raise ValueError(f"temperatures must be some numbers from 0 up, are {self.temperatures}")


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
    how: Decoding = Decoding(),
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
        window = _Window(model, how, heard, language, before if told else [])
        made, temperature = window.likely(seed=at)
        told = how.previous and temperature < WARM
        parts, step = stretches(made.ids, model.marks.zero, n) if made else ([], n)
        if made:
            before = [*before, *made.ids[: parts[-1].last]][-model.config.max_target_positions :]
            yield from window.captions(made, parts, n, start + at * FRAME, source)
        at += step


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


def left(texts: Sequence[Prefix], scores: Tensor) -> Tensor:
    """A rule: how likely ids are among those that other rules leave."""
    return scores.log_softmax(-1)


class Noted:
    """A sampler of one row that notes how likely its picks were among what the rules leave."""

    def __init__(self, sampler: Sampler) -> None:
        self.sampler, self.log_p = sampler, list[float]()

    @property
    def rules(self) -> tuple[Rule, ...]:
        return self.sampler.rules

    def start(self) -> Pick:
        pick = self.sampler.start()

        def noted(scores: Tensor) -> Tensor:
            ids = pick(scores)
            self.log_p.append(float(scores.log_softmax(-1)[0, ids[0]]))
            return ids

        return noted


class _Window:
    """The text of one window.

    Args:
        heard: what the encoder made of it [1, N, D].
        before: ids that went before.
    """

    def __init__(
        self, model: Whisper, how: Decoding, heard: Tensor, language: str | None, before: Sequence[int]
    ) -> None:
        self.model, self.how, self.language, marks = model, how, language, model.marks
        most = model.config.max_target_positions // 2 - 1
        opened = [marks.previous] if marks.previous is not None and before else []
        self.ids = [*opened, *before[-most:]]
        begin = len(self.ids)
        self.ids += marks.begin(language, how.task, times=True)
        self.state = KVState()
        logits = model(row(model, self.ids), heard, self.state)[0]
        self.silence = float(logits[begin].float().softmax(-1)[marks.speech])
        self.logits = model.sayable(logits[-1:])
        self.most = model.config.max_target_positions - len(self.ids)

    def likely(self, seed: int) -> tuple[Generation | None, float]:
        """The first text that will do, or the last that was tried, and its temperature; no text where it is silent."""
        for temperature in self.how.temperatures:
            made = self._text(temperature, seed)
            unlikely = self.how.log_p is not None and made.score < self.how.log_p
            if unlikely and self.how.no_speech is not None and self.silence > self.how.no_speech:
                return None, temperature
            if not unlikely and not self._repeats(made.ids):
                break
        return made, temperature

    def _text(self, temperature: float, seed: int) -> Generation:
        """Its score is of what the rules leave, before the temperature."""
        marks, stop, model = self.model.marks, Stop(self.most), self.model
        rules = (Suppress(marks.first, first=1), marks.times)
        if not temperature and self.how.width > 1:
            (made,) = decode(model, self.state.fork(), self.logits, Beam(self.how.width, 1.0, (*rules, left)), stop)
            return made
        sampler = Noted(Sample(temperature, seed=seed, rules=rules) if temperature else Greedy(rules))
        (made,) = decode(model, self.state.fork(), self.logits, sampler, stop)
        return replace(made, score=sum(sampler.log_p) / len(sampler.log_p))

    def captions(
        self, made: Generation, parts: Sequence[Stretch], n: int, offset: float, source: str
    ) -> Iterator[Caption]:
        """The stretches with words in them, of a window of n frames that begins at `offset` seconds."""
        spans = [(offset + a, offset + b) for a, b in self._spans(made.ids, n)] if self.how.words else []
        for part in parts:
            places = [k for k in range(part.first, part.last) if made.ids[k] < self.model.marks.end]
            ids = [made.ids[k] for k in places]
            if text := self._decode(ids).strip():
                timed = words(self._decode, ids, [spans[k] for k in places], self.language) if spans else []
                times = offset + part.start, offset + max(part.start, part.end)
                yield Caption(text, *times, made.score, source, tuple(timed), self.language or "en")

    def _spans(self, ids: Sequence[int], n: int) -> list[tuple[float, float]]:
        """Seconds from and to which each id was said, in a window of n frames. As in the reference, an id counts as
        said when it is read, and the last one that fits is never read.
        """
        read = [*self.ids, *ids[: self.most - 1]]
        weights = self.model.following(read, self.state)[:, len(self.ids) :, : n // 2]
        ends = moments(weights) if weights.numel() else [0.0]
        ends += ends[-1:] * (len(ids) - len(ends))
        return list(zip([0.0, *ends], ends, strict=False))

    def _decode(self, ids: Sequence[int]) -> str:
        """The words among ids."""
        return vocabulary(self.model).decode([i for i in ids if i < self.model.marks.end])

    def _repeats(self, ids: Sequence[int]) -> bool:
        text = self._decode(ids).encode()
        return self.how.compression is not None and len(text) > self.how.compression * len(zlib.compress(text))
