"""The encoders of Qwen2-VL (Wang et al. 2024) and Qwen2.5-VL (Bai et al. 2025): pictures and films of any size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmworld.attention import Mask
from mmworld.config import config
from mmworld.nn.attention import Pass
from mmworld.nn.layer import Layer, TransformerConfig
from mmworld.nn.position import Rotary
from mmworld.vision.boxes import Boxes
from mmworld.weights.keymap import Fuse, KeyMap, Place
from mmworld.weights.sizes import Depth, Width


@config
class QwenVisionConfig:
    """What both say under these names."""

    depth: Depth = 32
    num_heads: Width = 16
    in_channels: Width = 3
    patch_size: Width = 14
    spatial_merge_size: Width = 2
    temporal_patch_size: Width = 2


@config
class Qwen2VisionConfig(QwenVisionConfig):
    """What config.json says under these names."""

    embed_dim: Width = 1280
    hidden_size: Width = 3584
    mlp_ratio: Width = 4
    hidden_act: Literal["quick_gelu", "gelu"] = "quick_gelu"

    @property
    def backbone(self) -> TransformerConfig:
        hidden = self.mlp_ratio * self.embed_dim
        return TransformerConfig(
            self.embed_dim, self.depth, self.num_heads, hidden=hidden, norm_eps=1e-6, activation=self.hidden_act
        )

    @property
    def window(self) -> int:
        """Side of what a layer sees, in patches: more than any frame has."""
        return 1 << 20

    @property
    def fullatt_block_indexes(self) -> tuple[int, ...]:
        return ()

    def step(self, seconds: float) -> float:
        """Positions from one group of frames to the next, however long it takes."""
        return 1.0


@config
class Qwen25VisionConfig(QwenVisionConfig):
    """What config.json says under these names.

    Attributes:
        window_size: side of the windows that most layers see, in pixels.
        fullatt_block_indexes: layers that see the whole of a frame.
        tokens_per_second: positions of a second of film.
    """

    hidden_size: Width = 3584
    intermediate_size: Width = 3420
    out_hidden_size: Width = 3584
    hidden_act: Literal["silu", "gelu"] = "silu"
    window_size: Width = 112
    fullatt_block_indexes: tuple[int, ...] = (7, 15, 23, 31)
    tokens_per_second: Width = 4

    def __post_init__(self) -> None:
        if self.window < self.spatial_merge_size:
            raise ValueError(f"window_size {self.window_size}: less than what is merged")

    @property
    def backbone(self) -> TransformerConfig:
        return TransformerConfig(
            self.hidden_size,
            self.depth,
            self.num_heads,
            hidden=self.intermediate_size,
            norm="rms",
            norm_eps=1e-6,
            activation=self.hidden_act,
            gated=True,
        )

    @property
    def window(self) -> int:
        """Side of a window in patches."""
        return self.window_size // self.spatial_merge_size // self.patch_size * self.spatial_merge_size

    def step(self, seconds: float) -> float:
        """Positions from one group of frames to the next; in float32, so that transformers' fractions are the same."""
        return float(self.tokens_per_second * torch.tensor(seconds))


class QwenVision(nn.Module):
    """A picture encoder without a size of its own: patches of two frames turn by their row and column.

    Tokens see those of their own frames, or of a window of them; pictures of all sizes are packed in one row.
    """

    def __init__(self, c: Qwen2VisionConfig | Qwen25VisionConfig) -> None:
        super().__init__()
        self.config, up = c, c.backbone
        self.boxes = Boxes(c.temporal_patch_size, c.patch_size, c.spatial_merge_size)
        size = c.temporal_patch_size, c.patch_size, c.patch_size
        self.project = nn.Conv3d(c.in_channels, up.dim, size, size, bias=False)
        head_dim = up.dim // up.n_heads
        self.position = Rotary(head_dim, scaling=_of_either, sections=(head_dim // 4,) * 2)
        self.layers = nn.ModuleList(Layer(up) for _ in range(c.depth))

    def forward(self, films: Sequence[Tensor]) -> Tensor:
        """Normalised frames [T, C, H, W] of pictures and films to tokens [N, D], those that are merged together."""
        grids = [self.boxes.grid(f) for f in films]
        order, windows = self._windows(grids)
        # Boxes that are cut already take one matrix product: much faster on a CPU than a convolution.
        x = F.linear(torch.cat([self.boxes.cut(f) for f in films]), self.project.weight.flatten(1))
        places = torch.cat([self.boxes.places(g) for g in grids], dim=1)[:, order].to(x.device)
        order = order.to(x.device)
        near = Pass(Mask(lengths=windows), self.position(places, x.dtype))
        far = replace(near, mask=Mask(lengths=tuple(h * w for t, h, w in grids for _ in range(t))))
        x = x[None, order]
        for i, layer in enumerate(self.layers):
            x = layer(x, far if i in self.config.fullatt_block_indexes else near, i)
        return x[0, order.argsort()]

    def _windows(self, grids: Sequence[tuple[int, int, int]]) -> tuple[Tensor, tuple[int, ...]]:
        """The order of all boxes that puts those of a window together, and how many each window has."""
        found = [self.boxes.windows(grid, self.config.window) for grid in grids]
        firsts = accumulate((len(order) for order, _ in found), initial=0)
        order = torch.cat([order + first for (order, _), first in zip(found, firsts, strict=False)])
        return order, tuple(n for _, sizes in found for n in sizes)

    @property
    def keymap(self) -> KeyMap:
        """Of the names within a checkpoint's `visual`."""
        at, ours, up = "blocks.{i}", "layers.{i}", self.config.backbone
        table: dict[str, Place] = {
            "project.weight": "patch_embed.proj.weight",
            f"{ours}.attention.qkv.*": f"{at}.attn.qkv.*",
            f"{ours}.attention.out.*": f"{at}.attn.proj.*",
            f"{ours}.norm_attention.*": f"{at}.norm1.*",
            f"{ours}.norm_feed.*": f"{at}.norm2.*",
            f"{ours}.feed.up.*": f"{at}.mlp.fc1.*",
            f"{ours}.feed.down.*": f"{at}.mlp.fc2.*",
        }
        if up.gated:
            gate = (f"{at}.mlp.gate_proj.*", f"{at}.mlp.up_proj.*")
            table[f"{ours}.feed.up.*"] = Fuse(gate, (up.hidden or 0,) * 2)
            table[f"{ours}.feed.down.*"] = f"{at}.mlp.down_proj.*"
        return KeyMap(table)


def _of_either(frequencies: Tensor) -> Tensor:
    """Rows and columns turn by the same frequencies, those of a head half as wide."""
    return frequencies[::2].repeat(2)
