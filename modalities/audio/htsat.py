"""HTS-AT (Chen et al. 2022), the sound encoder of CLAP: a Swin transformer over a spectrogram."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from mmworld.config import config, pick
from mmworld.nn.layer import TransformerConfig
from mmworld.nn.windows import Stage
from mmworld.weights.keymap import Fuse, KeyMap, Place
from mmworld.weights.names import batch_norm
from mmworld.weights.sizes import Depth, Width

Pair = Width | tuple[Width, Width]


@config
class HTSATConfig:
    """What config.json says under these names."""

    model_type: Literal["clap_audio_model"]
    window_size: Width = 8
    num_mel_bins: Width = 64
    spec_size: Width = 256
    hidden_act: Literal["gelu", "relu"] = "gelu"
    patch_size: Pair = 4
    patch_stride: Pair = (4, 4)
    hidden_size: Width = 768
    depths: Annotated[tuple[Depth, ...], Field(min_length=1, max_length=8)] = (2, 2, 6, 2)
    num_attention_heads: tuple[Width, ...] = (4, 8, 16, 32)
    enable_fusion: bool = False
    fusion_type: Literal["aff_2d"] | None = None
    patch_embed_input_channels: Literal[1] = 1
    flatten_patch_embeds: Literal[True] = True
    patch_embeds_hidden_size: Width = 96
    enable_patch_layer_norm: bool = True
    qkv_bias: Literal[True] = True
    mlp_ratio: Annotated[float, Field(gt=0, le=64)] = 4.0
    aff_block_r: Width = 4
    layer_norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        if len(self.depths) != len(self.num_attention_heads):
            raise ValueError("depths and num_attention_heads must have as many values")
        if self.spec_size % self.num_mel_bins or any(n % 2 ** (len(self.depths) - 1) for n in self.grid):
            raise ValueError("spec_size must be a multiple of num_mel_bins, and its patches halve with each stage")
        if self.hidden_size != self.width(len(self.depths) - 1):
            raise ValueError(f"hidden_size {self.hidden_size}, the last stage has {self.width(len(self.depths) - 1)}")

    @property
    def grid(self) -> tuple[int, int]:
        """Patches down and across."""
        down, across = pair(self.patch_stride)
        return self.spec_size // down, self.spec_size // across

    @property
    def ratio(self) -> int:
        """Stretches of time that stand one below the other in the square."""
        return self.spec_size // self.num_mel_bins

    def width(self, stage: int) -> int:
        return self.patch_embeds_hidden_size * 2**stage

    def stage(self, i: int) -> TransformerConfig:
        dim = self.width(i)
        hidden = int(self.mlp_ratio * dim)
        sizes = dim, self.depths[i], self.num_attention_heads[i]
        return TransformerConfig(*sizes, hidden=hidden, norm_eps=self.layer_norm_eps, activation=self.hidden_act)


class Fusion(nn.Module):
    """Attentional feature fusion (Dai et al. 2021, figure 2): how much of either, by what is there and everywhere."""

    def __init__(self, dim: int, ratio: int) -> None:
        super().__init__()
        self.here = nn.Sequential(*_squeezed(dim, dim // ratio))
        self.everywhere = nn.Sequential(nn.AdaptiveAvgPool2d(1), *_squeezed(dim, dim // ratio))

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        """Maps [B, D, H, W] of either to one."""
        both = x + other
        share = (self.here(both) + self.everywhere(both)).sigmoid()
        return 2 * x * share + 2 * other * (1 - share)


class Patches(nn.Module):
    """Patches of a square spectrogram, and, with fusion, of three crops of it, seen three times as wide."""

    def __init__(self, c: HTSATConfig) -> None:
        super().__init__()
        dim, (high, wide), (down, across) = c.patch_embeds_hidden_size, pair(c.patch_size), pair(c.patch_stride)
        padding = (high - down) // 2, (wide - across) // 2
        self.project = nn.Conv2d(1, dim, (high, wide), (down, across), padding)
        self.norm = nn.LayerNorm(dim) if c.enable_patch_layer_norm else nn.Identity()
        crops = nn.Conv2d(1, dim, (high, 3 * wide), (down, 3 * across), padding) if c.enable_fusion else None
        self.crops, self.fusion = crops, Fusion(dim, c.aff_block_r) if c.enable_fusion else None

    def forward(self, square: Tensor, longer: Tensor) -> Tensor:
        """Squares [B, C, S, S], the first of the whole and three of crops, which are seen of the sounds that are
        `longer` (bool [B]) than one crop, to tokens [B, N, D]."""
        x = self.project(square[:, :1])
        if self.crops is not None and self.fusion is not None and bool(longer.any()):
            crops = self.crops(square[longer, 1:].flatten(0, 1)[:, None]).unflatten(0, (-1, square.shape[1] - 1))
            row = crops.permute(0, 2, 3, 1, 4).flatten(3)
            x[longer] = self.fusion(x[longer], F.pad(row, (0, x.shape[-1] - row.shape[-1])))
        return self.norm(x.flatten(2).mT)


class HTSAT(nn.Module):
    """A sound encoder.

    Args:
        source: what config.json says.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    def __init__(self, source: Mapping[str, Any]) -> None:
        super().__init__()
        c = self.config = pick(HTSATConfig, source, where="config.json: audio_config")
        self.scale = nn.BatchNorm2d(c.num_mel_bins)
        self.patches = Patches(c)
        grids = [(c.grid[0] >> i, c.grid[1] >> i) for i in range(len(c.depths))]
        last = len(c.depths) - 1
        self.stages = nn.Sequential(
            *(Stage(c.stage(i), g, c.window_size, merged=i < last) for i, g in enumerate(grids))
        )
        self.norm = nn.LayerNorm(c.hidden_size)

    def forward(self, mel: Tensor, longer: Tensor | None = None) -> Tensor:
        """Log-mel frames [B, C, T, M], C being 4 with fusion and 1 without, to what stands for each sound [B, D].

        Args:
            longer: bool [B], whose crops differ from the whole; None is all.

        Raises:
            ValueError: they are more than the square holds, or not of so many channels or frequencies.
        """
        c = self.config
        shape = 4 if c.enable_fusion else 1, c.num_mel_bins
        if (mel.shape[1], mel.shape[3]) != shape or mel.shape[2] > c.spec_size * c.ratio:
            most = f"[B, {shape[0]}, T, {shape[1]}] with at most {c.spec_size * c.ratio} frames"
            raise ValueError(f"frames of shape {list(mel.shape)}, the model takes {most}")
        if longer is None:
            longer = torch.ones(len(mel), dtype=torch.bool, device=mel.device)
        x = self.scale(mel.transpose(1, 3)).transpose(1, 3)
        return self.norm(self.stages(self.patches(self._square(x), longer))).mean(1)

    def _square(self, x: Tensor) -> Tensor:
        """Frames stretched to fill a square [B, C, S, S], in which stretches of time stand one below the other."""
        c = self.config
        if x.shape[2] < (frames := c.spec_size * c.ratio):
            x = F.interpolate(x, (frames, x.shape[3]), mode="bicubic", align_corners=True)
        return x.unflatten(2, (c.ratio, -1)).transpose(3, 4).flatten(2, 3)

    @property
    def keymap(self) -> KeyMap:
        """Of `ClapAudioModel`'s names."""
        at, c = "audio_encoder", self.config
        table: dict[str, Place] = {
            "patches.project.*": f"{at}.patch_embed.proj.*",
            "patches.norm.*": f"{at}.patch_embed.norm.*",
            "patches.crops.*": f"{at}.patch_embed.mel_conv2d.*",
            "norm.*": f"{at}.norm.*",
            **batch_norm("scale", f"{at}.batch_norm"),
            "stages.{i}.merge.norm.*": f"{at}.layers.{{i}}.downsample.norm.*",
            "stages.{i}.merge.join.weight": f"{at}.layers.{{i}}.downsample.reduction.weight",
        }
        for ours, theirs in (("here", "local_att"), ("everywhere", "global_att")):
            table |= batch_norm(f"patches.fusion.{ours}.{{i}}", f"{at}.patch_embed.fusion_model.{theirs}.{{i}}")
        for i in range(len(c.depths)):
            table |= _stage(i, c.width(i))
        return KeyMap(table, unused=(f"{at}.layers.{{i}}.blocks.{{i}}.attention.self.relative_position_index",))


def pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return size if isinstance(size, tuple) else (size, size)


def _squeezed(dim: int, inner: int) -> tuple[nn.Module, ...]:
    down, up = nn.Conv2d(dim, inner, 1), nn.Conv2d(inner, dim, 1)
    return down, nn.BatchNorm2d(inner), nn.ReLU(), up, nn.BatchNorm2d(dim)


def _stage(i: int, dim: int) -> dict[str, Place]:
    at, ours = f"audio_encoder.layers.{i}.blocks.{{i}}", f"stages.{i}.layers.layers.{{i}}"
    qkv = tuple(f"{at}.attention.self.{name}.*" for name in ("query", "key", "value"))
    return {
        f"{ours}.attention.attention.qkv.*": Fuse(qkv, (dim,) * 3),
        f"{ours}.attention.attention.out.*": f"{at}.attention.output.dense.*",
        f"{ours}.attention.offsets": f"{at}.attention.self.relative_position_bias_table",
        f"{ours}.norm_attention.*": f"{at}.layernorm_before.*",
        f"{ours}.feed.up.*": f"{at}.intermediate.dense.*",
        f"{ours}.feed.down.*": f"{at}.output.dense.*",
        f"{ours}.norm_feed.*": f"{at}.layernorm_after.*",
    }
