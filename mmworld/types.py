"""The values that flow through mmworld. Times are float seconds on the source's clock, half-open [start, end)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

Source = str | PathLike[str] | bytes | IO[bytes]
"""What the media gate opens: a path, bytes, a binary file object, or a `data:` / `https:` address."""


def _check_times(start: float, end: float) -> None:
    if not (math.isfinite(start) and math.isfinite(end) and end >= start):
        raise ValueError(f"times must be finite and end >= start, got [{start}, {end})")


def _shape(x: Tensor) -> str:
    return f"{str(x.dtype).removeprefix('torch.')}{list(x.shape)}"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Chunk:
    """A stretch of one stream as its source delivered it.

    Attributes:
        data: image or video uint8 [T, 3, H, W]; audio float32 [S, C] in [-1, 1];
            points float32 [P, 3 + F] with metres in the first three columns; sensor float32 [T, C].
        start, end: seconds on the source's clock, [start, end).
        modality: name of the modality that encodes it.
        last: True on the final chunk of a stream; an encoder flushes what it holds back. Such a chunk may be empty.
    """

    data: Tensor
    start: float
    end: float
    modality: str
    last: bool = False

    def __post_init__(self) -> None:
        _check_times(self.start, self.end)

    def __repr__(self) -> str:
        last = ", last" if self.last else ""
        return f"Chunk({self.modality} {_shape(self.data)} [{self.start:.3f}, {self.end:.3f}){last})"


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch of one stream in which nothing came. It is never closed up: what follows keeps its time.

    Attributes:
        start, end: seconds on the source's clock, [start, end).
        reason: a stable word: "outage", "missing", "late", "slow", "jump"; "reset" where the source's clock began anew,
            so that its length is as the machine's clock has it.
        source: what it was to come from.
    """

    start: float
    end: float
    modality: str
    reason: str
    source: str = ""

    def __post_init__(self) -> None:
        _check_times(self.start, self.end)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Tokens:
    """What a modality makes of a chunk: zero or more whole blocks of tokens.

    Attributes:
        x: [N, D].
        start, end: float64 seconds [N]; the tokens of one block share them.
        blocks: token count of each block, in time order; sums to N.
    """

    x: Tensor
    start: Tensor
    end: Tensor
    blocks: tuple[int, ...]

    def __post_init__(self) -> None:
        n = self.x.shape[0]
        if self.start.shape != (n,) or self.end.shape != (n,) or sum(self.blocks) != n:
            raise ValueError(f"{n} tokens need {n} times and blocks that sum to {n}, got {self!r}")

    @classmethod
    def join(cls, parts: Sequence[Tokens]) -> Tokens:
        """The tokens of one stream, or of several, one after another."""
        import torch

        x, start, end = (torch.cat([getattr(p, a) for p in parts]) for a in ("x", "start", "end"))
        return cls(x, start, end, tuple(n for p in parts for n in p.blocks))

    def __len__(self) -> int:
        return self.x.shape[0]

    def __repr__(self) -> str:
        span = f"[{float(self.start[0]):.3f}, {float(self.end[-1]):.3f})" if len(self) else "empty"
        return f"Tokens({_shape(self.x)} in {len(self.blocks)} blocks {span})"


@dataclass(frozen=True)
class Takes:
    """What can be shown to a model at once.

    Attributes:
        senses: modalities of the chunks; a film is shown to one that takes images alone as images.
        frames: of a film, evenly spread over its time, at most.
        seconds: of a film or sound, at most; what is longer is shown in parts.
        fps: of a film, frames a second, all of them, in place of `frames`.
        size: of a film with `fps`, side of the square that is kept of its frames, the middle after the short side was
            scaled to it; None: whole ones.
        rate: samples of a sound in a second.
    """

    senses: tuple[str, ...]
    frames: int = 1
    seconds: float = math.inf
    rate: int = 16_000
    fps: float | None = None
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Word:
    """A word that was said from `start` to `end` seconds, the spaces and signs around it included."""

    text: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Caption:
    """A sentence about [start, end) of a source.

    Attributes:
        score: mean log-probability of its tokens.
        source: name of the input it describes.
        words: of a transcript, each with its times, if they were asked for.
        language: of a transcript, the code of the language that is spoken; "" where it was not asked.
    """

    text: str
    start: float
    end: float
    score: float = 0.0
    source: str = ""
    words: tuple[Word, ...] = ()
    language: str = ""

    def __post_init__(self) -> None:
        _check_times(self.start, self.end)

    @property
    def confidence(self) -> float:
        """From 0 to 1: the geometric mean of its tokens' probabilities."""
        return math.exp(self.score)


@dataclass(frozen=True, slots=True)
class Moment:
    """What was told of [start, end) seconds of a stream.

    Attributes:
        text: "" of what nothing was said of.
        seen: what the model says when it looks again at what is kept of what was perceived then; "" if it has not.
    """

    start: float
    end: float
    text: str
    source: str = ""
    seen: str = ""
