"""LLaVA-NeXT (Liu et al. 2024): pictures in tiles; and LLaVA-NeXT-Video (Zhang et al. 2024): films too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from mmworld.config import config
from mmworld.errors import ConfigError
from mmworld.models.message import Glimpse, Message
from mmworld.models.zoo.conversation import like, processor, read, shown
from mmworld.models.zoo.llava import LlavaConfig, Projected
from mmworld.nn.state import KVState
from mmworld.types import Takes
from mmworld.vision.tiles import Canvases, Tiled, canvas, margins
from mmworld.weights.keymap import KeyMap
from mmworld.weights.sizes import Width

Seen = Tiled | Tensor
"""A normalised picture in tiles, or the normalised frames [T, 3, S, S] of a film."""


@config
class LlavaNextConfig(LlavaConfig):
    """What config.json says under these names, beside those of its parts."""

    model_type: Literal["llava_next"]  # type: ignore[assignment]
    image_grid_pinpoints: Canvases = ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008))


@config
class FilmConfig(LlavaNextConfig):
    """Of those that watch films too."""

    image_token_index: int = 32_001
    video_token_index: int = 32_000


@config
class LlavaNextVideoConfig(FilmConfig):
    """What config.json says under these names, beside those of its parts."""

    model_type: Literal["llava_next_video"]  # type: ignore[assignment]
    spatial_pool_mode: Literal["average", "max", "conv"] = "average"
    spatial_pool_stride: Width = 2


class LLaVANext(Projected):
    """A picture is the tokens of the whole of it and of its tiles, in the text of a language model: `Seen` are shown,
    in the places of their kind.

    Args:
        source: what config.json says.
        kind: of config.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    takes: ClassVar[Takes] = Takes(("image",))
    config: LlavaNextConfig

    def __init__(self, source: Mapping[str, Any], kind: type[LlavaNextConfig] = LlavaNextConfig) -> None:
        super().__init__(source, kind)
        self.newline = nn.Parameter(torch.zeros(self.language.config.hidden_size))
        select = self.config.vision_feature_select_strategy
        if (self.vision.patches.token is None) != (select == "full"):
            raise ConfigError(
                f"config.json: vision_feature_select_strategy {select}: the rows of a picture are its patches' tokens,"
                " without one for the whole"
            )

    def see(self, pictures: Sequence[Tiled]) -> list[Tensor]:
        """Pictures to tokens of the language model, of each [N, D]."""
        if not pictures:
            return []
        x = self.see_each(like(self, torch.cat([p.pixels for p in pictures])))
        parts = x.split([len(p.pixels) for p in pictures])
        return [self._arranged(part, p.size) for part, p in zip(parts, pictures, strict=True)]

    def _arranged(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Tokens of the whole and the tiles [1 + n, N, D] of a picture of this height and width to [M, D]: the rows of
        its canvas stand one below the other, without what the picture leaves free, and a token ends each."""
        whole, tiles = x[0], x[1:]
        if not len(tiles):
            return torch.cat((whole, self.newline[None]))
        side, pixels = self.vision.patches.grid, self.vision.config.image_size
        rows, columns = (n // pixels for n in canvas(size, self.config.image_grid_pinpoints))
        grid = tiles.view(rows, columns, side, side, -1).transpose(1, 2).reshape(rows * side, columns * side, -1)
        top, left = margins((rows * side, columns * side), size)
        grid = self._shrunk(grid[top : len(grid) - top, left : grid.shape[1] - left])
        lines = torch.cat((grid, self.newline.expand(len(grid), 1, -1)), dim=1)
        return torch.cat((whole, lines.flatten(0, 1)))

    def _shrunk(self, grid: Tensor) -> Tensor:
        """The tokens [H, W, D] of a picture's tiles, fewer if they are too many."""
        return grid

    def _seen(self, shown: Sequence[Seen]) -> dict[int, list[Tensor]]:
        pictures = [x for x in shown if isinstance(x, Tiled)]
        if len(pictures) < len(shown):
            raise ValueError("this model sees pictures, and is shown a film")
        return {self.config.image_token_index: self.see(pictures)}

    def prepared(self, messages: Sequence[Message]) -> list[Seen]:
        """What the messages show."""
        return [*self._prepared([x for chunk in shown(messages, "image") for x in chunk.data])]

    def _prepared(self, pictures: Sequence[Tensor]) -> list[Tiled]:
        return [processor(self, "image")(x) for x in pictures]

    def begin(self, messages: Sequence[Message]) -> tuple[KVState, Tensor]:
        """Read a conversation, see `mmworld.models.message.Assistant.begin`."""
        return self.start(read(self, messages), self._seen(self.prepared(messages)))

    @property
    def keymap(self) -> KeyMap:
        """Of `LlavaNextForConditionalGeneration`'s names."""
        own = KeyMap({"newline": "image_newline"}, aliases={"model.image_newline": "image_newline"})
        return super().keymap | own


class Watching(LLaVANext):
    """It watches films too: a family says what tokens they become."""

    takes: ClassVar[Takes] = Takes(("image", "video"), frames=16)
    together: ClassVar[int] = 1
    config: FilmConfig

    def watch(self, film: Tensor) -> Tensor:
        """Frames [T, 3, S, S] to tokens of the language model [N, D]."""
        raise NotImplementedError

    def _seen(self, shown: Sequence[Seen]) -> dict[int, list[Tensor]]:
        films = [like(self, x) for x in shown if isinstance(x, Tensor)]
        pictures = [x for x in shown if isinstance(x, Tiled)]
        return {**super()._seen(pictures), self.config.video_token_index: [self.watch(film) for film in films]}

    @property
    def place(self) -> int:
        return self.config.video_token_index

    def written(self, messages: Sequence[Message]) -> list[int]:
        return read(self, messages)

    def glimpse(self, frames: Tensor, held: int) -> Glimpse:
        """A film of its own, see `mmworld.models.message.Follower`."""
        return Glimpse.row(self.watch(like(self, processor(self, "video")(frames))))

    def prepared(self, messages: Sequence[Message]) -> list[Seen]:
        films = [processor(self, "video")(chunk.data) for chunk in shown(messages, "video")]
        return [*super().prepared(messages), *films]


class LLaVANextVideo(Watching):
    """A film is the tokens of its frames, neighbours pooled.

    Args:
        source: what config.json says.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    config: LlavaNextVideoConfig

    def __init__(self, source: Mapping[str, Any]) -> None:
        super().__init__(source, LlavaNextVideoConfig)
        stride, dim = self.config.spatial_pool_stride, self.vision.config.hidden_size
        pools = {
            "average": nn.AvgPool2d(stride),
            "max": nn.MaxPool2d(stride),
            "conv": nn.Conv2d(dim, dim, stride, stride),
        }
        self.pool = pools[self.config.spatial_pool_mode]

    def watch(self, film: Tensor) -> Tensor:
        """Frames [T, 3, S, S] to tokens of the language model [N, D]."""
        grids = self.features(film).mT.unflatten(2, (self.vision.patches.grid, -1))
        return self.projector(self.pool(grids).flatten(2).mT).flatten(0, 1)

    @property
    def keymap(self) -> KeyMap:
        """Of `LlavaNextVideoForConditionalGeneration`'s names."""
        at = "model.vision_resampler."
        return super().keymap | KeyMap({"pool.*": f"{at}pool.*"}, aliases={at.removeprefix("model."): at})
