"""Images: each is a block of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from torch import nn

from mmworld.config import config
from mmworld.modalities.image.encoder import STRIDE, ImageStem, fit
from mmworld.nn.blocks import BlockEncoder, EncoderConfig, Merge, Singles, StreamState
from mmworld.types import Chunk, Source, Tokens

if TYPE_CHECKING:
    from mmworld.media.gate import Media


@config
class ImageConfig(EncoderConfig):
    """
    Attributes:
        width: channels of the first convolution.
        size: side of the images, a multiple of 32.
    """

    window: int = 1
    width: int = 16
    size: int = 96

    def __post_init__(self) -> None:
        if self.size % (2 * STRIDE):
            raise ValueError(f"size must be a multiple of {2 * STRIDE}, got {self.size}")


class Image(nn.Module):
    """Images, uint8 [T, 3, size, size]. Each is a block that sees only itself, at its chunk's times; `hop` is 0."""

    name = "image"
    rate: float | None = None
    hop = 0.0

    def __init__(self, config: ImageConfig = ImageConfig()) -> None:  # noqa: B008 (frozen)
        super().__init__()
        c = self.config = config
        self.encoder = BlockEncoder(Singles(), ImageStem(c.dim, c.width, c.size), c, Merge(c.dim, c.size // STRIDE))
        self.dim = c.dim

    def open(self, source: Source | Media) -> Iterator[Chunk]:
        """The one image of `source`: its middle square scaled to the size.

        Raises:
            MediaError: the gate refuses the source, or it is no image.
        """
        from mmworld.media.gate import open_media
        from mmworld.media.image import read

        media = open_media(source)
        yield Chunk(fit(read(media), self.config.size)[None], 0.0, 0.0, self.name, last=True)

    def init_state(self) -> StreamState:
        return self.encoder.init_state()

    def encode(self, chunk: Chunk, state: StreamState | None = None) -> Tokens:
        """Tokens of each image of `chunk`."""
        return self.encoder.encode(chunk, state)

    def encode_many(self, chunks: Sequence[Chunk]) -> list[Tokens]:
        return self.encoder.encode_many(chunks)

    def encode_next(self, chunks: Sequence[Chunk], states: Sequence[StreamState]) -> list[Tokens]:
        return self.encoder.encode_next(chunks, states)
