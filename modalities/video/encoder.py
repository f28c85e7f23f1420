"""A tubelet stem: two frames and the one before them, stacked on channels, through a small residual network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmworld.nn.conv import Residual, group_norm, join, normalise

FRAMES, CONTEXT = 2, 1
STRIDE = 24


class VideoStem(nn.Module):
    """Tubelets to tokens of 24 x 24 pixels.

    The network sees the last frame and the two changes that led to it: still things cancel and motion stands out.

    Args:
        dim: width D of a token.
        width: channels of the first convolution.
        size: side of the square frames, a multiple of 24.
    """

    def __init__(self, dim: int, width: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.first = nn.Parameter(nn.Conv2d(9, width, 3).weight.detach())
        self.net = nn.Sequential(
            group_norm(width),
            nn.ReLU(inplace=True),
            Residual(width, 2 * width, stride=2),
            Residual(2 * width, 3 * width, stride=2),
            nn.Conv2d(3 * width, dim, 3, stride=3),
        )
        self.place = nn.Parameter(torch.randn((size // STRIDE) ** 2, dim) * 0.02)

    def forward(self, parts: Sequence[Tensor]) -> tuple[Tensor, tuple[int, ...]]:
        """uint8 [K, frames, 3, size, size] of each stream to [N, D], (size / 24) ** 2 tokens a block."""
        frames = join(parts, (FRAMES + CONTEXT, 3, self.size, self.size)).flatten(1, 2)
        x = F.conv2d(normalise(frames, self.place), self._over_frames(), stride=2, padding=1)
        tokens = self.net(x).flatten(2).transpose(1, 2) + self.place
        return tokens.flatten(0, 1), (tokens.shape[1],) * len(tokens)

    def _over_frames(self) -> Tensor:
        """The first weight, over (last, last - middle, middle - before), as one over (before, middle, last)."""
        still, late, early = self.first.chunk(3, dim=1)
        return torch.cat((-early, early - late, still + late), dim=1)
