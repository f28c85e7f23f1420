"""Video transformers over tubelets: ViViT (Arnab et al. 2021) and VideoMAE's encoder (Tong et al. 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mmworld.config import config, pick
from mmworld.nn.layer import TransformerConfig
from mmworld.nn.transformer import Transformer
from mmworld.types import Takes
from mmworld.vision.vit import front, layers
from mmworld.weights.keymap import Fuse, KeyMap, Place
from mmworld.weights.sizes import Depth, Width, standard


@config
class TubeletConfig:
    """What config.json says under these names."""

    model_type: Literal["vivit", "videomae"]
    hidden_size: Width
    num_hidden_layers: Depth
    num_attention_heads: Width
    intermediate_size: Width
    image_size: Width = 224
    num_channels: Width = 3
    hidden_act: Literal["gelu", "gelu_fast", "relu"] = "gelu"
    layer_norm_eps: float = 1e-12

    @property
    def backbone(self) -> TransformerConfig:
        return standard(self)


@config
class ViViTConfig(TubeletConfig):
    """What config.json says under these names."""

    num_frames: Width = 32
    tubelet_size: tuple[Width, Width, Width] = (2, 16, 16)
    qkv_bias: Literal[True] = True


@config
class VideoMAEConfig(TubeletConfig):
    """What config.json says under these names."""

    num_frames: Width = 16
    tubelet_size: Width = 2
    patch_size: Width = 16
    qkv_bias: Literal[True] = True
    use_mean_pooling: bool = True


class Tubelets(nn.Module):
    """Boxes of frames through one linear map, with learned places and a token of the whole film if it is asked for."""

    def __init__(self, dim: int, channels: int, box: tuple[int, int, int], places: int | None) -> None:
        super().__init__()
        self.project = nn.Conv3d(channels, dim, box, box)
        self.token = nn.Parameter(torch.zeros(dim)) if places is not None else None
        self.place = nn.Parameter(torch.randn(places + 1, dim) * 0.02) if places is not None else None

    def forward(self, frames: Tensor) -> Tensor:
        """[B, T, C, H, W] to [B, N, D]."""
        x = self.project(frames.transpose(1, 2)).flatten(2).mT
        if self.token is None or self.place is None:
            return x + _waves(x.shape[1], x.shape[2]).to(x)
        return torch.cat((self.token.expand(len(x), 1, -1), x), dim=1) + self.place


class ViViT(nn.Module):
    """A film encoder: ViT whose patches last some frames (model 1, joint attention).

    Args:
        source: what config.json says; `VivitForVideoClassification` scores the classes that `id2label` names.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    def __init__(self, source: Mapping[str, Any]) -> None:
        super().__init__()
        self.source, c = dict(source), pick(ViViTConfig, source, where="config.json")
        self.config = c
        t, h, w = c.tubelet_size
        places = (c.num_frames // t) * (c.image_size // h) * (c.image_size // w)
        self.patches = Tubelets(c.hidden_size, c.num_channels, c.tubelet_size, places)
        self.backbone = Transformer(c.backbone)
        self.classifies = "VivitForVideoClassification" in (source.get("architectures") or ())
        n_classes = len(source.get("id2label") or range(2))
        self.head = nn.Linear(c.hidden_size, n_classes if self.classifies else c.hidden_size)

    @property
    def takes(self) -> Takes:
        return Takes(("video",), frames=self.config.num_frames)

    def forward(self, frames: Tensor) -> Tensor:
        """Normalised frames [B, T, C, H, W] to tokens [B, 1 + N, D], the first of the whole film."""
        return self.backbone(self.patches(frames))

    def pool(self, x: Tensor) -> Tensor:
        """Tokens [B, 1 + N, D] to what stands for each film [B, D], or to the scores of its classes [B, K]."""
        return self.head(x[:, 0]) if self.classifies else self.head(x[:, 0]).tanh()

    @property
    def keymap(self) -> KeyMap:
        """Of the architecture's names."""
        root = "vivit." if self.classifies else ""
        head = "classifier.*" if self.classifies else "pooler.dense.*"
        ends: dict[str, Place] = {"backbone.norm.*": f"{root}layernorm.*", "head.*": head}
        return KeyMap({**front(root), **layers(root, self.config.hidden_size), **ends})


class VideoMAE(nn.Module):
    """A film encoder: ViT over tubelets whose places are waves; its keys have no bias.

    Args:
        source: what config.json says; `VideoMAEForVideoClassification` scores the classes that `id2label` names.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    def __init__(self, source: Mapping[str, Any]) -> None:
        super().__init__()
        self.source, c = dict(source), pick(VideoMAEConfig, source, where="config.json")
        self.config = c
        box = c.tubelet_size, c.patch_size, c.patch_size
        self.patches = Tubelets(c.hidden_size, c.num_channels, box, None)
        self.backbone = Transformer(c.backbone, last=nn.Identity() if c.use_mean_pooling else None)
        classifies = "VideoMAEForVideoClassification" in (source.get("architectures") or ())
        meant = classifies and c.use_mean_pooling
        self.norm = nn.LayerNorm(c.hidden_size, eps=1e-5) if meant else nn.Identity()
        self.head = nn.Linear(c.hidden_size, len(source.get("id2label") or range(2))) if classifies else None

    @property
    def takes(self) -> Takes:
        return Takes(("video",), frames=self.config.num_frames)

    def forward(self, frames: Tensor) -> Tensor:
        """Normalised frames [B, T, C, H, W] to tokens [B, N, D]."""
        return self.backbone(self.patches(frames))

    def pool(self, x: Tensor) -> Tensor:
        """Tokens [B, N, D] to what stands for each film [B, D], or to the scores of its classes [B, K]."""
        pooled = self.norm(x.mean(1) if self.config.use_mean_pooling else x[:, 0])
        return pooled if self.head is None else self.head(pooled)

    @property
    def keymap(self) -> KeyMap:
        """Of the architecture's names."""
        root = "" if self.head is None else "videomae."
        dim, at = self.config.hidden_size, f"{root}encoder.layer.{{i}}.attention.attention"
        ours = "backbone.layers.{i}.attention.qkv"
        table = front(root) | layers(root, dim)
        del table[f"{ours}.*"]
        table |= {
            f"{ours}.weight": Fuse(tuple(f"{at}.{name}.weight" for name in ("query", "key", "value")), (dim,) * 3),
            f"{ours}.bias": Fuse((f"{at}.q_bias", None, f"{at}.v_bias"), (dim,) * 3),
            "backbone.norm.*": f"{root}layernorm.*",
            "norm.*": "fc_norm.*",
            "head.*": "classifier.*",
        }
        return KeyMap(table)


def _waves(n: int, dim: int) -> Tensor:
    """Sines and cosines of n places [n, dim], one after the other (Vaswani et al. 2017, section 3.5)."""
    angle = torch.arange(n, dtype=torch.float64)[:, None] * 10_000.0 ** -(torch.arange(0, dim, 2).double() / dim)
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1)[:, :dim]
