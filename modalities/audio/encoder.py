"""A spectrogram encoder: a small residual network over log-mel blocks, then a transformer over the stream."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmworld.modalities.audio.features import log_mel
from mmworld.nn.conv import Residual, first_conv

WINDOW, FRAME = 400, 160
STRIDE = 8
"""Frames a token covers: 80 ms."""


def samples_of(frames: int) -> int:
    """Samples that `frames` frames take."""
    return (frames - 1) * FRAME + WINDOW


class AudioStem(nn.Module):
    """Waveform blocks to tokens.

    A token is made of all channels and frequencies that the network keeps at its time, and of the plain log-mel mean
    over that time, which carries the loudness that the norms remove.

    Args:
        dim: width D of a token.
        width: channels of the first convolution; doubled twice.
        n_mels: a multiple of 8.
        context, frames: frames of left context and of a block's own, multiples of 8.
    """

    def __init__(self, dim: int, width: int, n_mels: int, context: int, frames: int) -> None:
        super().__init__()
        self.n_mels, self.context, self.frames = n_mels, context, frames
        self.first = first_conv(1, width)
        self.band = nn.Parameter(torch.zeros(width, 1, n_mels // 2))
        self.net = nn.Sequential(Residual(width, 2 * width, stride=2), Residual(2 * width, 4 * width, stride=2))
        self.token = nn.Linear(4 * width * (n_mels // STRIDE) + n_mels, dim)

    def forward(self, parts: Sequence[Tensor]) -> tuple[Tensor, tuple[int, ...]]:
        """Samples [K, S, C] of each stream to [N, D], frames / 8 tokens a block; channels are averaged."""
        weight = self.token.weight
        mono = torch.cat([p.mean(2) for p in parts]).to(weight.device, torch.float32)
        x = ((log_mel(mono, n_mels=self.n_mels) + 6) / 5).to(weight.dtype)
        # Permuted so that the one channel has the strides of channels last.
        maps = self.net(self.first(x[..., None].permute(0, 3, 1, 2)) + self.band)[:, :, self.context // STRIDE :]
        maps = maps.permute(0, 2, 1, 3).flatten(2)
        plain = x[:, self.context :].unflatten(1, (-1, STRIDE)).mean(2)
        tokens = self.token(torch.cat((maps, plain), dim=2))
        return tokens.flatten(0, 1), (tokens.shape[1],) * len(tokens)
