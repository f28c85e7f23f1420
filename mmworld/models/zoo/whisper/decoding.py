"""The text of one window of sound, tried again where it will not do (Radford et al. 2022, section 4.5)."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from mmworld.generate.beam import Beam
from mmworld.generate.decode import Generation, decode
from mmworld.generate.rules import Prefix, Rule, Suppress
from mmworld.generate.samplers import Greedy, Pick, Sample, Sampler
from mmworld.generate.stop import Stop
from mmworld.models.zoo.conversation import row, vocabulary
from mmworld.models.zoo.whisper.model import Whisper
from mmworld.nn.state import KVState


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


DECODING = Decoding()


class Window:
    """A window in which something is said.

    Args:
        heard: what the encoder made of it [1, N, D].
        language: a code; None in a model of English alone.
        before: ids that went before.

    Attributes:
        ids: that the model has read before it says anything.
        state: after them.
        most: ids that it can say.
        silence: probability that nothing is said.
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

    def decode(self, ids: Sequence[int]) -> str:
        """The words among ids."""
        return vocabulary(self.model).decode([i for i in ids if i < self.model.marks.end])

    def _repeats(self, ids: Sequence[int]) -> bool:
        text = self.decode(ids).encode()
        return self.how.compression is not None and len(text) > self.how.compression * len(zlib.compress(text))


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
