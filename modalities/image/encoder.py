"""An image stem: a small residual network, one token a cell of the last map."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmworld.nn.conv import Residual, first_conv, join, normalise

STRIDE = 16


class ImageStem(nn.Module):
    """Images to tokens of 16 x 16 pixels.

    Args:
        dim: width D of a token.
        width: channels of the first convolution; doubled three times.
        size: side of the square images, a multiple of 16.
    """

    def __init__(self, dim: int, width: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.net = nn.Sequential(
            first_conv(3, width),
            Residual(width, 2 * width, stride=2),
            Residual(2 * width, 4 * width, stride=2),
            Residual(4 * width, 8 * width, stride=2),
        )
        self.token = nn.Linear(8 * width, dim)
        self.place = nn.Parameter(torch.randn((size // STRIDE) ** 2, dim) * 0.02)

    def forward(self, parts: Sequence[Tensor]) -> tuple[Tensor, tuple[int, ...]]:
        """uint8 [K, 3, size, size] of each stream to [N, D], (size / 16) ** 2 tokens an image."""
        images = join(parts, (3, self.size, self.size))
        maps = self.net(normalise(images, self.place))
        tokens = self.token(maps.flatten(2).transpose(1, 2)) + self.place
        return tokens.flatten(0, 1), (tokens.shape[1],) * len(tokens)


def fit(image: Tensor, size: int) -> Tensor:
    """uint8 [3, H, W] to [3, size, size]: the short side is scaled to `size` and the middle cut out."""
    height, width = image.shape[1:]
    # The middle square first: scaling the rest of a very long picture would be for nothing.
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image[None, :, top : top + side, left : left + side]
    return F.interpolate(square, size=(size, size), mode="bilinear", antialias=True)[0]
