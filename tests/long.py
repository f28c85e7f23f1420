"""Streams too long for one chunk, of any adapter, and what it makes of them computed without a state."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import torch
from hypothesis import strategies as st
from streams import stream
from torch import Tensor

from mmworld.models.modality import encode_many
from mmworld.nn.blocks import BlockEncoder, Rows
from mmworld.types import Chunk

POINTS, PICTURES = 200, 3
"""Points and pictures a second, where an adapter has no rate."""


@dataclass(frozen=True)
class Long:
    """A stream whose rows are drawn from a bank of them, so that only its chunks are ever in memory.

    Attributes:
        bank: the rows there are, without a column of times.
        index: int32 [n], of each row of the stream which of them it is.
        at: float64 [n + 1], seconds of each row since the start, and of the end.
        start: seconds.
        timed: whether rows come at no fixed rate and bring their times along.
    """

    modality: str
    bank: Tensor
    index: Tensor
    at: Tensor
    start: float
    timed: bool

    def piece(self, a: int, b: int, *, last: bool = False, span: tuple[float, float] | None = None) -> Chunk:
        """Rows a to b as a chunk; `span`: its times since the start, where they are not those of its rows."""
        begin, end = span or (float(self.at[a]), float(self.at[b]))
        data = self.bank[self.index[a:b]]
        if self.timed:
            data = torch.cat((data, (self.at[a:b] - begin).float()[:, None]), dim=1)
        return Chunk(data, self.start + begin, self.start + end, self.modality, last)

    def chunks(self, rows: list[int]) -> Iterator[Chunk]:
        """All of it in chunks of so many rows."""
        for i, (a, b) in enumerate(pairwise(accumulate(rows, initial=0))):
            yield self.piece(a, b, last=i == len(rows) - 1)


def bank_of(m: Any) -> Tensor:
    """A few hundred rows that an adapter takes."""
    rows = stream(m.name, 400 / (m.rate or PICTURES), seed=4, size=getattr(m.config, "size", 0)).data
    return rows[:, :11] if m.name == "points" else rows


def long_stream(m: Any, bank: Tensor, n: int, *, start: float) -> Long:
    """n random rows."""
    g = torch.Generator().manual_seed(n)
    at = torch.arange(n + 1, dtype=torch.float64) / (m.rate or PICTURES)
    if timed := m.hop > 0 and m.rate is None:
        at = (torch.rand(n + 1, generator=g, dtype=torch.float64) * n / POINTS).sort().values
        at -= at[0].item()
    return Long(m.name, bank, torch.randint(len(bank), (n,), generator=g, dtype=torch.int32), at, start, timed)


class Cuts(NamedTuple):
    """How a stream is chunked: sizes in rows, picked at random."""

    sizes: tuple[int, ...]
    seed: int

    def rows(self, steps: int) -> list[int]:
        """Rows of each of so many chunks."""
        return random.Random(self.seed).choices(self.sizes, k=steps)


def cuts(m: Any) -> st.SearchStrategy[Cuts]:
    """Chunks of no row, one, a few blocks' worth and some sizes between."""
    block = math.ceil(m.hop * (m.rate or POINTS)) or 1
    some = st.lists(st.integers(0, block), max_size=4)
    return st.builds(Cuts, some.map(lambda more: (0, 1, block // 2, 2 * block + 1, *more)), st.integers(0, 2**20))


def block_starts(m: Any, s: Long) -> list[int]:
    """The first row of each block, and the number of rows."""
    n = len(s.index)
    if m.hop == 0:
        return list(range(n + 1))
    if m.rate is not None:
        size = round(m.hop * m.rate)
        return [*range(0, n, size), n]
    grid = torch.arange(math.ceil(float(s.at[-1]) / m.hop), dtype=torch.float64) * m.hop
    return [*torch.searchsorted(s.at[:-1].contiguous(), grid).tolist(), n]


def reach(m: Any) -> int | None:
    """How many blocks back a token may depend on; None: on all."""
    e = getattr(m, "encoder", None)
    if not isinstance(e, BlockEncoder):
        return None
    context = math.ceil(e.cutter.context / e.cutter.size) if isinstance(e.cutter, Rows) else 0
    return context + e.transformer.config.depth * (e.window - 1)


def without_state(
    m: Any, s: Long, stretch: int = 128, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, tuple[int, ...]]:
    """The tokens [N, D] of all of a stream, in one masked pass over each stretch of blocks and as much before it as can
    reach it; and how many each block has."""
    exact, edges, back = copy.deepcopy(m).to(dtype), block_starts(m, s), reach(m)
    total, out, sizes = len(edges) - 1, list[Tensor](), list[int]()
    for a in range(0, total, stretch if back is not None else total):
        first, b = max(a - (back or 0), 0), min(a + stretch, total) if back is not None else total
        span = (first * m.hop, min(b * m.hop, float(s.at[-1]))) if m.hop else None
        (tokens,) = encode_many(exact, [s.piece(edges[first], edges[b], last=True, span=span)])
        out.append(tokens.x[sum(tokens.blocks[: a - first]) :])
        sizes += tokens.blocks[a - first :]
    return torch.cat(out), tuple(sizes)


def block_times(m: Any, s: Long, rows: list[int]) -> tuple[Tensor, Tensor]:
    """When each block starts and ends, float64 [blocks]: on the grid of the hop, the last where the stream does; a
    picture with its chunk, of so many rows."""
    if m.hop == 0:
        edges, n = s.at[list(accumulate(rows, initial=0))], torch.tensor(rows)
        return s.start + edges[:-1].repeat_interleave(n), s.start + edges[1:].repeat_interleave(n)
    grid = s.start + m.hop * torch.arange(len(block_starts(m, s)), dtype=torch.float64)
    return grid[:-1], grid[1:].clamp(max=s.start + float(s.at[-1]))
