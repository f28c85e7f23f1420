"""Pictures as a borrowed encoder was trained on them, as its preprocessor_config.json says."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from PIL import Image
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from mmworld.config import config, pick
from mmworld.errors import LimitError

LONGEST = 1 << 14
Side = Annotated[int, Field(gt=0, le=1 << 14)]
_KIN = {2: "bilinear", 3: "bicubic"}
Size = Side | dict[Literal["shortest_edge", "height", "width"], Side]


@config
class Preprocess:
    """Resize, crop, scale and normalise, as the file says under these names.

    The resampling is Pillow's, as in training: another differs by more than a model should notice, but does notice.
    """

    size: Size
    image_mean: tuple[float, float, float]
    image_std: tuple[float, float, float]
    crop_size: Size | None = None
    do_resize: bool = True
    do_center_crop: bool = False
    do_rescale: Literal[True] = True
    do_normalize: Literal[True] = True
    resample: Annotated[int, Field(ge=0, le=5)] = 3
    rescale_factor: float = 1 / 255

    def __post_init__(self) -> None:
        if self.do_center_crop and self.crop_size is None:
            raise ValueError("do_center_crop needs a crop_size")
        for name, size in (("size", self.size), ("crop_size", self.crop_size)):
            if isinstance(size, dict) and not ("shortest_edge" in size or {"height", "width"} <= size.keys()):
                raise ValueError(f"{name} {size} needs height and width, or shortest_edge")

    @classmethod
    def read(cls, said: dict[str, Any], where: str) -> Preprocess:
        """What a file says under these names, in any version of them; ConfigError if it lacks one or means another."""
        return pick(cls, _as_now(said), where=where)

    def __call__(self, picture: Tensor) -> Tensor:
        """A picture uint8 [3, H, W] to float32 [3, h, w].

        Raises:
            LimitError: it is so narrow that its longer side would come to more than LONGEST pixels.
        """
        if self.do_resize:
            picture = self.resized(picture, self._wanted(*picture.shape[-2:]))
        if self.do_center_crop and self.crop_size is not None:
            picture = _cropped(picture, sides(self.crop_size))
        return normalised(picture, self.rescale_factor, self.image_mean, self.image_std)

    def resized(self, picture: Tensor, size: tuple[int, int]) -> Tensor:
        """The picture in another height and width."""
        return resized(picture, size, self.resample)

    def _wanted(self, height: int, width: int) -> tuple[int, int]:
        """Both sides, or the longer one in the proportion of the picture."""
        if not isinstance(self.size, dict) or "shortest_edge" not in self.size:
            return sides(self.size)
        short = self.size["shortest_edge"]
        long = int(short * max(height, width) / min(height, width))
        if long > LONGEST:
            raise LimitError(
                "pixels", f"a picture of {width} x {height} pixels would be {long} long, at most {LONGEST}"
            )
        return (short, long) if height < width else (long, short)


@config
class Frames(Preprocess):
    """The same of a film's frames, uint8 [T, 3, H, W] to float32 [T, 3, h, w]: they are resampled as video processors
    do it, with torch, which rounds otherwise."""

    resample: Literal[2, 3] = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        crop = sides(self.crop_size or 0) if self.do_center_crop else (0, 0)
        if any(c > s for c, s in zip(crop, sides(self.size), strict=True)):
            raise ValueError(f"crop_size {self.crop_size} is larger than size {self.size}")

    def resized(self, picture: Tensor, size: tuple[int, int]) -> Tensor:
        return resampled(picture, size, self.resample)


@config
class Centred:
    """ViViT's: less one before it is normalised, where the file says so under these names."""

    image_mean: tuple[float, float, float]
    offset: bool = True

    @classmethod
    def read(cls, said: dict[str, Any], where: str) -> Preprocess:
        """Both steps as one; ConfigError if the file lacks a value or means another."""
        c = pick(cls, said, where=where)
        return Preprocess.read({**said, "image_mean": [mean + c.offset for mean in c.image_mean]}, where)


def _as_now(said: dict[str, Any]) -> dict[str, Any]:
    """Old files give one number for a size, and ConvNext's a share of the picture that is kept (of small ones);
    Kosmos-2's asks for a square. What is null is not done."""
    said = {n: False if value is None and n.startswith("do_") else value for n, value in said.items()}
    size: Any = said.get("size")
    types = (said.get(f"{part}_type") for part in ("image_processor", "video_processor", "feature_extractor"))
    kind = re.split("Image|Feature", next(filter(None, types), ""))[0]
    if isinstance(size, int) and kind in ("CLIP", "Bit", "VideoMAE", "ConvNext"):
        size = {"shortest_edge": size}
    if said.get("use_square_size") and isinstance(size, dict) and "shortest_edge" in size:
        size = dict.fromkeys(("height", "width"), size["shortest_edge"])
    if kind != "ConvNext" or not isinstance(size, dict):
        return {**said, "size": size}
    short = size.get("shortest_edge", 0)
    square = {"height": short, "width": short}
    if short >= 384:
        return {**said, "size": square, "do_center_crop": False}
    kept = int(short / said.get("crop_pct", 224 / 256))
    return {**said, "size": {"shortest_edge": kept}, "do_center_crop": True, "crop_size": square}


def sides(size: Size) -> tuple[int, int]:
    """Height and width of a size; one number is both."""
    if isinstance(size, dict):
        return size.get("height", size.get("shortest_edge", 0)), size.get("width", size.get("shortest_edge", 0))
    return size, size


def resized(picture: Tensor, size: tuple[int, int], resample: int) -> Tensor:
    """A picture uint8 [3, H, W] of another height and width, by one of Pillow's resamplings."""
    if tuple(picture.shape[1:]) == size:
        return picture
    pixels = Image.fromarray(picture.permute(1, 2, 0).numpy()).resize(size[::-1], Image.Resampling(resample))
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1)


def resampled(frames: Tensor, size: tuple[int, int], resample: int) -> Tensor:
    """Frames uint8 [T, 3, H, W] of another height and width, by torch's kin of Pillow's resampling 2 or 3."""
    return F.interpolate(frames, size, mode=_KIN[resample], antialias=True)


def normalised(pixels: Tensor, factor: float, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Pixels [..., C, H, W] times a factor, less the mean of their channel and over its deviation."""
    below, over = (torch.tensor(x)[:, None, None] for x in (mean, std))
    return (pixels * factor - below) / over


def squares(picture: Tensor, side: int) -> Tensor:
    """A picture [C, H, W] in the squares that fill it, row by row [N, C, side, side]."""
    return picture.unfold(1, side, side).unfold(2, side, side).permute(1, 2, 0, 3, 4).flatten(0, 1)


def _cropped(picture: Tensor, size: tuple[int, int]) -> Tensor:
    """The middle, on black where the picture is smaller."""
    spare = [have - want for have, want in zip(picture.shape[-2:], size, strict=True)]
    if min(spare) < 0:
        top, left = (-(min(s, 0) // 2) for s in spare)
        bottom, right = (-min(s, 0) - at for s, at in zip(spare, (top, left), strict=True))
        picture = F.pad(picture, (left, right, top, bottom))
    top, left = (max(s, 0) // 2 for s in spare)
    return picture[..., top : top + size[0], left : left + size[1]]
