"""Pictures as rows of tokens, one for each square patch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Patches(nn.Module):
    """Patches through one linear map, with learned places, and tokens of no patch before them (Dosovitskiy et al. 2021,
    eq. 1; registers: Darcet et al. 2024).

    Args:
        dim: width D of a token.
        side: of the pictures that the places were learned for, in pixels.
        patch: side of a patch.
        channels: of a picture.
        bias: whether the map has one.
        has_class: whether a token for the whole picture comes first.
        registers: tokens after it that have no place.
        antialias: whether places for another size are smoothed on the way.
    """

    def __init__(
        self,
        dim: int,
        side: int,
        patch: int,
        channels: int = 3,
        *,
        bias: bool = True,
        has_class: bool = True,
        registers: int = 0,
        antialias: bool = False,
    ) -> None:
        super().__init__()
        self.grid, self.antialias = side // patch, antialias
        self.project = nn.Conv2d(channels, dim, patch, patch, bias=bias)
        self.token = nn.Parameter(torch.zeros(dim)) if has_class else None
        self.registers = nn.Parameter(torch.zeros(registers, dim)) if registers else None
        self.place = nn.Parameter(torch.randn(self.grid**2 + has_class, dim) * 0.02)

    def forward(self, pixels: Tensor) -> Tensor:
        """[B, C, H, W] to [B, N, D]; what does not fill a patch at the right and the bottom is cut off."""
        x = self.project(pixels)
        place = self._place(*x.shape[2:])
        x = x.flatten(2).mT
        if self.token is not None:
            x = torch.cat((self.token.expand(len(x), 1, -1), x), dim=1)
        x = x + place
        if self.registers is None:
            return x
        return torch.cat((x[:, :1], self.registers.expand(len(x), -1, -1), x[:, 1:]), dim=1)

    def _place(self, height: int, width: int) -> Tensor:
        """The places of a grid of any size: for another than was learned, between those."""
        if (height, width) == (self.grid, self.grid):
            return self.place
        first, rest = self.place.split([len(self.place) - self.grid**2, self.grid**2])
        known = rest.float().unflatten(0, (self.grid, self.grid)).permute(2, 0, 1)[None]
        size = height, width
        wanted = F.interpolate(known, size, mode="bicubic", align_corners=False, antialias=self.antialias)
        return torch.cat((first, wanted[0].flatten(1).mT.to(rest.dtype)))
