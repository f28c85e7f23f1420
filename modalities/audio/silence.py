"""When somebody has finished speaking: a policy that goes by a voice activity detector."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from mmworld.errors import ConfigError
from mmworld.modalities.audio.speech import Hysteresis, Spans
from mmworld.modalities.audio.vad import SileroVAD, VADState
from mmworld.stream.policy import TICK
from mmworld.types import Chunk, Gap


@dataclass(frozen=True)
class AtSilence:
    """When nobody has spoken for `silence` seconds after somebody did. Where nobody does, every `longest` seconds.

    Attributes:
        vad: a voice activity detector, or its file (Silero's ONNX).
        silence: seconds without speech before it is over.
        shortest: seconds; speech that is over sooner after the last caption is told of in the next one.
        longest: seconds after which to speak in any case, in the midst of speech, too.

    Raises:
        UsageError, CheckpointError: as `SileroVAD.load`.
    """

    vad: SileroVAD | str | os.PathLike[str]
    silence: float = 0.5
    shortest: float = 1.0
    longest: float = 30.0
    detector: SileroVAD = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0.1 <= self.silence < math.inf:
            raise ValueError(f"silence must be at least 0.1 s, is {self.silence}")
        if not 0 <= self.shortest <= self.longest:
            raise ValueError(f"shortest must be 0 to {self.longest}, is {self.shortest}")
        vad = self.vad if isinstance(self.vad, SileroVAD) else SileroVAD.load(os.fspath(self.vad))
        object.__setattr__(self, "detector", vad)

    def timed(self, modalities: Sequence[str]) -> bool:
        return "audio" not in modalities

    def start(self, origin: float) -> Ends:
        """The judge of a stream that begins at `origin` seconds."""
        vad = self.detector
        spans = Spans(Hysteresis(silence=self.silence), vad.chunk / vad.rate)
        return Ends(vad, self.shortest, self.longest, spans, origin + self.longest)


@dataclass
class Ends:
    """Hears where speech ends. It hears sound as it comes, ahead of the blocks that are made of it: an end is known
    before any block that lies after it.

    Attributes:
        origin: seconds at which the sound that is heard began; None before that.
        ends: of speech, seconds, those that may end a segment. Others wait for the sound at most as many blocks as a
            session lets wait, which bounds them.
    """

    vad: SileroVAD
    shortest: float
    longest: float
    spans: Spans
    latest: float
    earliest: float = -math.inf
    least: float = 0.0
    origin: float | None = None
    state: VADState = field(default_factory=VADState)
    ends: deque[float] = field(default_factory=deque)

    @property
    def due(self) -> float:
        return min(self.latest, self.ends[0]) if self.ends else self.latest

    def hear(self, item: Chunk | Gap, rate: float | None) -> None:
        """Sound [S, C] that comes next, or that none comes; other streams are not listened to.

        Raises:
            ConfigError: the rate is not the detector's.
        """
        if item.modality != "audio":
            return
        if isinstance(item, Gap):
            self._quiet(item.start, item.end)
            return
        if rate != self.vad.rate:
            message = f"the voice activity detector hears {self.vad.rate} samples a second, the model {rate:g}"
            raise ConfigError(message, hint="another policy")
        self.origin = item.start if self.origin is None else self.origin
        for p in self.vad(item.data.mean(1), self.state).tolist():
            self._add(p, -math.inf, math.inf)
        if item.last:
            self._quiet(item.end, math.inf)

    def changed(self, modality: str, x: Tensor, end: float) -> bool:
        return False

    def restart(self, start: float, end: float) -> float:
        self.earliest, self.latest = max(start + self.shortest, end), max(start + self.longest, end)
        self._forget()
        return start

    def _add(self, p: float, low: float, high: float) -> None:
        """The next chunk is speech with probability p; an end that it brings lies in [low, high]."""
        self.spans.add(p)
        self._note(low, high)

    def _note(self, low: float, high: float) -> None:
        assert self.origin is not None
        if self.spans.over:
            self.spans.over.clear()
            self.ends.append(min(max(self.origin + self.spans.now, low), high))
            self._forget()

    def _quiet(self, start: float, end: float) -> None:
        """Nothing is heard from `start` to `end`, and what comes then is another sound."""
        if self.origin is None:
            return
        while self.spans.begun is not None and self.origin + self.spans.now < end:
            self._add(0.0, start, end)
        self.spans.close()
        self._note(start, end)
        self.origin, self.state, self.spans = None, VADState(), Spans(self.spans.rule, self.spans.step)

    def _forget(self) -> None:
        while self.ends and self.ends[0] < self.earliest - TICK:
            self.ends.popleft()
