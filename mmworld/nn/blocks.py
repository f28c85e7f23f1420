"""A stream cut into blocks of one hop: a dense stem sees each block, a transformer a window of blocks.

What a block holds depends on the stream alone, never on how it was chunked, so chunked and whole give the same tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mmworld.attention import FULL, Mask
from mmworld.config import config
from mmworld.errors import MediaError
from mmworld.nn.position import Rotary
from mmworld.nn.state import KVState
from mmworld.nn.streams import Streams
from mmworld.nn.transformer import Transformer, TransformerConfig
from mmworld.types import Chunk, Tokens


@config
class EncoderConfig:
    """What every built-in encoder has.

    Attributes:
        dim: width of a token.
        depth, n_heads, hidden, dropout: of the transformer.
        window: blocks that a token sees, its own counted.
    """

    dim: int = 192
    depth: int = 2
    n_heads: int = 4
    hidden: int = 384
    dropout: float = 0.0
    window: int = 16


@dataclass(frozen=True, eq=False)
class Blocks:
    """K blocks of one stream: what the stem takes of them, and their float64 seconds [K]."""

    data: Any
    start: Tensor
    end: Tensor

    def __len__(self) -> int:
        return len(self.start)


class Cutter(Protocol):
    """Cuts chunks into whole blocks; what does not fill one waits in the state."""

    def init_state(self) -> Any: ...

    def cut(self, chunk: Chunk, state: Any) -> Blocks: ...


def block_times(t0: float, hop: float, first: int, n: int) -> tuple[Tensor, Tensor]:
    """Starts and ends of blocks first .. first + n - 1, float64 [n]."""
    edges = t0 + torch.arange(first, first + n + 1, dtype=torch.float64) * hop
    return edges[:-1], edges[1:]


@dataclass
class Held:
    """Rows of a stream that later blocks need: left context, then rows that fill no block yet.

    Tensors are never written in place, so a fork shares them.
    """

    t0: float = 0.0
    index: int = 0
    rows: Tensor | None = None

    def fork(self) -> Held:
        return replace(self)

    @property
    def nbytes(self) -> int:
        return 0 if self.rows is None else self.rows.nbytes


@dataclass(frozen=True)
class Rows:
    """Cuts rows that come at a fixed rate (samples, frames) into blocks [context + size, ...].

    Attributes:
        size: rows of a block's own.
        context: rows before them that the block sees as well.
        rate: rows a second.
        edge: before the first row and after the last stands that row again; without it, zeros.
    """

    size: int
    context: int
    rate: float
    edge: bool = False

    @property
    def hop(self) -> float:
        return self.size / self.rate

    def init_state(self) -> Held:
        return Held()

    def cut(self, chunk: Chunk, state: Held) -> Blocks:
        """The blocks that `chunk` completes, data [K, context + size, ...]; a last chunk completes the partial one.

        Raises:
            MediaError: the rows do not come at `rate`, or their shape changes within the stream.
        """
        held, data = state.rows, chunk.data
        self._check(chunk, held)
        if held is None:
            state.t0 = chunk.start
            held = self._more(data[:1], self.context) if len(data) else data
        n, rest = divmod(max(len(held) + len(data) - self.context, 0), self.size)
        pieces = [p for p in (held, data) if len(p)]
        start, end = block_times(state.t0, self.hop, state.index, n + (chunk.last and rest > 0))
        if chunk.last and rest:
            pieces.append(self._more(pieces[-1][-1:], self.size - rest))
            end[-1] = min(max(chunk.end, float(start[-1])), float(end[-1]))
        if not pieces:
            return Blocks(data[None, :0], start, end)
        rows = torch.cat(pieces)
        state.index += len(start)
        # Cloned: a view would keep a long chunk alive for the sake of its tail.
        state.rows = rows[len(start) * self.size :].clone()
        if not len(start):
            return Blocks(rows[None, :0], start, end)
        return Blocks(rows.unfold(0, self.context + self.size, self.size).movedim(-1, 1), start, end)

    def _check(self, chunk: Chunk, held: Tensor | None) -> None:
        n, seconds = len(chunk.data), chunk.end - chunk.start
        if abs(seconds * self.rate - n) > 1.5 + 0.02 * n:
            raise MediaError(
                "rate", f"{chunk!r}: {n} rows in {seconds:.3f} s, not {self.rate:g} a second", hint="resample"
            )
        if n and held is not None and chunk.data.shape[1:] != held.shape[1:]:
            shapes = f"{list(chunk.data.shape[1:])} after {list(held.shape[1:])}"
            raise MediaError("shape", f"{chunk!r}: rows of shape {shapes} in one stream")

    def _more(self, row: Tensor, n: int) -> Tensor:
        """n rows that stand for what is not there."""
        rows = row.expand(n, *row.shape[1:])
        return rows if self.edge else torch.zeros_like(rows)


@dataclass
class Nothing:
    """The state of a cutter that holds nothing back."""

    nbytes: int = 0

    def fork(self) -> Nothing:
        return self


@dataclass(frozen=True)
class Singles:
    """Each row is a block of its own, at the times of its chunk."""

    def init_state(self) -> Nothing:
        return Nothing()

    def cut(self, chunk: Chunk, state: Nothing) -> Blocks:
        times = torch.tensor([chunk.start, chunk.end], dtype=torch.float64)[:, None].expand(2, len(chunk.data))
        return Blocks(chunk.data, *times)


@dataclass
class StreamState:
    """What an encoder remembers of one stream."""

    cut: Any
    kv: KVState

    def fork(self) -> StreamState:
        """An independent copy; tensors are shared until either side goes on."""
        return StreamState(self.cut.fork(), self.kv.fork())

    @property
    def nbytes(self) -> int:
        return self.cut.nbytes + self.kv.nbytes


class Merge(nn.Module):
    """Four neighbouring tokens of a square grid become one, so that a backbone reads a quarter of them.

    Pixel shuffle, as between encoder and language model in Idefics3 (Laurençon et al. 2024, section 3.1).

    Args:
        dim: width D of a token, before and after.
        side: of a block's grid, even.
    """

    def __init__(self, dim: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.join = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Blocks of side * side tokens [N, D] to [N / 4, D]."""
        quads = x.unflatten(0, (-1, self.side // 2, 2, self.side // 2, 2)).transpose(2, 3)
        return self.join(quads.flatten(3).flatten(0, 2))


class BlockEncoder(nn.Module):
    """Cutter, stem and transformer of one modality.

    Args:
        cutter: makes blocks of chunks.
        stem: takes the data of one or more streams' blocks, returns tokens [N, D] and how many each block has.
        c: sizes of the transformer over the tokens, and its window.
        merge: what follows the transformer where a block is a grid of tokens.
    """

    def __init__(self, cutter: Cutter, stem: nn.Module, c: EncoderConfig, merge: Merge | None = None) -> None:
        super().__init__()
        self.cutter, self.stem, self.window, self.merge = cutter, stem, c.window, merge
        sizes = TransformerConfig(c.dim, c.depth, c.n_heads, hidden=c.hidden, dropout=c.dropout)
        self.transformer = Transformer(sizes, position=Rotary(c.dim // c.n_heads))

    def init_state(self) -> StreamState:
        return StreamState(self.cutter.init_state(), KVState(self.window))

    def encode(self, chunk: Chunk, state: StreamState | None = None) -> Tokens:
        """Tokens of the blocks that `chunk` completes; `state` moves on. None is a fresh stream."""
        state = state or self.init_state()
        blocks = self.cutter.cut(chunk, state.cut)
        x, sizes = self._tokens([blocks])
        if len(x):
            x, sizes = self._merge(self.transformer(x[None], Mask("blocks", sizes), state.kv)[0], sizes)
        return _dated(x, sizes, blocks)

    def encode_many(self, chunks: Sequence[Chunk]) -> list[Tokens]:
        """Tokens of whole streams, one chunk each, in one packed pass."""
        cuts = [self.cutter.cut(replace(c, last=True), self.cutter.init_state()) for c in chunks]
        x, sizes = self._tokens(cuts)
        if len(x):
            x, sizes = self._merge(self._attend(x, sizes, _split(sizes, [len(c) for c in cuts])), sizes)
        return _each(x, sizes, cuts)

    def encode_next(self, chunks: Sequence[Chunk], states: Sequence[StreamState]) -> list[Tokens]:
        """What `encode` makes of the next chunk of each of several streams, in one packed pass; all states move on, or
        none where it raises."""
        held = [s.cut.fork() for s in states]
        cuts = [self.cutter.cut(c, h) for c, h in zip(chunks, held, strict=True)]
        x, sizes = self._tokens(cuts)
        for state, mine in zip(states, held, strict=True):
            state.cut = mine
        if len(x):
            lengths = tuple(map(sum, _split(sizes, [len(c) for c in cuts])))
            streams = Streams([s.kv for s in states])
            x, sizes = self._merge(self.transformer(x[None], Mask("blocks", sizes, lengths=lengths), streams)[0], sizes)
        return _each(x, sizes, cuts)

    def _tokens(self, cuts: Sequence[Blocks]) -> tuple[Tensor, tuple[int, ...]]:
        if not sum(map(len, cuts)):
            weight = next(self.transformer.parameters())
            return weight.new_zeros(0, self.transformer.config.dim), ()
        return self.stem([c.data for c in cuts if len(c)])

    def _merge(self, x: Tensor, sizes: tuple[int, ...]) -> tuple[Tensor, tuple[int, ...]]:
        return (x, sizes) if self.merge is None else (self.merge(x), tuple(n // 4 for n in sizes))

    def _attend(self, x: Tensor, sizes: tuple[int, ...], streams: list[tuple[int, ...]]) -> Tensor:
        held = [s for s in streams if s]
        if any(s != held[0] for s in held):
            lengths = tuple(map(sum, held))
            return self.transformer(x[None], Mask("blocks", sizes, self.window, lengths=lengths))[0]
        # Streams of one layout are a plain batch, which spares a kernel call for each.
        mask = FULL if len(held[0]) == 1 else Mask("blocks", held[0], self.window)
        return self.transformer(x.unflatten(0, (len(held), -1)), mask).flatten(0, 1)


def _split(sizes: tuple[int, ...], counts: Sequence[int]) -> list[tuple[int, ...]]:
    out, n = [], 0
    for count in counts:
        out.append(sizes[n : n + count])
        n += count
    return out


def _each(x: Tensor, sizes: tuple[int, ...], cuts: Sequence[Blocks]) -> list[Tokens]:
    """The tokens of each stream, of a row of all."""
    mine = _split(sizes, [len(c) for c in cuts])
    rows = x.split([sum(n) for n in mine])
    return [_dated(*parts) for parts in zip(rows, mine, cuts, strict=True)]


def _dated(x: Tensor, sizes: tuple[int, ...], blocks: Blocks) -> Tokens:
    repeats = sizes[0] if len(set(sizes)) == 1 else torch.tensor(sizes, dtype=torch.long)
    return Tokens(x, blocks.start.repeat_interleave(repeats), blocks.end.repeat_interleave(repeats), sizes)
