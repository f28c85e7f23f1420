"""What a transformer remembers of a stream: keys and values, in whole blocks."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from mmworld.attention import Mask


@dataclass
class KVState:
    """The keys and values of every layer, of the blocks still held.

    Tensors are never written in place, so `fork` shares them (copy on write). Keys are stored before rotation, and
    positions are counted inside the cache, so they stay small for a stream of any length; when blocks are evicted,
    sinks move up to stand right before the window (StreamingLLM, Xiao et al. 2023, section 3.2).

    Attributes:
        window: blocks kept, sinks not counted; None keeps all (a growing cache).
        sinks: first blocks of the stream that are never evicted.
        blocks: sizes of the blocks held, oldest first.
        keys, values: for each layer [B, T, Hkv, D].
    """

    window: int | None = None
    sinks: int = 0
    blocks: tuple[int, ...] = ()
    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)

    def __len__(self) -> int:
        return sum(self.blocks)

    @property
    def nbytes(self) -> int:
        return sum(x.nbytes for x in (*self.keys, *self.values))

    def fork(self) -> KVState:
        """An independent copy that shares the tensors until either side goes on."""
        return KVState(self.window, self.sinks, self.blocks, list(self.keys), list(self.values))

    def select(self, rows: Tensor) -> None:
        """Keep only these rows of the batch, int64 [rows], in this order; a row may be repeated."""
        self.keys = [k[rows] for k in self.keys]
        self.values = [v[rows] for v in self.values]

    def mask(self, new: tuple[int, ...]) -> Mask:
        """The rule for new blocks as queries over held and new blocks as keys."""
        blocks = self.blocks + new
        return Mask("blocks", blocks, self.window, self.sinks, (sum(new),), (sum(blocks),))

    def update(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Append one layer's new keys and values [B, T, Hkv, D]; returns all that are held with them."""
        if layer == len(self.keys):
            self.keys.append(k)
            self.values.append(v)
        else:
            self.keys[layer] = torch.cat((self.keys[layer], k), dim=1)
            self.values[layer] = torch.cat((self.values[layer], v), dim=1)
        return self.keys[layer], self.values[layer]

    def advance(self, new: tuple[int, ...]) -> None:
        """Count the new blocks as held, then evict whole blocks beyond the window."""
        self.blocks += new
        if self.window is None or len(self.blocks) <= self.sinks + self.window:
            return
        sink = sum(self.blocks[: self.sinks])
        recent = sum(self.blocks[-self.window :])
        self.blocks = self.blocks[: self.sinks] + self.blocks[-self.window :]
        for held in (self.keys, self.values):
            held[:] = [torch.cat((x[:, :sink], x[:, x.shape[1] - recent :]), dim=1) for x in held]
