"""Convolutions whose norms stay within one block of a stream."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmworld.errors import MediaError


def group_norm(channels: int) -> nn.GroupNorm:
    """Groups of eight channels (Wu & He 2018)."""
    return nn.GroupNorm(max(1, channels // 8), channels)


class Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut (He et al. 2016, figure 5) that keeps the largest of each stride's pixels.

    Sides must be multiples of the stride.
    """

    def __init__(self, c_in: int, c_out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, padding=1, bias=False)
        self.norm1 = group_norm(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
        self.norm2 = group_norm(c_out)
        shrink = [nn.MaxPool2d(stride)] if stride > 1 else []
        widen = [nn.Conv2d(c_in, c_out, 1)] if c_in != c_out else []
        self.shortcut = nn.Sequential(*shrink, *widen)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.conv2(F.relu(self.norm1(self.conv1(x)), inplace=True))
        return F.relu(self.shortcut(x) + self.norm2(branch), inplace=True)


def first_conv(c_in: int, c_out: int) -> nn.Sequential:
    """A 3x3 convolution of stride 2 with its norm."""
    return nn.Sequential(nn.Conv2d(c_in, c_out, 3, 2, padding=1, bias=False), group_norm(c_out), nn.ReLU(inplace=True))


def join(parts: Sequence[Tensor], shape: tuple[int, ...]) -> Tensor:
    """Pictures [K, *shape] of several streams as one batch; MediaError if a shape is another."""
    for part in parts:
        if part.shape[1:] != shape:
            raise MediaError("shape", f"pictures are {list(part.shape[1:])}, the encoder takes {list(shape)}")
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def normalise(pixels: Tensor, like: Tensor) -> Tensor:
    """uint8 [K, C, H, W] to about [-2, 2], on the device and in the dtype of `like`, channels last."""
    pixels = pixels.to(like.device).contiguous(memory_format=torch.channels_last)
    return pixels.to(like.dtype).sub_(127.5).mul_(1 / 64)  # as exact as a division, and faster
