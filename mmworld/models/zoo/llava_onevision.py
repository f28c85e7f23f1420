"""LLaVA-OneVision (Li et al. 2024): one picture in many tiles, several pictures, or a film."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from mmworld.config import config
from mmworld.models.zoo.conversation import processor
from mmworld.models.zoo.llava_next import FilmConfig, Watching
from mmworld.types import Takes
from mmworld.vision.tiles import Canvases, Tiled

SIDE = 384
MOST = "anyres_max_"


@config
class LlavaOnevisionConfig(FilmConfig):
    """What config.json says under these names, beside those of its parts."""

    model_type: Literal["llava_onevision"]  # type: ignore[assignment]
    image_token_index: int = 151_646
    video_token_index: int = 151_647
    vision_feature_layer: int = -1
    vision_feature_select_strategy: Literal["default", "full"] = "full"
    image_grid_pinpoints: Canvases = tuple((SIDE * i, SIDE * j) for i in range(1, 7) for j in range(1, 7))
    vision_aspect_ratio: Annotated[str, Field(pattern=rf"^{MOST}[1-9]\d{{0,3}}$")] = f"{MOST}9"


class LLaVAOneVision(Watching):
    """Tiles shrink to the tokens of so many; frames to a quarter of theirs (section 3.2, "Higher AnyRes").

    Args:
        source: what config.json says.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    takes: ClassVar[Takes] = Takes(("image", "video"), frames=32)
    config: LlavaOnevisionConfig

    def __init__(self, source: Mapping[str, Any]) -> None:
        super().__init__(source, LlavaOnevisionConfig)

    def watch(self, film: Tensor) -> Tensor:
        """Frames [T, 3, S, S] to tokens of the language model [N, D], the last of which ends the film."""
        side = self.vision.patches.grid
        grids = self.see_each(film).unflatten(1, (side, side))
        return torch.cat((_between(grids, (math.ceil(side / 2),) * 2).flatten(0, 2), self.newline[None]))

    def _shrunk(self, grid: Tensor) -> Tensor:
        most = int(self.config.vision_aspect_ratio.removeprefix(MOST)) * self.vision.patches.grid**2
        height, width = grid.shape[:2]
        ratio = math.sqrt(height * width / most)
        if ratio <= 1.1:
            return grid
        return _between(grid[None], (int(height // ratio), int(width // ratio)))[0]

    def _prepared(self, pictures: Sequence[Tensor]) -> list[Tiled]:
        if len(pictures) < 2:
            return super()._prepared(pictures)
        return [processor(self, "image").whole(x) for x in pictures]  # several are not cut into tiles


def _between(grids: Tensor, size: tuple[int, int]) -> Tensor:
    """Tokens [B, H, W, D] of another height and width, between those that there are."""
    return F.interpolate(grids.permute(0, 3, 1, 2), size, mode="bilinear").permute(0, 2, 3, 1)
