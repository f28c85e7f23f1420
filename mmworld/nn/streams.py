"""Streams of any lengths side by side, without padding."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmworld.attention import Mask
from mmworld.nn.state import KVState


class Streams(KVState):
    """Streams of any lengths as the rows of one state: their next tokens go through the layers as one packed row, and
    each sees its own past.

    Args:
        streams: of one row each, without sinks, limits and contexts.

    Raises:
        ValueError: one counts positions among what it holds, or looks at a context.
    """

    def __init__(self, streams: Sequence[KVState]) -> None:
        super().__init__(streams[0].window if streams else None)
        if any(s.compact or s.context for s in streams):
            raise ValueError("streams with sinks, limits or contexts do not go side by side")
        self.streams = list(streams)

    @property
    def nbytes(self) -> int:
        return sum(s.nbytes for s in self.streams)

    def fork(self) -> Streams:
        return Streams([s.fork() for s in self.streams])

    def select(self, rows: Tensor) -> None:
        self.streams = [self.streams[i].fork() for i in rows.tolist()]

    def places(self, n: int, device: torch.device | None = None) -> Tensor:
        """Positions of each stream's next n tokens [B, n]."""
        return torch.stack([s.places(n, device) for s in self.streams])

    def mask(self, new: tuple[int, ...]) -> Mask:
        n = sum(new)
        held = tuple(len(s) + n for s in self.streams)
        return Mask("causal", window=self.window, lengths=(n,) * len(held), key_lengths=held)

    def update(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Append one layer's new keys and values [1, B * n, Hkv, D]; returns all of the first stream, of the second…"""
        parts = zip(self.streams, k.chunk(len(self.streams), 1), v.chunk(len(self.streams), 1), strict=True)
        keys, values = zip(*(s.update(layer, *part) for s, *part in parts), strict=True)
        return torch.cat(keys, dim=1), torch.cat(values, dim=1)

    def advance(self, new: tuple[int, ...]) -> None:
        for s in self.streams:
            s.advance(new)

    def make_room(self) -> None:
        for s in self.streams:
            s.make_room()
