"""Sensor series: any number of channels to four tokens a second."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import nn

from mmworld.config import config
from mmworld.modalities.sensor.encoder import TOKENS, SensorStem
from mmworld.nn.blocks import BlockEncoder, EncoderConfig, Rows, StreamState
from mmworld.types import Chunk, Source, Tokens


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

    def open(self, source: Source, *, start: float = 0.0, end: float | None = None) -> Iterator[Chunk]:
        """The series of `source` at `rate`, a block a chunk.

        Raises:
            MediaError: the gate refuses the source, or it is no series.
        """
        raise NotImplementedError

    def init_state(self) -> StreamState:
        return self.encoder.init_state()

    def encode(self, chunk: Chunk, state: StreamState | None = None) -> Tokens:
        """Tokens of the blocks that `chunk` completes. Raises MediaError for another rate or number of channels."""
        return self.encoder.encode(chunk, state)

    def encode_many(self, chunks: Sequence[Chunk]) -> list[Tokens]:
        return self.encoder.encode_many(chunks)
