"""Pictures of any proportions in tiles of one size (LLaVA-NeXT, Liu et al. 2024: "AnyRes")."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from mmworld.config import config, pick
from mmworld.errors import ConfigError
from mmworld.vision.preprocess import Preprocess, Side, sides, squares

Canvas = tuple[Side, Side]
"""Height and width in pixels."""
Canvases = Annotated[tuple[Canvas, ...], Field(min_length=1, max_length=1024)]
MAX_TILES = 256


@dataclass(frozen=True)
class Tiled:
    """A picture in tiles.

    Attributes:
        pixels: float32 [1 + n, 3, S, S]: the whole of it, squeezed, then the tiles of its canvas row by row, if any.
        size: height and width that it had.
    """

    pixels: Tensor
    size: tuple[int, int]


def canvas(size: tuple[int, int], among: Sequence[Canvas]) -> Canvas:
    """The canvas that shows most pixels of a picture of this height and width, and of those the smallest."""
    height, width = size

    def shows(of: Canvas) -> tuple[int, int]:
        scale = min(of[1] / width, of[0] / height)
        pixels = min(int(width * scale) * int(height * scale), width * height)
        return pixels, pixels - of[0] * of[1]

    return max(among, key=shows)


def margins(grid: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """Rows at the top and bottom, and columns at the left and right, of a grid of tokens that a picture of this height
    and width, as large as fits, leaves free."""
    (rows, columns), (height, width) = grid, size
    if width / height > columns / rows:
        return (rows - int(round(height * (columns / width), 7))) // 2, 0
    return 0, (columns - int(round(width * (rows / height), 7))) // 2


@config
class _Said:
    """What a preprocessor_config.json says under these names, beside those of `Preprocess`."""

    image_grid_pinpoints: Canvases


@dataclass(frozen=True)
class AnyRes:
    """A picture on the canvas that fits it best, cut into tiles, each of which is then prepared.

    Attributes:
        canvases: that there are.
        each: what is done with each tile.
    """

    canvases: tuple[Canvas, ...]
    each: Preprocess

    @classmethod
    def read(cls, said: dict[str, Any], where: str) -> AnyRes:
        """What a file says; ConfigError if it lacks a name or means something else, or a canvas is not cut evenly."""
        made = cls(pick(_Said, said, where=where).image_grid_pinpoints, Preprocess.read(said, where))
        for height, width in made.canvases:
            if height % made.side or width % made.side or height * width > MAX_TILES * made.side**2:
                raise ConfigError(
                    f"{where}: image_grid_pinpoints: {height} x {width} is not cut into tiles of {made.side}",
                    hint=f"there are at most {MAX_TILES}",
                )
        return made

    @property
    def side(self) -> int:
        """Of a tile, in pixels."""
        return sides(self.each.size if self.each.crop_size is None else self.each.crop_size)[0]

    def __call__(self, picture: Tensor) -> Tiled:
        """A picture uint8 [3, H, W] in tiles."""
        size = int(picture.shape[1]), int(picture.shape[2])
        whole = self.each.resized(picture, sides(self.each.size))
        tiles = squares(self._laid(picture, canvas(size, self.canvases)), self.side)
        return Tiled(torch.stack([self.each(tile) for tile in (whole, *tiles)]), size)

    def whole(self, picture: Tensor) -> Tiled:
        """A picture uint8 [3, H, W] without tiles, in a square of the mean colour."""
        height, width = picture.shape[1:]
        side = max(height, width)
        top, left = (side - height) // 2, (side - width) // 2
        square = torch.tensor([int(255 * x) for x in self.each.image_mean], dtype=torch.uint8)[:, None, None]
        square = square.repeat(1, side, side)
        square[:, top : top + height, left : left + width] = picture
        return Tiled(self.each(square)[None], (height, width))

    def _laid(self, picture: Tensor, on: Canvas) -> Tensor:
        """The picture as large as fits, in the middle of a black canvas."""
        height, width = picture.shape[1:]
        across, down = on[1] / width, on[0] / height
        if across < down:
            size = min(math.ceil(height * across), on[0]), on[1]
        else:
            size = on[0], min(math.ceil(width * down), on[1])
        top, left = ((want - have) // 2 for want, have in zip(on, size, strict=True))
        free = left, on[1] - size[1] - left, top, on[0] - size[0] - top
        return F.pad(self.each.resized(picture, size), free)
