"""A sensor stem: one small network for every channel, then a summary over the channels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmworld.nn.segment import segment_max, segment_mean

TOKENS = 4
"""Tokens of a block, one for each quarter of it."""
CHANNELS = 64
"""Channels told apart; later ones share the embeddings of the first."""


class SensorStem(nn.Module):
    """Blocks of any number of channels to four tokens each.

    A channel is seen as its value, its change (both through asinh, which takes any unit) and its shape within the block
    with offset and scale removed. Its features are scaled and shifted by its own embedding, so that the summary over
    channels (mean and maximum) still tells which channel did what.

    Args:
        dim: width D of a token.
        width: channels of the convolutions.
        context: rows of a block that come before its own.
    """

    def __init__(self, dim: int, width: int, context: int) -> None:
        super().__init__()
        self.context = context
        self.conv1 = nn.Conv1d(5, width, 5, padding=2)
        self.conv2 = nn.Conv1d(width, width, 5, padding=2)
        self.norm = nn.LayerNorm(2 * width)
        self.feature = nn.Linear(2 * width, dim)
        self.scale = nn.Embedding(CHANNELS, dim)
        self.shift = nn.Embedding(CHANNELS, dim)
        self.token = nn.Linear(2 * dim, dim)

    def forward(self, parts: Sequence[Tensor]) -> tuple[Tensor, tuple[int, ...]]:
        """Rows [K, context + T, C] of each stream to [N, D], four tokens a block."""
        weight = self.conv1.weight
        x = torch.cat([p.transpose(1, 2).flatten(0, 1) for p in parts]).to(weight.device, weight.dtype)
        channels = torch.tensor([p.shape[2] for p in parts for _ in range(len(p))], device=x.device)
        n = len(channels)
        block = torch.arange(n, device=x.device).repeat_interleave(channels)
        channel = torch.cat([torch.arange(p.shape[2]).repeat(len(p)) for p in parts]).to(x.device) % CHANNELS

        h = F.relu(self.conv1(views(x)))
        h = (h + F.relu(self.conv2(h)))[:, :, self.context :]
        h = torch.cat((F.adaptive_avg_pool1d(h, TOKENS), F.adaptive_max_pool1d(h, TOKENS)), dim=1).transpose(1, 2)
        h = self.feature(self.norm(h))
        h = F.gelu(h * self.scale(channel)[:, None] + self.shift(channel)[:, None]).flatten(1)
        h = torch.stack((segment_mean(h, block, n), segment_max(h, block, n)), dim=1)
        tokens = self.token(h.unflatten(2, (TOKENS, -1)).transpose(1, 2).flatten(2))
        return tokens.flatten(0, 1), (TOKENS,) * n


def views(x: Tensor) -> Tensor:
    """Series [M, T] as five channels [M, 5, T]: value, change, shape without offset and scale, and those two."""
    x = x.nan_to_num().clamp(-1e9, 1e9)
    change = x.diff(dim=1, prepend=x[:, :1])
    # From the first row, so that a large offset costs no digits.
    rise = x - x[:, :1]
    offset = rise.mean(1, keepdim=True)
    scale = (rise - offset).square().mean(1, keepdim=True).sqrt() + 1e-4 * x[:, :1].abs() + 1e-4
    constants = torch.cat((scale.log() / 4, (x[:, :1] + offset).asinh()), dim=1)[:, :, None].expand(-1, -1, x.shape[1])
    return torch.cat((torch.stack((x.asinh(), change.asinh(), (rise - offset) / scale), dim=1), constants), dim=1)
