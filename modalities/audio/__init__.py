"""Sound: 16 kHz waveforms to four tokens every 0.32 s."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from mmworld.config import config
from mmworld.modalities.audio.encoder import FRAME, STRIDE, AudioStem, samples_of
from mmworld.nn.blocks import BlockEncoder, EncoderConfig, Rows, StreamState
from mmworld.types import Chunk, Source, Tokens

if TYPE_CHECKING:
    from mmworld.media.gate import Media

RATE = 16_000


@config
class AudioConfig(EncoderConfig):
    """
    Attributes:
        width: channels of the first convolution.
        n_mels: mel bands, a multiple of 8.
        frames: 10 ms frames of a block, a multiple of 8.
        context: frames before a block that its convolutions see, a multiple of 8.
    """

    width: int = 24
    n_mels: int = 64
    frames: int = 32
    context: int = 16

    def __post_init__(self) -> None:
        if self.n_mels % STRIDE or self.frames % STRIDE or self.context % STRIDE:
            raise ValueError(f"n_mels, frames and context must be multiples of {STRIDE}")


class Audio(nn.Module):
    """Sound. Chunks are float32 [S, C] in [-1, 1] at 16 kHz; channels are averaged."""

    name = "audio"
    rate: float | None = RATE

    def __init__(self, config: AudioConfig = AudioConfig()) -> None:  # noqa: B008 (frozen)
        super().__init__()
        c = self.config = config
        size = c.frames * FRAME
        context = samples_of(c.context + c.frames) - size
        stem = AudioStem(c.dim, c.width, c.n_mels, c.context, c.frames)
        self.encoder = BlockEncoder(Rows(size, context, RATE), stem, c)
        self.dim, self.hop = c.dim, size / RATE

    def open(self, source: Source | Media, *, start: float = 0.0, end: float | None = None) -> Iterator[Chunk]:
        """The sound of `source`, resampled, mixed to one channel, in pieces shorter than a block.

        Raises:
            MediaError: the gate refuses the source, or it has no sound.
        """
        from mmworld.media.audio import samples
        from mmworld.media.gate import open_media

        media = open_media(source)
        clock, data = start, torch.zeros(0, 1)
        for clock, data in samples(media, rate=RATE, start=start, end=end, mono=True):
            yield Chunk(data, clock, clock + len(data) / RATE, self.name)
        clock += len(data) / RATE
        yield Chunk(data[:0], clock, clock, self.name, last=True)

    def init_state(self) -> StreamState:
        return self.encoder.init_state()

    def encode(self, chunk: Chunk, state: StreamState | None = None) -> Tokens:
        """Tokens of the blocks that `chunk` completes. Raises MediaError for another rate."""
        return self.encoder.encode(chunk, state)

    def encode_many(self, chunks: Sequence[Chunk]) -> list[Tokens]:
        return self.encoder.encode_many(chunks)

    def encode_next(self, chunks: Sequence[Chunk], states: Sequence[StreamState]) -> list[Tokens]:
        return self.encoder.encode_next(chunks, states)
