"""What borrowed models are asked: messages of words and of what is shown, and what is asked of such a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor

from mmworld.nn.state import KVState
from mmworld.types import Chunk, Takes

Role = Literal["system", "user", "assistant"]
Part = str | Chunk


@dataclass(frozen=True)
class Message:
    """What one side says.

    Attributes:
        parts: words, and what is shown, in order: an image uint8 [1, 3, H, W]; a video uint8 [T, 3, H, W], its frames
            evenly spread over its time; a sound float32 [S, 1] of `RATE` samples a second; points float32 [P, 3 + F].
    """

    role: Role
    parts: tuple[Part, ...]


RATE = 16_000
"""Samples a second of the sounds in messages."""


class Assistant(Protocol):
    """A model that is shown something and asked about it.

    Attributes:
        takes: what can be shown to it.
        tokenizer: its vocabulary, if its folder has one.
    """

    takes: ClassVar[Takes]
    tokenizer: Any

    def begin(self, messages: Sequence[Message]) -> tuple[KVState, Tensor]:
        """Read a conversation that ends with what the user says; words of an assistant at its end are gone on with.

        Returns:
            The state after it, and the logits [1, V] of the id that the model says first.

        Raises:
            UsageError: the model has no vocabulary or preprocessing, or cannot be asked so.
        """
        ...

    def read(self, ids: Tensor, state: KVState) -> Tensor:
        """Append ids [B, n] to the state's rows; logits [B, V] of the id that comes next."""
        ...


@dataclass(frozen=True, eq=False)
class Glimpse:
    """Frames that a model sees at once, as its language model is told of them.

    Attributes:
        x: tokens [N, D].
        at: their positions, int64 [N] or on axes [A, N], from where they begin.
        span: positions from there to what follows.
    """

    x: Tensor
    at: Tensor
    span: int

    @classmethod
    def row(cls, x: Tensor) -> Glimpse:
        """Tokens that stand as words do."""
        return cls(x, torch.arange(len(x)), len(x))


class Follower(Assistant, Protocol):
    """An assistant that can be told of a film as it comes, a glimpse at a time.

    Attributes:
        source: what its config.json says.
        language: what it says things with; its layers take positions (`mmworld.text.llama.Llama`).
        together: frames that are one glimpse.
        place: the id that stands for a glimpse in its conversations.
    """

    source: dict[str, Any]
    language: Any
    together: int

    @property
    def place(self) -> int: ...

    def glimpse(self, frames: Tensor, held: int) -> Glimpse:
        """Frames uint8 [T, 3, H, W], `together` of them at most, as they look in a film of `held` frames."""
        ...

    def written(self, messages: Sequence[Message]) -> list[int]:
        """The ids of a conversation as `begin` reads it, with one `place` for each thing that is shown."""
        ...
