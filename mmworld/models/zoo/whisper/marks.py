"""Whisper's special tokens, and the rule by which it says times (Radford et al. 2022, section 2.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmworld.config import config, pick
from mmworld.errors import UsageError
from mmworld.generate.rules import Prefix
from mmworld.text.languages import LANGUAGES, code
from mmworld.text.pretrained import Pretrained

TASKS = "transcribe", "translate"
ENGLISH = 50256
"""The id that ends a text in the released vocabulary of English alone, which has tokens of languages all the same."""
STEP = 0.02
"""Seconds from one time that can be said to the next."""


@config
class Said:
    """What generation_config.json says under these names, or config.json, where they once stood."""

    decoder_start_token_id: int | None = None
    lang_to_id: dict[str, int] | None = None
    task_to_id: dict[str, int] | None = None
    no_timestamps_token_id: int | None = None
    prev_sot_token_id: int | None = None
    suppress_tokens: tuple[int, ...] | None = None
    begin_suppress_tokens: tuple[int, ...] | None = None
    alignment_heads: tuple[tuple[int, int], ...] | None = None
    max_initial_timestamp_index: int | None = None
    is_multilingual: bool | None = None

    @classmethod
    def read(cls, config: Mapping[str, Any], generation: Mapping[str, Any]) -> Said:
        """Of both; ConfigError if a value is of the wrong type."""
        given = {name: value for name, value in generation.items() if value is not None}
        return pick(cls, {**config, **given}, where="generation_config.json")


@dataclass(frozen=True)
class Times:
    """Times come first of all, in pairs except right before the end, and never go back; where they are likelier
    together than any word, one of them comes.

    Attributes:
        end: id that ends a text; words have lower ones.
        zero: id of the first time; the one before it says that there are none.
        latest: index of the last time that may come first; None is no limit.
    """

    end: int
    zero: int
    latest: int | None = None

    def __call__(self, texts: Sequence[Prefix], scores: Tensor) -> Tensor:
        scores = scores.clone()
        scores[:, self.zero - 1] = -torch.inf
        for row, text in zip(scores, texts, strict=True):
            self._order(row, text.said)
        log_p = scores.float().log_softmax(-1)
        timely = log_p[:, self.zero :].logsumexp(-1) > log_p[:, : self.zero].amax(-1)
        scores[timely, : self.zero] = -torch.inf
        return scores

    def _order(self, row: Tensor, text: Sequence[int]) -> None:
        """Take what may not follow `text` from the scores [V], in place."""
        if not text:
            row[: self.zero] = -torch.inf
            if self.latest is not None:
                row[self.zero + self.latest + 1 :] = -torch.inf
            return
        closes = text[-1] >= self.zero
        if closes and (len(text) < 2 or text[-2] >= self.zero):  # a pair is whole: words
            row[self.zero :] = -torch.inf
        elif closes:  # one of a pair: the other, or the end
            row[: self.end] = -torch.inf
        if times := [i for i in text if i >= self.zero]:
            opens = closes and len(text) > 1 and text[-2] < self.zero
            row[self.zero : times[-1] + (not opens)] = -torch.inf


@dataclass(frozen=True)
class Marks:
    """The ids that are no words.

    Attributes:
        start: begins a transcript.
        end: ends it; words have lower ids.
        languages: by code; empty in a model of English alone.
        tasks: of TASKS.
        silent: says that there are no times; the one before it says that there is no speech.
        previous: comes before the words that went before.
        never, first: ids that are never said, or not first.
        latest: index of the last time that may come first.
    """

    start: int
    end: int
    languages: Mapping[str, int]
    tasks: Mapping[str, int]
    silent: int
    previous: int | None
    never: tuple[int, ...]
    first: tuple[int, ...]
    latest: int | None

    @classmethod
    def read(cls, said: Said, vocabulary: Pretrained) -> Marks:
        """Of what the checkpoint says, and where it says nothing of its vocabulary: then no special token but times is
        said, and no space or end first.

        Raises:
            UsageError: neither has a token that a transcript needs.
        """
        start = _first(said.decoder_start_token_id, vocabulary.id("<|startoftranscript|>"))
        silent = _first(said.no_timestamps_token_id, vocabulary.id("<|notimestamps|>"))
        if start is None or silent is None or not vocabulary.ends:
            raise UsageError("this model's folder says nothing of the tokens that begin and end a transcript")
        languages = said.lang_to_id or _known(vocabulary, LANGUAGES)
        tasks = said.task_to_id or {task: i for task, i in _known(vocabulary, TASKS).items() if languages}
        previous = _first(said.prev_sot_token_id, vocabulary.id("<|startofprev|>"))
        by_code = {token.strip("<|>"): i for token, i in languages.items()}
        end = min(vocabulary.ends)
        if said.is_multilingual is False or (said.is_multilingual is None and end == ENGLISH):
            by_code, tasks = {}, {}
        never, first = said.suppress_tokens, said.begin_suppress_tokens
        never = tuple(range(end + 1, silent)) if never is None else never
        first = (*vocabulary.encode(" ", whole=False), end) if first is None else first
        latest = said.max_initial_timestamp_index
        return cls(start, end, by_code, tasks, silent, previous, never, first, latest)

    @property
    def speech(self) -> int:
        """The id that says that there is no speech."""
        return self.silent - 1

    @property
    def zero(self) -> int:
        """The id of the time 0.00."""
        return self.silent + 1

    def begin(self, language: str | None, task: str, *, times: bool) -> list[int]:
        """How a transcript begins.

        Args:
            language: a code; None in a model of English alone.
            times: whether it says when something was said.

        Raises:
            UsageError: the model has no such task.
        """
        if self.tasks and task not in self.tasks:
            raise UsageError(f"no task {task!r}", hint=f"one of {', '.join(self.tasks)}")
        if not self.tasks and task != TASKS[0]:
            raise UsageError("a model of English alone does not translate", hint="a multilingual Whisper does")
        spoken = [] if language is None else [self.languages[language]]
        return [self.start, *spoken, *filter(None, [self.tasks.get(task)]), *([] if times else [self.silent])]

    def language(self, name: str) -> str | None:
        """The code of a language by name or code; None in a model of English alone, where it can be nothing else.

        Raises:
            UsageError: the model does not know it.
        """
        found = code(name)
        if not self.languages and found == "en":
            return None
        if found not in self.languages:
            raise UsageError(f"this model knows no language {name!r}", hint=f"it knows {_some(self.languages)}")
        return found

    @property
    def times(self) -> Times:
        """The rule of a text that says times."""
        return Times(self.end, self.zero, self.latest)


def _first(*ids: int | None) -> int | None:
    return next((i for i in ids if i is not None), None)


def _known(vocabulary: Pretrained, names: Sequence[str] | Mapping[str, str]) -> dict[str, int]:
    return {name: i for name in names if (i := vocabulary.id(f"<|{name}|>")) is not None}


def _some(languages: Mapping[str, int]) -> str:
    return ", ".join(list(languages)[:8]) + (", …" if len(languages) > 8 else "") if languages else "English alone"
