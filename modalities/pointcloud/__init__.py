"""Point clouds: a cloud, or sweeps in time, to at most seventeen tokens every 0.25 s."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from mmworld.config import config
from mmworld.modalities.pointcloud.blocks import COLUMNS, Sweeps, split
from mmworld.modalities.pointcloud.encoder import PointStem
from mmworld.nn.blocks import BlockEncoder, EncoderConfig, StreamState
from mmworld.types import Chunk, Source, Tokens

if TYPE_CHECKING:
    from mmworld.media.gate import Media

SWEEPS = 8
"""Sweeps of a hop into which a recording is cut."""


@config
class PointsConfig(EncoderConfig):
    """
    Attributes:
        width: of the network over points.
        hop: seconds of a block.
        n_centres: parts of a block, at most; a token stands for each, and one for the whole.
        part_points: points for which a block has a part.
        max_points: points of a block that are used.
    """

    width: int = 64
    hop: float = 0.25
    n_centres: int = 16
    part_points: int = 32
    max_points: int = 2048

    def __post_init__(self) -> None:
        if self.hop <= 0 or min(self.n_centres, self.part_points, self.max_points) < 1:
            raise ValueError(f"hop must be > 0 and every number of points or parts >= 1, got {self}")


class Points(nn.Module):
    """Point clouds, float32 [P, 3 to 11]: x y z (metres), r g b (0 to 1), normal, velocity (m/s), intensity.

    A chunk is one sweep, seen at its start; or several, with a twelfth column: seconds since the chunk's start.
    A hop without points gives one token too, so the clock goes on. A still cloud is a chunk whose end is its start.
    """

    name = "points"
    rate: float | None = None

    def __init__(self, config: PointsConfig = PointsConfig()) -> None:  # noqa: B008 (frozen)
        super().__init__()
        c = self.config = config
        stem = PointStem(c.dim, c.width, c.n_centres, c.part_points, c.max_points)
        self.encoder = BlockEncoder(Sweeps(c.hop), stem, c)
        self.dim, self.hop = c.dim, c.hop

    def open(self, source: Source | Media, *, start: float = 0.0, end: float | None = None) -> Iterator[Chunk]:
        """The sweeps of `source` (a recording, or a folder or glob with a cloud for each hop), or its one cloud.

        Raises:
            MediaError: the gate refuses the source, or it is no point cloud.
        """
        from mmworld.modalities.pointcloud.sweeps import read_sweeps

        # A folder says nothing of time: a cloud is a block. A recording has its own clock, which is kept.
        folder = isinstance(source, str | os.PathLike) and (os.path.isdir(source) or glob.has_magic(os.fspath(source)))
        clock, data = start, torch.zeros(0, len(COLUMNS))
        for begin, until, data in read_sweeps(source, self.hop if folder else self.hop / SWEEPS):
            if end is not None and begin >= end:
                break
            if begin >= start:
                yield Chunk(data, begin, until, self.name)
                clock = until
        yield Chunk(data[:0], clock, clock, self.name, last=True)

    def split(self, chunk: Chunk, row: int) -> tuple[Chunk, Chunk]:
        """`chunk` in two, before and from `row` of its points; the second starts with the sweep of that row."""
        return split(chunk, row)

    def init_state(self) -> StreamState:
        return self.encoder.init_state()

    def encode(self, chunk: Chunk, state: StreamState | None = None) -> Tokens:
        """Tokens of the blocks that `chunk` completes. Raises MediaError for other columns or sweeps out of order."""
        return self.encoder.encode(chunk, state)

    def encode_many(self, chunks: Sequence[Chunk]) -> list[Tokens]:
        return self.encoder.encode_many(chunks)

    def encode_next(self, chunks: Sequence[Chunk], states: Sequence[StreamState]) -> list[Tokens]:
        return self.encoder.encode_next(chunks, states)
