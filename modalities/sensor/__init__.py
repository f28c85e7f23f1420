"""Sensor series: any number of channels to four tokens a second."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from mmworld.config import config
from mmworld.modalities.sensor.encoder import TOKENS, SensorStem
from mmworld.nn.blocks import BlockEncoder, EncoderConfig, Rows, StreamState
from mmworld.types import Chunk, Source, Tokens

if TYPE_CHECKING:
    from mmworld.media.gate import Media


@config
class SensorConfig(EncoderConfig):
    """
    Attributes:
        width: channels of the convolutions.
        rate: rows a second.
        rows: rows of a block, at least 4.
    """

    width: int = 96
    rate: float = 16.0
    rows: int = 16

    def __post_init__(self) -> None:
        if self.rows < TOKENS or self.rate <= 0:
            raise ValueError(f"rows must be >= {TOKENS} and rate > 0, got {self.rows} and {self.rate}")


class Sensor(nn.Module):
    """Series of any units, float32 [T, C] at `rate` rows a second; C stays the same within a stream."""

    name = "sensor"

    def __init__(self, config: SensorConfig = SensorConfig()) -> None:  # noqa: B008 (frozen)
        super().__init__()
        c = self.config = config
        context = c.rows // TOKENS
        cutter = Rows(c.rows, context, c.rate, edge=True)
        self.encoder = BlockEncoder(cutter, SensorStem(c.dim, c.width, context), c)
        self.dim, self.hop = c.dim, cutter.hop
        self.rate: float | None = c.rate

    def open(self, source: Source | Media, *, start: float = 0.0, end: float | None = None) -> Iterator[Chunk]:
        """The series of `source` at `rate`, a block a chunk.

        Raises:
            MediaError: the gate refuses the source, or it is no series.
        """
        from mmworld.modalities.sensor.readers import read_series

        rate = self.config.rate
        clock, data = start, torch.zeros(0, 1)
        for begin, _, piece in read_series(source, rate, block_rows=self.config.rows):
            skip = max(math.ceil((start - begin) * rate - 1e-6), 0)
            stop = len(piece) if end is None else max(math.ceil((end - begin) * rate - 1e-6), 0)
            data = piece[skip:stop]
            if len(data):
                clock = begin + skip / rate
                yield Chunk(data, clock, clock + len(data) / rate, self.name)
                clock += len(data) / rate
            if stop < len(piece):
                break
        yield Chunk(data[:0], clock, clock, self.name, last=True)

    def init_state(self) -> StreamState:
        return self.encoder.init_state()

    def encode(self, chunk: Chunk, state: StreamState | None = None) -> Tokens:
        """Tokens of the blocks that `chunk` completes. Raises MediaError for another rate or number of channels."""
        return self.encoder.encode(chunk, state)

    def encode_many(self, chunks: Sequence[Chunk]) -> list[Tokens]:
        return self.encoder.encode_many(chunks)

    def encode_next(self, chunks: Sequence[Chunk], states: Sequence[StreamState]) -> list[Tokens]:
        return self.encoder.encode_next(chunks, states)
