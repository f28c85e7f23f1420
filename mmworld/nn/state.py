"""What a transformer remembers of a stream: keys and values, in whole blocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mmworld.attention import Mask
from mmworld.errors import CheckpointError
from mmworld.nn.row import Row


@dataclass
class KVState:
    """The keys and values of every layer, of the blocks still held.

    `fork` shares the tensors (copy on write). Positions are counted inside the state, so they stay small for a stream
    of any length; when blocks are evicted, sinks move up to stand right before the window (StreamingLLM, Xiao et al.
    2023, section 3.2). A state that was made to evict therefore holds keys before rotation; one that only grows holds
    them rotated.

    Attributes:
        window: blocks kept, sinks not counted; None keeps all (a growing state).
        sinks: first blocks of the stream that are never evicted.
        blocks: sizes of the blocks held, oldest first.
        keys, values: of each layer [B, T, Hkv, D].
        context: keys and values [B, M, Hkv, D] of what each layer with cross-attention looks at.
        rotated: whether keys are held rotated.
    """

    window: int | None = None
    sinks: int = 0
    blocks: tuple[int, ...] = ()
    keys: list[Row] = field(default_factory=list)
    values: list[Row] = field(default_factory=list)
    context: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    rotated: bool | None = None

    def __post_init__(self) -> None:
        self.rotated = self.window is None if self.rotated is None else self.rotated

    def __len__(self) -> int:
        return sum(self.blocks)

    @property
    def nbytes(self) -> int:
        """Bytes of memory held, room to grow included."""
        context = sum(k.nbytes + v.nbytes for k, v in self.context.values())
        return context + sum(row.nbytes for row in (*self.keys, *self.values))

    def fork(self) -> KVState:
        """An independent copy that shares the tensors until either side goes on."""
        keys, values = [r.fork() for r in self.keys], [r.fork() for r in self.values]
        return KVState(self.window, self.sinks, self.blocks, keys, values, dict(self.context), self.rotated)

    def select(self, rows: Tensor) -> None:
        """Keep only these rows of the batch, int64 [rows], in this order; a row may be repeated."""
        self.keys = [Row(r.x[rows]) for r in self.keys]
        self.values = [Row(r.x[rows]) for r in self.values]
        self.context = {i: (k[rows], v[rows]) for i, (k, v) in self.context.items()}

    def mask(self, new: tuple[int, ...]) -> Mask:
        """The rule for new blocks as queries over held and new blocks as keys."""
        blocks = self.blocks + new
        return Mask("blocks", blocks, self.window, self.sinks, (sum(new),), (sum(blocks),))

    def update(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Append one layer's new keys and values [B, T, Hkv, D]; returns all that are held with them."""
        if layer == len(self.keys):
            self.keys.append(Row(k[:, :0]))
            self.values.append(Row(v[:, :0]))
        self.keys[layer].append(k)
        self.values[layer].append(v)
        return self.keys[layer].x, self.values[layer].x

    def advance(self, new: tuple[int, ...]) -> None:
        """Count the new blocks as held, then evict whole blocks beyond the window."""
        blocks = self.blocks + new
        first = next((i for i, n in enumerate(blocks) if n), len(blocks))  # time begins with the first token
        self.blocks = blocks[first:]
        if self.window is not None:
            self.evict(self.window)

    def evict(self, keep: int) -> None:
        """Drop the oldest blocks until `keep` are held beside the sinks.

        Raises:
            ValueError: the state was made to grow only.
        """
        gone = self.blocks[self.sinks : max(len(self.blocks) - keep, 0)]
        if not gone:
            return
        if self.rotated:
            raise ValueError("a state made without a window cannot evict")
        start = sum(self.blocks[: self.sinks])
        self.blocks = self.blocks[: self.sinks] + self.blocks[self.sinks + len(gone) :]
        for row in (*self.keys, *self.values):
            row.drop(start, start + sum(gone))

    def tensors(self) -> dict[str, Tensor]:
        """All of the state by name, to be saved as safetensors."""
        limits = (-1 if self.window is None else self.window, self.sinks, int(bool(self.rotated)))
        out = {"limits": torch.tensor(limits), "blocks": torch.tensor(self.blocks, dtype=torch.long)}
        for i, (k, v) in enumerate(zip(self.keys, self.values, strict=True)):
            out |= {f"keys.{i}": k.x.clone(), f"values.{i}": v.x.clone()}
        for i, (key, value) in self.context.items():
            out |= {f"context_keys.{i}": key.clone(), f"context_values.{i}": value.clone()}
        return out

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> KVState:
        """The state that `tensors` wrote.

        Raises:
            CheckpointError: a tensor is missing, or its length is not that of the blocks.
        """
        try:
            window, sinks, rotated = tensors["limits"].tolist()
            blocks = tuple(tensors["blocks"].tolist())
            held = _pairs(tensors, "keys", "values")
            context = _pairs(tensors, "context_keys", "context_values")
            keys, values = ([Row(held[i][part]) for i in range(len(held))] for part in (0, 1))
        except (KeyError, ValueError) as e:
            raise CheckpointError(f"not a saved state: {e}") from None
        if any(len(row) != sum(blocks) for row in (*keys, *values)):
            raise CheckpointError(f"a saved state of {sum(blocks)} tokens holds keys or values of another length")
        return cls(None if window < 0 else window, sinks, blocks, keys, values, context, bool(rotated))


def _pairs(tensors: Mapping[str, Tensor], first: str, second: str) -> dict[int, tuple[Tensor, Tensor]]:
    """Layer to its tensors "first.layer" and "second.layer"."""
    layers = [int(name.removeprefix(f"{first}.")) for name in tensors if name.startswith(f"{first}.")]
    return {i: (tensors[f"{first}.{i}"], tensors[f"{second}.{i}"]) for i in layers}
