"""Video: four frames a second, a block of tokens for every two."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from mmworld.config import config
from mmworld.modalities.video.encoder import CONTEXT, FRAMES, STRIDE, VideoStem
from mmworld.nn.blocks import BlockEncoder, EncoderConfig, Merge, Rows, StreamState
from mmworld.types import Chunk, Source, Tokens

if TYPE_CHECKING:
    from mmworld.media.gate import Media


@config
class VideoConfig(EncoderConfig):
    """
    Attributes:
        width: channels of the first convolution.
        size: side of the frames, a multiple of 48.
        rate: frames a second.
    """

    window: int = 8
    width: int = 24
    size: int = 96
    rate: float = 4.0

    def __post_init__(self) -> None:
        if self.size % (2 * STRIDE) or self.rate <= 0:
            raise ValueError(f"size must be a multiple of {2 * STRIDE} and rate > 0, got {self.size} and {self.rate}")


class Video(nn.Module):
    """Moving pictures, uint8 [T, 3, size, size] at `rate` frames a second."""

    name = "video"

    def __init__(self, config: VideoConfig = VideoConfig()) -> None:  # noqa: B008 (frozen)
        super().__init__()
        c = self.config = config
        cutter = Rows(FRAMES, CONTEXT, c.rate, edge=True)
        self.encoder = BlockEncoder(cutter, VideoStem(c.dim, c.width, c.size), c, Merge(c.dim, c.size // STRIDE))
        self.dim, self.hop = c.dim, cutter.hop
        self.rate: float | None = c.rate

    def open(self, source: Source | Media, *, start: float = 0.0, end: float | None = None) -> Iterator[Chunk]:
        """The pictures of `source` at `rate`, the middle square scaled to the size, a frame a chunk.

        Raises:
            MediaError: the gate refuses the source, or it has no pictures.
        """
        from mmworld.media.gate import open_media
        from mmworld.media.video import frames

        media = open_media(source)
        size, rate = self.config.size, self.config.rate
        clock, data = start, torch.zeros(0, 3, size, size, dtype=torch.uint8)
        for clock, picture in frames(media, fps=rate, size=size, start=start, end=end):
            data = picture[None]
            yield Chunk(data, clock, clock + 1 / rate, self.name)
        clock += len(data) / rate
        yield Chunk(data[:0], clock, clock, self.name, last=True)

    def init_state(self) -> StreamState:
        return self.encoder.init_state()

    def encode(self, chunk: Chunk, state: StreamState | None = None) -> Tokens:
        """Tokens of the blocks that `chunk` completes. Raises MediaError for another rate or size."""
        return self.encoder.encode(chunk, state)

    def encode_many(self, chunks: Sequence[Chunk]) -> list[Tokens]:
        return self.encoder.encode_many(chunks)

    def encode_next(self, chunks: Sequence[Chunk], states: Sequence[StreamState]) -> list[Tokens]:
        return self.encoder.encode_next(chunks, states)
