"""Pictures that are cut into squares, with the whole beside them (Laurençon et al. 2024, Idefics3, section 3.1)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from mmworld.config import config, pick
from mmworld.vision.preprocess import Side, normalised, resized, squares

LONGEST = 4096
"""Pixels of a picture's longer side, at most, before it is cut."""
Longest = Annotated[dict[Literal["longest_edge"], Side], Field(min_length=1)]
Square = Annotated[dict[Literal["longest_edge"], Annotated[int, Field(ge=32, le=LONGEST)]], Field(min_length=1)]


@dataclass(frozen=True)
class Split:
    """A picture in squares.

    Attributes:
        pixels: float32 [rows * columns + 1, 3, S, S], row by row, then the whole; the whole alone if it is not cut.
        rows, columns: of squares; 0 if it is not cut.
    """

    pixels: Tensor
    rows: int = 0
    columns: int = 0


@config
class Splitting:
    """Resize, cut, scale and normalise, as the file says under these names.

    The resampling is Pillow's, Lanczos by default, of which torch has none: pixels go through it twice, or three times.

    Attributes:
        size: of the longer side before it is cut.
        max_image_size: of a square.
        do_image_splitting: whether it is cut at all.
        video_sampling: what an older file says of films: of its `video_size`, the longer side of a frame.
    """

    size: Longest
    max_image_size: Square
    image_mean: tuple[float, float, float]
    image_std: tuple[float, float, float]
    do_image_splitting: bool = True
    do_resize: Literal[True] = True
    do_rescale: Literal[True] = True
    do_normalize: Literal[True] = True
    do_pad: Literal[True] = True
    resample: Annotated[int, Field(ge=0, le=5)] = 1
    rescale_factor: float = 1 / 255
    video_sampling: dict[str, Any] | None = None

    @classmethod
    def read(cls, said: dict[str, Any], where: str) -> Splitting:
        """What a file says under these names; ConfigError if it lacks one or means something else."""
        return pick(cls, said, where=where)

    @property
    def side(self) -> int:
        """Of a square, in pixels."""
        return self.max_image_size["longest_edge"]

    def __call__(self, picture: Tensor) -> Split:
        """A picture uint8 [3, H, W] in squares."""
        side = self.side
        picture = self._scaled(picture, self.size["longest_edge"])
        if not self.do_image_splitting:
            return Split(self._normal(self._to(picture, (side, side)))[None])
        picture = self._to(picture, multiple(picture.shape[1], picture.shape[2], side))
        rows, columns = (n // side for n in picture.shape[1:])
        if rows * columns == 1:
            return Split(self._normal(picture)[None])
        whole = self._to(picture, (side, side))
        return Split(self._normal(torch.cat((squares(picture, side), whole[None]))), rows, columns)

    def film(self, frames: Tensor) -> Tensor:
        """Frames uint8 [T, 3, H, W] to float32 [T, 3, S, S]: none is cut."""
        longest = ((self.video_sampling or {}).get("video_size") or self.size)["longest_edge"]
        return self._normal(torch.stack([self._to(self._scaled(f, longest), (self.side, self.side)) for f in frames]))

    def _scaled(self, picture: Tensor, longest: int) -> Tensor:
        return self._to(picture, bounded(picture.shape[1], picture.shape[2], longest))

    def _to(self, picture: Tensor, size: tuple[int, int]) -> Tensor:
        return resized(picture, size, self.resample)

    def _normal(self, pixels: Tensor) -> Tensor:
        return normalised(pixels, self.rescale_factor, self.image_mean, self.image_std)


def bounded(height: int, width: int, longest: int) -> tuple[int, int]:
    """The height and width whose longer one is `longest`, the other even, then at most LONGEST."""
    long, short = _proportioned(height, width, longest)
    short = max(short + short % 2, 1)
    if long > LONGEST:
        long, short = _proportioned(*_sides(height, width, long, short), LONGEST)
    return _sides(height, width, long, max(short, 1))


def multiple(height: int, width: int, side: int) -> tuple[int, int]:
    """The next height and width that squares of a side fill."""
    long, short = _proportioned(height, width, math.ceil(max(height, width) / side) * side)
    return _sides(height, width, long, math.ceil(short / side) * side)


def _proportioned(height: int, width: int, longest: int) -> tuple[int, int]:
    """The longer side, and the shorter one in the proportion of the picture, rounded as the makers do."""
    ratio = width / height
    return longest, int(longest / ratio) if width >= height else int(longest * ratio)


def _sides(height: int, width: int, long: int, short: int) -> tuple[int, int]:
    return (short, long) if width >= height else (long, short)
