"""What a transformer remembers of a stream: keys and values, in whole blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from mmworld.attention import FULL, Mask
from mmworld.errors import CheckpointError
from mmworld.nn.row import Row


@dataclass
class KVState:
    """The keys and values of every layer, of the blocks still held.

    `fork` shares the tensors (copy on write). Without sinks, keys are held rotated by their position in the stream:
    only distances count, and in float64 a billion tokens leave them exact to 1e-7. With sinks or limits, keys are held
    before rotation and positions are counted among what is held, so that what is kept of long ago stands right before
    the rest however long the stream (StreamingLLM, Xiao et al. 2023, section 3.2).

    Attributes:
        window: blocks kept, sinks not counted; None keeps all (a growing state).
        sinks: first blocks of the stream that are never evicted.
        limits: for each kind of block, how many of it are kept beside the sinks, None being all; () is of one kind.
        kind: of the blocks that come next.
        blocks, kinds: sizes and kinds of the blocks held, oldest first.
        keys, values: of each layer [B, T, Hkv, D].
        context: keys and values [B, M, Hkv, D] of what each layer with cross-attention looks at.
        offset: tokens that came before the first one held; of a compact state always 0.
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
    limits: tuple[int | None, ...] = ()
    kind: int = 0
    kinds: tuple[int, ...] = ()

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
    def compact(self) -> bool:
        """Whether positions are counted among what is held."""
        return self.sinks > 0 or bool(self.limits)

    @property
    def reach(self) -> tuple[bool, int | None]:
        """What states must have in common to go side by side: whether they are compact, and the window of a mask, which
        those that are do not need, as they take no more at once than they have room for."""
        return self.compact, None if self.compact else self.window

    @property
    def limit(self) -> int | None:
        """How many blocks of the kind that comes next are kept."""
        return self.limits[self.kind] if self.limits else None

    @property
    def nbytes(self) -> int:
        """Bytes of memory held, room to grow included."""
        context = sum(x[: 1 if _one(x) else len(x)].nbytes for pair in self.context.values() for x in pair)
        return context + sum(row.nbytes for row in (*self.keys, *self.values))

    def fork(self) -> KVState:
        """An independent copy that shares the tensors until either side goes on."""
        keys, values = [r.fork() for r in self.keys], [r.fork() for r in self.values]
        return replace(self, keys=keys, values=values, context=dict(self.context))

    @property
    def shape(self) -> tuple[Any, ...]:
        """What states must have in common to be rows of one."""
        held = (self.blocks, self.kinds) if self.limits else (self.blocks,)
        return self.window, self.sinks, self.limits, self.offset, self.delta, *held

    def unbind(self) -> None:
        """From here on keep all."""
        self.window, self.limits = None, (None,) * len(self.limits)

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
        return rule(blocks, self.window, self.sinks, (sum(new),), (sum(blocks),))

    def update(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Append one layer's new keys and values [B, T, Hkv, D]; returns all that are held with them."""
        if layer == len(self.keys):
            self.keys.append(Row(k[:, :0]))
            self.values.append(Row(v[:, :0]))
        self.keys[layer].append(k)
        self.values[layer].append(v)
        return self.keys[layer].x, self.values[layer].x

    def overflows(self, n: int) -> bool:
        """Whether n more blocks push out others."""
        mine = sum(k == self.kind for k in self.kinds[self.sinks :])
        over = self.window is not None and len(self.blocks) + n > self.sinks + self.window
        return over or (self.limit is not None and mine + n > self.limit)

    def steps(self, new: tuple[int, ...]) -> list[tuple[int, ...]]:
        """The next blocks, as many at a time as go through the layers at once: in a compact state what is kept stands
        right before each query, so those that push out others go one by one."""
        alone = self.compact and len(new) > 1 and self.overflows(len(new))
        return [(n,) for n in new] if alone else [new] if new else []

    def make_room(self) -> None:
        """Drop what one block more pushes out, so that it sees all that is held."""
        if self.limit is not None:
            self._evict(self.limit - 1, [i for i in self._loose if self.kinds[i] == self.kind])
        if self.window is not None:
            self._evict(self.window - 1, self._loose)

    def advance(self, new: tuple[int, ...]) -> None:
        """Count the new blocks as held, then evict whole blocks beyond the window."""
        blocks, kinds = self.blocks + new, self.kinds + (self.kind,) * len(new)
        first = next((i for i, n in enumerate(blocks) if n), len(blocks))  # time begins with the first token
        self.blocks, self.kinds = blocks[first:], kinds[first:]
        if self.window is not None:
            self._evict(self.window, self._loose)

    @property
    def _loose(self) -> Sequence[int]:
        """The blocks that may go."""
        return range(self.sinks, len(self.blocks))

    def _evict(self, keep: int, blocks: Sequence[int]) -> None:
        """Drop the oldest of these blocks until `keep` of them are held."""
        self.drop(blocks[: max(len(blocks) - keep, 0)])

    def drop(self, gone: Sequence[int]) -> None:
        """Forget the blocks of these indices, ascending."""
        if not gone:
            return
        for first, last in reversed(_runs(gone)):
            start, n = sum(self.blocks[:first]), sum(self.blocks[first:last])
            for row in (*self.keys, *self.values):
                row.drop(start, start + n)
            self.offset += 0 if self.compact else n
        left = set(range(len(self.blocks))) - set(gone)
        self.blocks = tuple(n for i, n in enumerate(self.blocks) if i in left)
        self.kinds = tuple(k for i, k in enumerate(self.kinds) if i in left)

    def tensors(self) -> dict[str, Tensor]:
        """All of the state by name, to be saved as safetensors."""
        limits = (-1 if self.window is None else self.window, self.sinks, self.offset, self.delta)
        out = {"limits": torch.tensor(limits), "blocks": torch.tensor(self.blocks, dtype=torch.long)}
        if self.limits:
            kept = [self.kind, *(-1 if n is None else n for n in self.limits)]
            out |= {"kept": torch.tensor(kept), "kinds": torch.tensor(self.kinds, dtype=torch.long)}
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
            kind, *kept = tensors["kept"].tolist() if "kept" in tensors else (0,)
            kinds = tuple(tensors["kinds"].tolist()) if kept else (0,) * len(blocks)
            held = _pairs(tensors, "keys", "values")
            context = _pairs(tensors, "context_keys", "context_values")
            keys, values = ([Row(held[i][part]) for i in range(len(held))] for part in (0, 1))
        except (KeyError, IndexError, TypeError, ValueError) as e:
            raise CheckpointError(f"not a saved state: {e}") from None
        if min(blocks, default=0) < 0 or any(len(row) != sum(blocks) for row in (*keys, *values)):
            raise CheckpointError(f"a saved state of {sum(blocks)} tokens holds keys or values of another length")
        limits = tuple(None if n < 0 else n for n in kept)
        if len(kinds) != len(blocks) or not all(0 <= k < max(1, len(limits)) for k in (*kinds, kind)):
            raise CheckpointError(f"a saved state of {len(limits)} kinds of blocks holds others")
        held_of = (None if window < 0 else window, sinks, blocks, keys, values, context, offset, delta)
        return cls(*held_of, limits, kind, kinds)


def rule(
    blocks: tuple[int, ...], window: int | None, sinks: int, lengths: tuple[int, ...], key_lengths: tuple[int, ...]
) -> Mask:
    """A mask of blocks; where each is a token it names none of them, as every layer looks it up by what it names."""
    if set(blocks) == {1}:
        return Mask("causal", None, window, sinks, lengths, key_lengths)
    return Mask("blocks", blocks, window, sinks, lengths, key_lengths)


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


def _runs(places: Sequence[int]) -> list[tuple[int, int]]:
    """Ascending places as half-open ranges."""
    out: list[tuple[int, int]] = []
    for i in places:
        out[-1:] = [(out[-1][0], i + 1)] if out and out[-1][1] == i else [*out[-1:], (i, i + 1)]
    return out
