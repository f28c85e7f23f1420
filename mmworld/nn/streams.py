"""Streams of any lengths side by side, without padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mmworld.attention import Mask
from mmworld.nn.state import KVState, rule

Sizes = tuple[int, ...]
"""Of blocks, in order."""


class Streams(KVState):
    """Streams of any lengths as the rows of one state: their next tokens go through the layers as one packed row, and
    each sees its own past.

    Args:
        streams: of one row each, without contexts; all compact, or all of one window.

    Raises:
        ValueError: some count positions among what they hold and others do not, windows differ, or one looks at a
            context.
    """

    def __init__(self, streams: Sequence[KVState]) -> None:
        if len({s.reach for s in streams}) > 1 or any(s.context for s in streams):
            raise ValueError("streams that keep in different ways, or have contexts, do not go side by side")
        super().__init__(streams[0].reach[1] if streams else None)
        self.streams = list(streams)

    @property
    def nbytes(self) -> int:
        return sum(s.nbytes for s in self.streams)

    @property
    def compact(self) -> bool:
        return any(s.compact for s in self.streams)

    def fork(self) -> Streams:
        return Streams([s.fork() for s in self.streams])

    def select(self, rows: Tensor) -> None:
        self.streams = [self.streams[i].fork() for i in rows.tolist()]

    def places(self, n: int, device: torch.device | None = None) -> Tensor:
        """Positions of each stream's next n tokens [B, n]."""
        return torch.stack([s.places(n, device) for s in self.streams])

    def waves(self, blocks: Sequence[Sizes]) -> Iterator[tuple[list[int], Wave]]:
        """What goes through the layers at once, wave by wave: of each stream in it as many of its next blocks as it
        takes at once (`KVState.steps`), and their places among all steps, stream after stream."""
        steps = [
            (n, s, step) for s, new in zip(self.streams, blocks, strict=True) for n, step in enumerate(s.steps(new))
        ]
        for wave in range(1 + max((n for n, *_ in steps), default=-1)):
            at = [i for i, (n, *_) in enumerate(steps) if n == wave]
            yield at, Wave([steps[i][1] for i in at], [steps[i][2] for i in at])


@dataclass
class Wave:
    """The next blocks of several streams, each of which takes all of its own at once.

    Attributes:
        streams: whose they are.
        blocks: sizes, for each of them.
        context: as of a `KVState`; there is none.
    """

    streams: list[KVState]
    blocks: list[Sizes]
    context: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    @property
    def lengths(self) -> Sizes:
        """Tokens of each stream."""
        return tuple(map(sum, self.blocks))

    def make_room(self) -> None:
        for s in self.streams:
            s.make_room()

    def queries(self, device: torch.device) -> Tensor:
        """Positions of the new tokens [N], stream after stream."""
        return torch.cat([s.places(n, device) for s, n in zip(self.streams, self.lengths, strict=True)])

    def keys(self, device: torch.device) -> Tensor:
        """Positions of what is held and of the new tokens, stream after stream."""
        ends = zip(self.streams, self.lengths, strict=True)
        return torch.cat([torch.arange(s.next - len(s), s.next + n, device=device) for s, n in ends])

    def mask(self) -> Mask:
        """The rule for the new blocks as queries over held and new blocks as keys."""
        held = tuple(len(s) + n for s, n in zip(self.streams, self.lengths, strict=True))
        if all(len(new) == 1 for new in self.blocks):
            return Mask(lengths=self.lengths, key_lengths=held)  # the caches are the past
        blocks = tuple(n for s, new in zip(self.streams, self.blocks, strict=True) for n in s.blocks + new)
        return rule(blocks, self.streams[0].reach[1], 0, self.lengths, held)

    def update(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Append one layer's new keys and values [1, N, Hkv, D]; returns all of the first stream, of the second…"""
        parts = zip(self.streams, k.split(self.lengths, 1), v.split(self.lengths, 1), strict=True)
        keys, values = zip(*(s.update(layer, *part) for s, *part in parts), strict=True)
        return torch.cat(keys, dim=1), torch.cat(values, dim=1)

    def advance(self) -> None:
        for s, new in zip(self.streams, self.blocks, strict=True):
            s.advance(new)
