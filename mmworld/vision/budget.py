"""Pictures and films that keep their shape, within a budget of pixels, as Qwen2-VL was trained on them."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from mmworld.config import config, pick
from mmworld.errors import LimitError
from mmworld.vision.preprocess import normalised, resampled, resized

NARROWEST = 200
"""How many times as long as wide a picture is at most."""
Pixels = Annotated[int, Field(gt=0, le=1 << 26)]
Side = Annotated[int, Field(gt=0, le=1 << 10)]


@config
class PictureBudget:
    """Resize, scale and normalise, as the file says under these names.

    Attributes:
        min_pixels, max_pixels: of a frame; a file may call them the "shortest_edge" and "longest_edge" of its `size`.
        patch_size, merge_size: sides are multiples of their product.
        temporal_patch_size: the number of frames is a multiple of it; the last one stands again where some are missing.
    """

    min_pixels: Pixels = 56 * 56
    max_pixels: Pixels = 28 * 28 * 1280
    patch_size: Side = 14
    merge_size: Side = 2
    temporal_patch_size: Side = 2
    image_mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    image_std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)
    do_resize: Literal[True] = True
    do_rescale: Literal[True] = True
    do_normalize: Literal[True] = True
    resample: Literal[2, 3] = 3
    rescale_factor: float = 1 / 255

    @classmethod
    def read(cls, said: dict[str, Any], where: str) -> PictureBudget:
        """What a file says, in any version of it; ConfigError if it means another."""
        size = said.get("size") or {}
        bounds = {ours: size[theirs] for ours, theirs in _BOUNDS.items() if theirs in size}
        return pick(cls, {**bounds, **{k: v for k, v in said.items() if v is not None}}, where=where)

    def __call__(self, frames: Tensor) -> Tensor:
        """Frames uint8 [T, 3, H, W] to float32 [t, 3, h, w].

        Raises:
            LimitError: they are more than NARROWEST times as long as wide.
        """
        pixels = self._resized(frames, self._wanted(frames.shape[2], frames.shape[3], self._most(len(frames))))
        missing = -len(pixels) % self.temporal_patch_size
        pixels = torch.cat((pixels, pixels[-1:].expand(missing, -1, -1, -1)))
        return normalised(pixels, self.rescale_factor, self.image_mean, self.image_std)

    def _most(self, n_frames: int) -> int:
        """Pixels of each of so many frames, at most."""
        return self.max_pixels

    def _wanted(self, height: int, width: int, most: int) -> tuple[int, int]:
        """The sides nearest to these that are such multiples and within the budget."""
        if max(height, width) > NARROWEST * min(height, width):
            said = f"a picture of {width} x {height} pixels is more than {NARROWEST} times as long as wide"
            raise LimitError("pixels", said)
        unit = self.patch_size * self.merge_size
        sides = [round(n / unit) * unit for n in (height, width)]
        if math.prod(sides) > most:
            scale = math.sqrt(height * width / most)
            sides = [max(unit, math.floor(n / scale / unit) * unit) for n in (height, width)]
        elif math.prod(sides) < self.min_pixels:
            scale = math.sqrt(self.min_pixels / (height * width))
            sides = [math.ceil(n * scale / unit) * unit for n in (height, width)]
        return sides[0], sides[1]

    def _resized(self, frames: Tensor, size: tuple[int, int]) -> Tensor:
        return torch.stack([resized(f, size, self.resample) for f in frames])


@config
class FilmBudget(PictureBudget):
    """The same of films, which torch resamples and Pillow does not, as in training.

    Attributes:
        cap_pixels_per_frame: whether a film of many frames has smaller ones, so that it comes to `max_video_tokens`.
    """

    min_pixels: Pixels = 28 * 28 * 128
    max_pixels: Pixels = 28 * 28 * 768
    cap_pixels_per_frame: bool | None = None
    max_video_tokens: Annotated[int, Field(gt=0, le=1 << 24)] = 128_000

    def _most(self, n_frames: int) -> int:
        if not self.cap_pixels_per_frame:
            return self.max_pixels
        whole = int(self.max_video_tokens * (self.patch_size * self.merge_size) ** 2 * 0.9)
        share = whole * self.temporal_patch_size // n_frames
        return max(min(self.max_pixels, share), int(self.min_pixels * 1.05))

    def _resized(self, frames: Tensor, size: tuple[int, int]) -> Tensor:
        return resampled(frames, size, self.resample)


_BOUNDS = {"min_pixels": "shortest_edge", "max_pixels": "longest_edge"}
