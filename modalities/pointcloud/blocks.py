"""Cuts sweeps into blocks by time."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mmworld.errors import LimitError, MediaError
from mmworld.nn.blocks import Blocks, block_times
from mmworld.types import Chunk

COLUMNS = ("x", "y", "z", "red", "green", "blue", "nx", "ny", "nz", "velocity", "intensity")
MAX_POINTS = 1 << 22
"""Points held for one block."""
MAX_BLOCKS = 1 << 12
"""Blocks one chunk may complete."""
SLACK = 1e-5
"""Part of a hop by which a sweep may come early: times are rounded."""


@dataclass(frozen=True, eq=False)
class PointBlocks:
    """The points of n blocks.

    Attributes:
        points: float32 [P, 11], the COLUMNS.
        phase: float32 [P], when in its block a point was seen, 0 to 1.
        block: int64 [P], ascending.
    """

    points: Tensor
    phase: Tensor
    block: Tensor
    n: int


@dataclass
class HeldPoints:
    """Points of blocks that are not complete yet: [P, 11] and their float64 place [P] in hops since t0."""

    t0: float = 0.0
    index: int = 0
    points: Tensor | None = None
    place: Tensor | None = None

    def fork(self) -> HeldPoints:
        return replace(self)

    @property
    def nbytes(self) -> int:
        return sum(x.nbytes for x in (self.points, self.place) if x is not None)


@dataclass(frozen=True)
class Sweeps:
    """Cuts sweeps into blocks of one hop.

    A chunk holds one sweep, seen at its start; or several, with a twelfth column: seconds since the chunk's start.
    Columns that are absent at the right are zeros.

    Attributes:
        hop: seconds of a block.
    """

    hop: float

    def init_state(self) -> HeldPoints:
        return HeldPoints()

    def cut(self, chunk: Chunk, state: HeldPoints) -> Blocks:
        """The blocks that end by the chunk's end, those without points too; a last chunk completes the partial one.

        Raises:
            MediaError: the columns are none we know, or a sweep is older than a block already complete.
            LimitError: more than MAX_POINTS wait for one block, or more than MAX_BLOCKS pass at once.
        """
        points, place = self._append(chunk, state)
        index = (place + SLACK).floor().long()
        n = self._complete(chunk, state, index)
        ready = index < state.index + n
        start, end = block_times(state.t0, self.hop, state.index, n)
        if chunk.last and n:
            end[-1] = min(max(chunk.end, float(start[-1])), float(end[-1]))
        phase = (place[ready] - index[ready]).float()
        block = index[ready] - state.index
        order = block.argsort(stable=True)
        data = PointBlocks(points[ready][order], phase[order], block[order], n)
        state.index += n
        state.points, state.place = points[~ready], place[~ready]
        if len(state.points) > MAX_POINTS:
            raise LimitError("points", f"{chunk!r}: over {MAX_POINTS} points in {self.hop} s", hint="sample them first")
        return Blocks(data, start, end)

    def _append(self, chunk: Chunk, state: HeldPoints) -> tuple[Tensor, Tensor]:
        points, seconds = _columns(chunk)
        if state.points is None or state.place is None:
            state.t0 = chunk.start
            return points, seconds / self.hop
        place = (chunk.start - state.t0 + seconds) / self.hop
        return torch.cat((state.points, points)), torch.cat((state.place, place))

    def _complete(self, chunk: Chunk, state: HeldPoints, index: Tensor) -> int:
        """How many blocks the chunk completes."""
        hops = (chunk.end - state.t0) / self.hop
        newest = int(index.max()) if len(index) else -1
        if len(index) and int(index.min()) < state.index:
            raise MediaError("order", f"{chunk!r}: a sweep is older than {state.t0 + state.index * self.hop:.3f} s")
        done = max(math.ceil(hops - SLACK), newest + 1) if chunk.last else max(math.floor(hops + SLACK), newest)
        n = max(done - state.index, 0)
        if n > MAX_BLOCKS:
            raise LimitError(
                "gap", f"{chunk!r}: a gap of {n * self.hop:.0f} s, the limit is {MAX_BLOCKS * self.hop:.0f}"
            )
        return n


def _columns(chunk: Chunk) -> tuple[Tensor, Tensor]:
    """Points [P, 11] and float64 seconds since the chunk's start [P]."""
    data = chunk.data
    known = len(COLUMNS)
    if data.ndim != 2 or not 3 <= data.shape[1] <= known + 1:
        raise MediaError("shape", f"{chunk!r}: points have 3 to {known + 1} columns: {', '.join(COLUMNS)}, seconds")
    if data.shape[1] == known + 1:
        return data[:, :known], data[:, known].double()
    missing = data.new_zeros(len(data), known - data.shape[1])
    return torch.cat((data, missing), dim=1), torch.zeros(len(data), dtype=torch.float64)


def split(chunk: Chunk, row: int) -> tuple[Chunk, Chunk]:
    """`chunk` in two, before and from `row`; the first ends and the second starts when that row was seen."""
    first, second = chunk.data[:row], chunk.data[row:]
    later = float(second[0, -1]) if len(second) and second.shape[1] > len(COLUMNS) else 0.0
    middle = min(chunk.start + later, chunk.end) if len(second) else chunk.end
    if later:
        second = second.clone()
        second[:, -1] -= later
    return replace(chunk, data=first, end=middle, last=False), replace(chunk, data=second, start=middle)
