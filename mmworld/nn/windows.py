"""Attention within windows of a grid (Swin, Liu et al. 2021)."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor, nn

from mmworld.errors import ConfigError
from mmworld.nn.attention import Attention, Pass
from mmworld.nn.layer import Layer, TransformerConfig
from mmworld.nn.transformer import Transformer


class Windows(nn.Module):
    """Attention of each token of a grid to those in its window (section 3.2), with a learned logit for each offset.

    Args:
        c: sizes.
        grid: rows and columns, multiples of the window.
        window: its side.
        shift: rows and columns by which the windows lie off the grid's; what is cut off at one side is seen apart.

    Raises:
        ConfigError: the windows do not tile the grid.
    """

    def __init__(self, c: TransformerConfig, grid: tuple[int, int], window: int, shift: int = 0) -> None:
        super().__init__()
        if any(n % window for n in grid):
            raise ConfigError(f"windows of {window} x {window} do not tile a grid of {grid[0]} x {grid[1]}")
        self.grid, self.window, self.shift = grid, window, shift
        self.attention = Attention(c)
        self.offsets = nn.Parameter(torch.zeros((2 * window - 1) ** 2, c.n_heads))

    def forward(self, x: Tensor, run: Pass, layer: int) -> Tensor:
        """x [B, rows * columns, D] to the same."""
        n, (rows, columns) = self.window, self.grid
        square = x.unflatten(1, self.grid).roll((-self.shift,) * 2, (1, 2))
        cut = square.unflatten(2, (-1, n)).unflatten(1, (-1, n)).transpose(2, 3).flatten(3, 4).flatten(1, 2)
        y = self.attention(cut.flatten(0, 1), replace(run, bias=self._bias(len(x))), layer)
        y = y.unflatten(0, (len(x), rows // n, columns // n)).unflatten(3, (n, n)).transpose(2, 3)
        return y.flatten(3, 4).flatten(1, 2).roll((self.shift,) * 2, (1, 2)).flatten(1, 2)

    def _bias(self, batch: int) -> Tensor:
        """Logits [H, n * n, n * n], or of each window of a batch."""
        table = self.offsets[_pairs(self.window, self.offsets.device)].permute(2, 0, 1)
        if not self.shift:
            return table
        apart = _apart(self.grid, self.window, self.shift, self.offsets.device)
        return table.masked_fill(apart[:, None], -torch.inf).repeat(batch, 1, 1, 1)


class Stage(nn.Module):
    """Layers over one grid, whose windows lie off the grid's in every other one (figure 3).

    Args:
        c: sizes.
        grid: rows and columns.
        window: side of the windows; the grid is one where it is as small.
        merged: whether four neighbours become one token of twice the width at the end.
    """

    def __init__(self, c: TransformerConfig, grid: tuple[int, int], window: int, *, merged: bool) -> None:
        super().__init__()
        half = window // 2 if min(grid) > window else 0

        def layer(i: int) -> Layer:
            return Layer(c, attention=Windows(c, grid, window, half * (i % 2)))

        self.layers = Transformer(c, layer=layer, last=nn.Identity())
        self.merge = Merge(c.dim, grid) if merged else None

    def forward(self, x: Tensor) -> Tensor:
        """x [B, rows * columns, D] to the same, or to a quarter of the tokens [B, ..., 2 * D]."""
        x = self.layers(x)
        return x if self.merge is None else self.merge(x)


class Merge(nn.Module):
    """Four neighbours of a grid as one token (section 3.1, patch merging)."""

    def __init__(self, dim: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid, self.norm, self.join = grid, nn.LayerNorm(4 * dim), nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        square = x.unflatten(1, self.grid)
        four = [square[:, row::2, column::2] for column in range(2) for row in range(2)]
        return self.join(self.norm(torch.cat(four, dim=-1).flatten(1, 2)))


@lru_cache(maxsize=16)
def _pairs(n: int, device: torch.device) -> Tensor:
    """The offset of each pair of a window's tokens, int64 [n * n, n * n]."""
    at = torch.cartesian_prod(*[torch.arange(n, device=device)] * 2)
    back = at[:, None] - at[None, :] + n - 1
    return back[..., 0] * (2 * n - 1) + back[..., 1]


@lru_cache(maxsize=16)
def _apart(grid: tuple[int, int], n: int, shift: int, device: torch.device) -> Tensor:
    """Which pairs of each window's tokens did not lie side by side before the shift, bool [windows, n * n, n * n]."""
    at = (torch.arange(size, device=device) for size in grid)
    rows, columns = (((i >= size - n).long() + (i >= size - shift)) for i, size in zip(at, grid, strict=True))
    region = (rows[:, None] * 3 + columns).unflatten(1, (-1, n)).unflatten(0, (-1, n)).transpose(1, 2).flatten(2)
    region = region.flatten(0, 1)
    return region[:, :, None] != region[:, None, :]
