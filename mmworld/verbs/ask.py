"""`mmworld.ask("what is this?", "a.jpg")`, and a conversation of several turns about several things."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mmworld.errors import UsageError
from mmworld.generate.beam import Beam
from mmworld.generate.choice import Choice
from mmworld.generate.decode import after, decode, stream
from mmworld.generate.grammar import Grammar
from mmworld.generate.samplers import GREEDY, Sampler
from mmworld.generate.stop import Stop
from mmworld.media.gate import Media
from mmworld.models.looking import parts
from mmworld.models.message import Assistant, Message
from mmworld.nn.state import KVState
from mmworld.types import Chunk, Source
from mmworld.verbs.model import assistant, loaded

ANSWER = Stop(256)
Shown = Source | Media | Chunk


class Conversation:
    """Questions and answers about what has been shown, in turns.

    Args:
        model: a borrowed model that can be asked: its name, its folder, or itself.
        system: what is said to the model before all else.
        sampler, stop: how it answers.
    """

    def __init__(
        self,
        model: Any,
        *,
        system: str = "",
        device: str = "cpu",
        sampler: Sampler | Beam = GREEDY,
        stop: Stop = ANSWER,
    ) -> None:
        self.model: Assistant = assistant(loaded(model, device))
        self.sampler, self.stop = sampler, stop
        self.messages: list[Message] = [Message("system", (system,))] if system else []
        self._waiting: list[Chunk] = []

    def show(self, *things: Shown, start: float = 0.0, end: float | None = None) -> None:
        """Show things with the next question: pictures, films, sounds or clouds, from `start` to `end` seconds.

        Raises:
            MediaError: the gate refuses one, or the model takes nothing of what it holds.
        """
        for thing in things:
            takes = self.model.takes
            new = (thing,) if isinstance(thing, Chunk) else parts(thing, takes, start=start, end=end)
            self._waiting += new

    def ask(self, question: str, begin: str = "", schema: Mapping[str, Any] | None = None) -> str:
        """The answer, which begins with `begin`, or is JSON by a schema. Errors as of `stream`."""
        return after(begin, "".join(self.stream(question, begin, schema))).strip()

    @torch.no_grad()
    def choose(self, question: str, choices: Sequence[str]) -> dict[str, float]:
        """The log-probability of each choice as the whole answer; the first is the likeliest, and what was answered.

        Raises:
            UsageError: the model cannot be asked so, or the choices are not different texts.
        """
        choice, asked = Choice(tuple(choices)), self._asked(question)
        scores = choice.scores(self.model, *self.model.begin([*self.messages, asked]))
        ranked = dict(sorted(scores.items(), key=lambda item: -item[1]))
        self.messages += [asked, Message("assistant", (next(iter(ranked)),))]
        self._waiting = []
        return ranked

    def _asked(self, question: str) -> Message:
        return Message("user", (*self._waiting, *((question,) if question else ())))

    @torch.no_grad()
    def stream(self, question: str, begin: str = "", schema: Mapping[str, Any] | None = None) -> Iterator[str]:
        """The answer as it is made, what it begins with left out. It is part of the conversation once it has ended.

        Args:
            schema: the answer is JSON that obeys it, the keys of an object in its order.

        Raises:
            UsageError: the model cannot be asked so; the schema is none; or the answer ended before it was the whole of
                what the schema asks for, which is told after its last piece.
        """
        if begin and schema is not None:
            raise UsageError("begin and schema both say what the answer is", hint="leave one out")
        grammar = None if schema is None else Grammar.json(schema)
        asked = self._asked(question)
        begun = [Message("assistant", (begin,))] if begin else []
        state, logits = self.model.begin([*self.messages, asked, *begun])
        said = ""
        for piece in self._say(state, logits, grammar):
            said += piece
            yield piece
        if grammar and not grammar.accepts(said):
            limit = f"max_tokens is {self.stop.max_tokens}"
            raise UsageError("the answer was cut before it was whole JSON", hint=f"let it be longer: {limit}")
        self.messages += [asked, Message("assistant", (after(begin, said.strip()),))]
        self._waiting = []

    def _say(self, state: KVState, logits: Tensor, grammar: Grammar | None) -> Iterator[str]:
        sampler = grammar.held(self.sampler, self.model.tokenizer) if grammar else self.sampler
        if isinstance(sampler, Beam) or self.stop.texts:
            yield decode(self.model, state, logits, sampler, self.stop)[0].text
            return
        yield from stream(self.model, state, logits, sampler, self.stop)


def ask(
    question: str,
    *things: Shown,
    model: Any,
    choices: Sequence[str] = (),
    schema: Mapping[str, Any] | None = None,
    start: float = 0.0,
    end: float | None = None,
    **options: Any,
) -> str:
    """What the model answers about things: pictures, films, sounds or clouds, from `start` to `end` seconds.

    Args:
        choices: the answer is the likeliest of these; without them anything.
        schema: the answer is JSON that obeys it, the keys of an object in its order.
        options: system, device, sampler and stop, as of `Conversation`.

    Raises:
        CheckpointError: there is no such model.
        UsageError: the model cannot be asked so, the schema is none, or the answer was cut before it was whole JSON.
        MediaError: a thing is refused, or the model takes nothing of what it holds.
    """
    if choices and schema is not None:
        raise UsageError("choices and schema both say what the answer is", hint="leave one out")
    conversation = Conversation(model, **options)
    conversation.show(*things, start=start, end=end)
    return next(iter(conversation.choose(question, choices))) if choices else conversation.ask(question, schema=schema)
