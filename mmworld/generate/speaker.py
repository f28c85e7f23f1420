"""What decoding asks of a model and of its vocabulary."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from torch import Tensor

from mmworld.nn.state import KVState


class Vocabulary(Protocol):
    """Ids and text.

    Attributes:
        ends: the ids after which a text is over.
    """

    @property
    def ends(self) -> Collection[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...


class Speaker(Protocol):
    """A model that goes on with a text."""

    @property
    def tokenizer(self) -> Vocabulary: ...

    def read(self, ids: Tensor, state: KVState) -> Tensor:
        """Append text ids [B, n] to the state's rows; logits [B, V] of the id that comes next."""
        ...


class Writer(Speaker, Protocol):
    """A model of text alone, which begins with a state of its own."""

    def init_state(self) -> KVState: ...
