"""When to speak: small frozen values. Each starts a judge, which follows one stream."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from mmworld.types import Chunk, Gap

if TYPE_CHECKING:
    from torch import Tensor

TICK = 1e-6
"""Seconds within which two times are one."""


class Judge(Protocol):
    """Follows one stream for a policy.

    Attributes:
        due: seconds at which to speak of what ended by then.
        least: seconds; a rest shorter than this, at the end of the stream, is not spoken of; inf: nor any other.
    """

    least: float

    @property
    def due(self) -> float: ...

    def hear(self, item: Chunk | Gap, rate: float | None) -> None:
        """What comes next of a stream, in rows at `rate` a second, as it came: before `due` is asked for a time that
        lies after it.
        """
        ...

    def changed(self, modality: str, x: Tensor, end: float) -> bool:
        """Whether to speak before the next block, tokens x [n, D] that end at `end`; or `due` moves to its end."""
        ...

    def restart(self, start: float, end: float) -> float:
        """A segment begins whose first block is, or may be, [start, end); returns when it begins."""
        ...


class Policy(Protocol):
    """When to speak."""

    @property
    def longest(self) -> float:
        """Seconds after which it speaks at the latest."""
        ...

    def timed(self, modalities: Sequence[str]) -> bool:
        """Whether of such streams it speaks at set times and at the end, whatever comes."""
        ...

    def start(self, origin: float) -> Judge:
        """The judge of a stream that begins at `origin` seconds."""
        ...


@dataclass(frozen=True)
class AtEnd:
    """Once, when the stream has ended."""

    longest: float = field(default=math.inf, init=False)

    def timed(self, modalities: Sequence[str]) -> bool:
        return True

    def start(self, origin: float) -> Judge:
        return _Clock(origin, math.inf)


@dataclass(frozen=True)
class OnDemand:
    """Not by itself: only questions are answered."""

    longest: float = field(default=math.inf, init=False)

    def timed(self, modalities: Sequence[str]) -> bool:
        return False

    def start(self, origin: float) -> Judge:
        judge = _Clock(origin, math.inf)
        judge.least = math.inf
        return judge


@dataclass(frozen=True)
class Every:
    """At start + seconds, start + 2 * seconds, …, and at the end."""

    seconds: float

    def __post_init__(self) -> None:
        if not 0.01 <= self.seconds < math.inf:
            raise ValueError(f"a caption every {self.seconds} s: must be at least 0.01")

    @property
    def longest(self) -> float:
        return self.seconds

    def timed(self, modalities: Sequence[str]) -> bool:
        return True

    def start(self, origin: float) -> Judge:
        return _Clock(origin, self.seconds)


@dataclass(frozen=True)
class OnChange:
    """When what comes in is no longer like what came before, in any modality.

    A block is summed up as the mean of its tokens, what came before as a running mean of those. A cosine distance over
    `threshold` is a change, if the distance had fallen under half of it since the last one (so a slow fade is one
    change, not many), and `shortest` seconds have passed. The block that differs begins the next segment.

    Attributes:
        longest: seconds after which to speak in any case.
    """

    threshold: float = 0.3
    shortest: float = 1.0
    longest: float = 30.0

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 2:
            raise ValueError(f"threshold must be between 0 and 2, is {self.threshold}")
        if not 0 <= self.shortest <= self.longest:
            raise ValueError(f"shortest must be 0 to {self.longest}, is {self.shortest}")

    def timed(self, modalities: Sequence[str]) -> bool:
        return set(modalities) == {"image"}

    def start(self, origin: float) -> Judge:
        return _Change(self, origin, origin + self.longest)


@dataclass
class _Clock:
    """Speaks at fixed times; each is computed from the first, so that nothing drifts."""

    origin: float
    seconds: float
    due: float = field(init=False)
    least: float = field(init=False)

    def __post_init__(self) -> None:
        self.due = self.origin + self.seconds
        self.least = 0.0 if self.seconds == math.inf else self.seconds / 10

    def hear(self, item: Chunk | Gap, rate: float | None) -> None:
        pass

    def changed(self, modality: str, x: Tensor, end: float) -> bool:
        return False

    def restart(self, start: float, end: float) -> float:
        if self.seconds == math.inf:
            return start
        n = max(1, math.ceil((end - self.origin - TICK) / self.seconds))
        self.due = self.origin + n * self.seconds
        return self.origin + (n - 1) * self.seconds


@dataclass
class _Change:
    rule: OnChange
    begun: float
    due: float
    least: float = 0.0
    settled: bool = True
    past: dict[str, Tensor] = field(default_factory=dict)

    def hear(self, item: Chunk | Gap, rate: float | None) -> None:
        pass

    def changed(self, modality: str, x: Tensor, end: float) -> bool:
        now = x.mean(0)
        past = self.past.get(modality)
        if past is None:
            self.past[modality] = now
            return False
        past = past.to(now)  # what was saved lies on the CPU
        distance = 1 - float(now @ past / (now.norm() * past.norm()).clamp(min=1e-12))
        if distance > self.rule.threshold and self.settled and end - self.begun > self.rule.shortest + TICK:
            self.past, self.settled = {modality: now}, False
            return True
        self.settled = self.settled or distance < self.rule.threshold / 2
        self.past[modality] = past + 0.25 * (now - past)
        return False

    def restart(self, start: float, end: float) -> float:
        self.begun, self.due = start, max(start + self.rule.longest, end)
        return start
