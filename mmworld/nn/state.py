"""What a transformer remembers of a stream: keys and values, in whole blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mmworld.attention import FULL, Mask
from mmworld.errors import CheckpointError
from mmworld.nn.row import Row


@dataclass
class KVState:
    """The keys and values of every layer, of the blocks still held.

    `fork` shares the tensors (copy on write). Without sinks, keys are held rotated by their position in the stream:
    only distances count, and in float64 a billion tokens leave them exact to 1e-7. With sinks, keys are held before
    rotation and positions are counted among what is held, so that sinks stand right before the window however long
    the stream (StreamingLLM, Xiao et al. 2023, section 3.2).

    Attributes:
        window: blocks kept, sinks not counted; None keeps all (a growing state).
        sinks: first blocks of the stream that are never evicted.
        blocks: sizes of the blocks held, oldest first.
        keys, values: of each layer [B, T, Hkv, D].
        context: keys and values [B, M, Hkv, D] of what each layer with cross-attention looks at.
        offset: tokens that came before the first one held; with sinks always 0.
        delta: by how much the position of the token that comes next is more than the tokens before it: those of a
            picture share positions (Wang et al. 2024, Qwen2-VL, section 2.1).
    """

    window: int | None = None
    sinks: int = 0
    blocks: tuple[int, ...] = ()
    keys: list[Row] = field(default_factory=list)
    values: list[Row] = field(default_factory=list)
    context: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    offset: int = 0
    delta: int = 0

    def __len__(self) -> int:
        return sum(self.blocks)

    @property
    def next(self) -> int:
        """Position of the token that comes next."""
        return self.offset + len(self) + self.delta

    def places(self, n: int, device: torch.device | None = None) -> Tensor:
        """Positions of the n tokens that come next [n]."""
        return torch.arange(self.next, self.next + n, device=device)

    @property
    def nbytes(self) -> int:
        """Bytes of memory held, room to grow included."""
        context = sum(x[: 1 if _one(x) else len(x)].nbytes for pair in self.context.values() for x in pair)
        return context + sum(row.nbytes for row in (*self.keys, *self.values))

    def fork(self) -> KVState:
        """An independent copy that shares the tensors until either side goes on."""
        keys, values = [r.fork() for r in self.keys], [r.fork() for r in self.values]
        return KVState(self.window, self.sinks, self.blocks, keys, values, dict(self.context), self.offset, self.delta)

    @property
    def shape(self) -> tuple[int | None, int, int, int, tuple[int, ...]]:
        """What states must have in common to be rows of one."""
        return self.window, self.sinks, self.offset, self.delta, self.blocks

    @classmethod
    def stack(cls, states: Sequence[KVState]) -> KVState:
        """The rows of states of one shape, in one state; they stay as they are."""
        if len({s.shape for s in states}) != 1:
            raise ValueError("states of different shapes cannot be rows of one")
        out = states[0].fork()
        if len(states) > 1:
            out.keys = [Row(torch.cat([r.x for r in rows])) for rows in zip(*(s.keys for s in states), strict=True)]
            out.values = [Row(torch.cat([r.x for r in rows])) for rows in zip(*(s.values for s in states), strict=True)]
            for i in out.context:
                k, v = zip(*(s.context[i] for s in states), strict=True)
                out.context[i] = torch.cat(k), torch.cat(v)
        return out

    def select(self, rows: Tensor) -> None:
        """Keep only these rows of the batch, int64 [rows], in this order; a row may be repeated."""
        self.keys = [Row(r.x[rows]) for r in self.keys]
        self.values = [Row(r.x[rows]) for r in self.values]
        self.context = {i: (_rows(k, rows), _rows(v, rows)) for i, (k, v) in self.context.items()}

    def apart(self) -> list[KVState]:
        """Each row of the batch as a state by itself."""
        out = [self.fork() for _ in range(len(self.keys[0].x))]
        for i, one in enumerate(out):
            one.select(torch.tensor([i]))
        return out

    def mask(self, new: tuple[int, ...]) -> Mask:
        """The rule for new blocks as queries over held and new blocks as keys."""
        blocks = self.blocks + new
        if len(new) == 1 and (self.window is None or len(blocks) <= self.sinks + self.window):
            return FULL  # the cache is the past
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
        """Drop the oldest blocks until `keep` are held beside the sinks."""
        gone = self.blocks[self.sinks : max(len(self.blocks) - keep, 0)]
        if not gone:
            return
        start = sum(self.blocks[: self.sinks])
        self.blocks = self.blocks[: self.sinks] + self.blocks[self.sinks + len(gone) :]
        for row in (*self.keys, *self.values):
            row.drop(start, start + sum(gone))
        if not self.sinks:
            self.offset += sum(gone)

    def tensors(self) -> dict[str, Tensor]:
        """All of the state by name, to be saved as safetensors."""
        limits = (-1 if self.window is None else self.window, self.sinks, self.offset, self.delta)
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
            CheckpointError: a tensor is missing, or a length is not that of the blocks.
        """
        try:
            window, sinks, offset, delta = tensors["limits"].tolist()
            blocks = tuple(int(n) for n in tensors["blocks"].tolist())
            held = _pairs(tensors, "keys", "values")
            context = _pairs(tensors, "context_keys", "context_values")
            keys, values = ([Row(held[i][part]) for i in range(len(held))] for part in (0, 1))
        except (KeyError, IndexError, TypeError, ValueError) as e:
            raise CheckpointError(f"not a saved state: {e}") from None
        if min(blocks, default=0) < 0 or any(len(row) != sum(blocks) for row in (*keys, *values)):
            raise CheckpointError(f"a saved state of {sum(blocks)} tokens holds keys or values of another length")
        return cls(None if window < 0 else window, sinks, blocks, keys, values, context, offset, delta)


def _rows(x: Tensor, rows: Tensor) -> Tensor:
    """These rows; those of one that is repeated share its memory, as it is never written to."""
    return x[:1].expand(len(rows), *x.shape[1:]) if _one(x) else x[rows]


def _one(x: Tensor) -> bool:
    """Whether all rows are one in memory."""
    return len(x) == 1 or (len(x) > 1 and x.stride(0) == 0)


def _pairs(tensors: Mapping[str, Tensor], first: str, second: str) -> dict[int, tuple[Tensor, Tensor]]:
    """Layer to its tensors "first.layer" and "second.layer"."""
    layers = [int(name.removeprefix(f"{first}.")) for name in tensors if name.startswith(f"{first}.")]
    return {i: (tensors[f"{first}.{i}"], tensors[f"{second}.{i}"]) for i in layers}
