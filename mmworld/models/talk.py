"""A chat with a borrowed model about a film that goes on: what is seen is read once, what was said stays longer."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mmworld.errors import UsageError
from mmworld.generate.beam import Beam
from mmworld.generate.decode import Generation, decode
from mmworld.generate.samplers import GREEDY, Sampler
from mmworld.generate.stop import STOP, Stop
from mmworld.models.keep import SINGLE, Keep
from mmworld.models.message import Follower, Message, Part
from mmworld.models.zoo.conversation import DESCRIBE, row
from mmworld.nn.rolling import Piece, Rolling
from mmworld.nn.streams import Streams
from mmworld.types import Chunk

OPENING, SEEN, SAID = range(3)
"""Kinds of pieces: the ids with which the chat begins, which stay; what is seen; what was said."""


class Layout:
    """The ids of a model's chat around what it is shown, as the checkpoint's template writes them.

    Attributes:
        opening: before the first thing of all.
        before, after: around each thing.

    Raises:
        UsageError: the model has no vocabulary or template, or it does not write one thing after the other.
    """

    def __init__(self, model: Follower) -> None:
        self._model = model
        sense = "video" if "video" in model.takes.senses else "image"
        self._thing = Chunk(torch.zeros(1, 3, 1, 1, dtype=torch.uint8), 0.0, 0.0, sense)
        first, between, *_ = self._cut(self._user(self._thing, self._thing, DESCRIBE["video"]))
        ends = list(zip(first[::-1], between[::-1], strict=False))
        n = next((i for i, (a, b) in enumerate(ends) if a != b), len(ends))
        self.opening, self.before = first[: len(first) - n], between[len(between) - n :]
        self.after = between[: len(between) - n]
        self.asked(DESCRIBE["video"])
        self.said("a dog runs")  # what does not fit is refused now

    def asked(self, question: str, begun: str = "") -> list[int]:
        """What stands between the last thing and what the model says, which begins with `begun`."""
        begins = [Message("assistant", (begun,))] if begun else []
        _, *parts = self._cut(self._user(self._thing, question), *begins)
        return self._within(parts, [])

    def said(self, text: str) -> list[int]:
        """What stands between the last thing before something was said and the first after it."""
        again = self._user(self._thing, DESCRIBE["video"])
        _, *parts, _ = self._cut(self._user(self._thing), Message("assistant", (text,)), again)
        return self._within(parts, self.before)

    def _user(self, *parts: Part) -> Message:
        return Message("user", parts)

    def _cut(self, *messages: Message) -> list[list[int]]:
        """The ids of a conversation, cut at the things in it, and where words are spelled like the id of one."""
        parts: list[list[int]] = [[]]
        for i in self._model.written(messages):
            if i == self._model.place:
                parts.append([])
            else:
                parts[-1].append(i)
        if len(parts) <= sum(isinstance(p, Chunk) for m in messages for p in m.parts):
            raise self._refusal()
        return parts

    def _within(self, parts: list[list[int]], before: list[int]) -> list[int]:
        """The ids between `after` of the thing before them and `before` of the one behind them."""
        ids = [i for part in parts for i in part]
        first, last = len(self.after), len(ids) - len(before)
        if first > last or ids[:first] != self.after or ids[last:] != before:
            raise self._refusal()
        return ids[first:last]

    def _refusal(self) -> UsageError:
        return UsageError(
            f"the chat template of this {type(self._model).__name__} does not write a film bit by bit",
            hint="leave out keep",
        )


class Talk:
    """What a borrowed model remembers of one stream: the opening of its chat for good, what it saw and what it said for
    as long as `keep` says, each piece as a whole.

    In the order in which it came, it is the conversation that the checkpoint's own template writes: a turn of the user
    who shows things, one of the assistant who says something, and so on. The last one is the user's and goes on.

    Args:
        keep: what is remembered; of the senses that it names, "video" counts.
        context: of a talk that is gone on with; None is a fresh one.

    Raises:
        UsageError: the model cannot be told of a film so.
    """

    def __init__(self, model: Follower, keep: Keep, context: Rolling | None = None) -> None:
        if model.language.config.window is not None:
            window = f"its language model sees {model.language.config.window} ids back and no more"
            raise UsageError(f"this {type(model).__name__} keeps nothing across captions: {window}")
        self.model, self.layout = model, Layout(model)
        self.seconds = keep.of.get("video", keep.seconds)
        if context is None:
            self.context = Rolling((math.inf, self.seconds, keep.text))
            self._read(OPENING, self.layout.opening)
        else:
            self.context = context

    @property
    def seen(self) -> bool:
        """Whether anything was shown."""
        return SEEN in self.context.kinds

    @property
    def nbytes(self) -> int:
        return self.context.nbytes

    @torch.no_grad()
    def show(self, frames: Sequence[Chunk]) -> None:
        """The next frames, `model.together` of them at most; they are seen once."""
        duration = frames[0].end - frames[0].start
        held = max(1, round(self.seconds / max(duration, SINGLE)))
        glimpse = self.model.glimpse(torch.cat([f.data for f in frames]), held)
        before, after = self._words(self.layout.before), self._words(self.layout.after)
        n = len(self.layout.before)
        at = torch.cat((self._at(n), glimpse.at + n, self._at(len(after)) + n + glimpse.span), dim=-1)
        weight = max(sum(f.end - f.start for f in frames), SINGLE)
        piece = Piece(SEEN, at, n + glimpse.span + len(after), weight)
        self._enter(torch.cat((before, glimpse.x, after)), piece)

    @torch.no_grad()
    def commit(self, text: str) -> None:
        """The model has said this: it is read as its turn, and what is shown next begins another."""
        self._read(SAID, self.layout.said(text))

    def fork(self) -> Talk:
        """An independent one that goes on from here; tensors are shared until either side moves."""
        other = copy.copy(self)
        other.context = self.context.fork()
        return other

    def _read(self, kind: int, ids: list[int]) -> None:
        self._enter(self._words(ids), Piece(kind, self._at(len(ids)), len(ids), len(ids)))

    @torch.no_grad()
    def _enter(self, x: Tensor, piece: Piece) -> None:
        self.context.enter(x[None], piece, self.model.language.hidden)

    def _words(self, ids: list[int]) -> Tensor:
        """Ids to what the language model reads [N, D]."""
        x: Tensor = self.model.language.embed(row(self.model, ids))[0]  # type: ignore[arg-type]
        return x

    def _at(self, n: int) -> Tensor:
        """Positions of words: the same on all axes."""
        sections = self.model.language.backbone.position.sections
        return torch.arange(n).expand(*([len(sections)] if sections else []), n)


@torch.no_grad()
def tell(
    talks: Sequence[Talk],
    question: str = DESCRIBE["video"],
    begun: str = "",
    sampler: Sampler | Beam = GREEDY,
    stop: Stop = STOP,
) -> list[Generation]:
    """What the model answers in each of several talks with it, side by side; the talks stay as they are.

    Raises:
        UsageError: the template does not write the question so.
    """
    model: Follower = talks[0].model
    ids = row(model, talks[0].layout.asked(question, begun))  # type: ignore[arg-type]
    states = [t.context.settled(model.language.backbone.position) for t in talks]
    state = states[0] if len(states) == 1 else Streams(states)
    return decode(model, state, model.read(ids.expand(len(talks), -1), state), sampler, stop)
