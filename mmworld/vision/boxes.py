"""Frames as boxes of pixels, in the order in which neighbouring ones are merged into one token of a language model."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Boxes:
    """Boxes of `time` frames and `side` x `side` pixels; `merge` x `merge` neighbours follow one another."""

    time: int
    side: int
    merge: int

    def grid(self, frames: Tensor) -> tuple[int, int, int]:
        """How many boxes frames [T, C, H, W] have on each axis.

        Raises:
            ValueError: they do not fill whole boxes, or these whole groups.
        """
        t, _, h, w = frames.shape
        unit = self.side * self.merge
        if t % self.time or h % unit or w % unit or not t * h * w:
            raise ValueError(f"frames of shape {list(frames.shape)} are no multiples of {[self.time, unit, unit]}")
        return t // self.time, h // self.side, w // self.side

    def cut(self, frames: Tensor) -> Tensor:
        """Frames [T, C, H, W] to boxes [N, C * time * side * side]."""
        x = frames.unflatten(3, (-1, self.merge, self.side)).unflatten(2, (-1, self.merge, self.side))
        return x.unflatten(0, (-1, self.time)).permute(0, 3, 6, 4, 7, 2, 1, 5, 8).flatten(5).flatten(0, 4)

    def places(self, grid: tuple[int, int, int]) -> Tensor:
        """Height and width of each box of a grid, int64 [2, N]."""
        t, h, w = grid
        at = torch.stack(torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij"))
        at = at.unflatten(2, (-1, self.merge)).unflatten(1, (-1, self.merge)).transpose(2, 3)
        return at.flatten(1).repeat(1, t)

    def windows(self, grid: tuple[int, int, int], side: int) -> tuple[Tensor, tuple[int, ...]]:
        """The order that puts the boxes of each square window together, int64 [N], and how many each window has.

        Args:
            side: of a window, in boxes, a multiple of `merge`; those at the right and bottom edges are smaller.
        """
        rows, columns = self.places((1, *grid[1:])) // side
        window = rows * (int(columns.max()) + 1) + columns
        order, sizes = window.argsort(stable=True), tuple(window.bincount().tolist())
        frames = torch.arange(grid[0])[:, None] * len(window)
        return (frames + order).flatten(), sizes * grid[0]
