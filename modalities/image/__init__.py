"""Images: each is a block of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import nn

from mmworld.config import config
from mmworld.modalities.image.encoder import STRIDE, ImageStem
from mmworld.nn.blocks import BlockEncoder, EncoderConfig, Singles, StreamState
from mmworld.types import Chunk, Source, Tokens


@config
class ImageConfig(EncoderConfig):
    """
    Attributes:
        width: channels of the first convolution.
        size: side of the images, a multiple of 16.
    """

    window: int = 1
    width: int = 16
    size: int = 96

    def __post_init__(self) -> None:
        if self.size % STRIDE:
            raise ValueError(f"size must be a multiple of {STRIDE}, got {self.size}")


class Image(nn.Module):
    """Images, uint8 [T, 3, size, size]. Each is a block that sees only itself, at its chunk's times; `hop` is 0."""

    name = "image"
    rate: float | None = None
    hop = 0.0

    def __init__(self, config: ImageConfig = ImageConfig()) -> None:  # noqa: B008 (frozen)
        super().__init__()
        c = self.config = config
        self.encoder = BlockEncoder(Singles(), ImageStem(c.dim, c.width, c.size), c)
        self.dim = c.dim

    def open(self, source: Source) -> Iterator[Chunk]:
        """The one image of `source`: its short side scaled to the size, its centre cut out.

        Raises:
            MediaError: the gate refuses the source, or it is no image.
        """
        raise NotImplementedError

    def init_state(self) -> StreamState:
        return self.encoder.init_state()

    def encode(self, chunk: Chunk, state: StreamState | None = None) -> Tokens:
        """Tokens of each image of `chunk`."""
        return self.encoder.encode(chunk, state)

    def encode_many(self, chunks: Sequence[Chunk]) -> list[Tokens]:
        return self.encoder.encode_many(chunks)
