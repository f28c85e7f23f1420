"""The picture encoders of CLIP (Radford et al. 2021) and SigLIP (Zhai et al. 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mmworld.attention import attention
from mmworld.config import config, pick
from mmworld.nn.layer import FeedForward, TransformerConfig
from mmworld.nn.transformer import Transformer
from mmworld.types import Takes
from mmworld.vision.patches import Patches
from mmworld.weights.keymap import KeyMap, Leading, Place
from mmworld.weights.names import clip_layers
from mmworld.weights.sizes import Depth, Width, standard


@config
class ClipVisionConfig:
    """What config.json says under these names."""

    model_type: Literal["clip_vision_model"]
    hidden_size: Width = 768
    num_hidden_layers: Depth = 12
    num_attention_heads: Width = 12
    intermediate_size: Width = 3072
    image_size: Width = 224
    patch_size: Width = 32
    num_channels: Width = 3
    hidden_act: Literal["quick_gelu", "gelu", "gelu_pytorch_tanh"] = "quick_gelu"
    layer_norm_eps: float = 1e-5
    projection_dim: Width = 512

    @property
    def backbone(self) -> TransformerConfig:
        return standard(self)


@config
class SiglipVisionConfig(ClipVisionConfig):
    """What config.json says under these names."""

    model_type: Literal["siglip_vision_model"]  # type: ignore[assignment]
    patch_size: Width = 16
    hidden_act: Literal["quick_gelu", "gelu", "gelu_pytorch_tanh"] = "gelu_pytorch_tanh"
    layer_norm_eps: float = 1e-6
    vision_use_head: bool = True


class ClipVision(nn.Module):
    """A picture encoder: ViT with a norm before the layers, too; tokens come out of the last layer as they are.

    `CLIPVisionModelWithProjection` also has the map into the space that pictures and texts share.

    Args:
        source: what config.json says.
        kind: of config.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    takes = Takes(("image",))

    def __init__(self, source: Mapping[str, Any], kind: type[ClipVisionConfig] = ClipVisionConfig) -> None:
        super().__init__()
        self.source, c = dict(source), pick(kind, source, where="config.json")
        self.config = c
        self.patches = Patches(c.hidden_size, c.image_size, c.patch_size, c.num_channels, bias=False)
        self.first = nn.LayerNorm(c.hidden_size, eps=c.layer_norm_eps)
        self.backbone = Transformer(c.backbone, last=nn.Identity())
        self.norm = nn.LayerNorm(c.hidden_size, eps=c.layer_norm_eps)
        projects = "CLIPVisionModelWithProjection" in (source.get("architectures") or ())
        self.project = nn.Linear(c.hidden_size, c.projection_dim, bias=False) if projects else None

    def forward(self, pixels: Tensor, depth: int | None = None) -> Tensor:
        """Normalised pictures [B, C, H, W] to tokens [B, 1 + N, D], the first of the whole picture.

        Args:
            depth: layers that they go through; None is all.
        """
        return self.backbone(self.first(self.patches(pixels)), depth=depth)

    def pool(self, x: Tensor) -> Tensor:
        """Tokens [B, 1 + N, D] to what stands for each picture [B, D], or to its place in the shared space [B, E]."""
        pooled = self.norm(x[:, 0])
        return pooled if self.project is None else self.project(pooled)

    @property
    def keymap(self) -> KeyMap:
        """Of `CLIPVisionModel`'s names."""
        root = "" if self.project is None else "vision_model."
        table: dict[str, Place] = {
            **names(root, self.config.hidden_size),
            "patches.token": f"{root}embeddings.class_embedding",
            "first.*": f"{root}pre_layrnorm.*",
            "norm.*": f"{root}post_layernorm.*",
            "project.weight": "visual_projection.weight",
        }
        return KeyMap(table, unused=(f"{root}embeddings.position_ids",), aliases={} if root else {"vision_model.": ""})


class SiglipVision(nn.Module):
    """A picture encoder: ViT without a token for the whole picture; a question that is learned pools the others.

    Args:
        source: what config.json says.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    takes = Takes(("image",))

    def __init__(self, source: Mapping[str, Any]) -> None:
        super().__init__()
        self.source, c = dict(source), pick(SiglipVisionConfig, source, where="config.json")
        self.config = c
        self.patches = Patches(c.hidden_size, c.image_size, c.patch_size, c.num_channels, has_class=False)
        self.backbone = Transformer(c.backbone)
        self.head = Pooling(c.backbone) if c.vision_use_head else None

    def forward(self, pixels: Tensor, depth: int | None = None) -> Tensor:
        """Normalised pictures [B, C, H, W] to tokens [B, N, D].

        Args:
            depth: layers that they go through, without a norm after them; None is all, and the norm.
        """
        return self.backbone(self.patches(pixels), depth=depth)

    def pool(self, x: Tensor) -> Tensor:
        """Tokens [B, N, D] to what stands for each picture [B, D].

        Raises:
            ValueError: this checkpoint has no head.
        """
        if self.head is None:
            raise ValueError("this checkpoint has no head (vision_use_head is false)")
        return self.head(x)

    @property
    def keymap(self) -> KeyMap:
        """Of `SiglipVisionModel`'s names."""
        table: dict[str, Place] = {
            **names("", self.config.hidden_size),
            "backbone.norm.*": "post_layernorm.*",
            "head.probe": Leading("head.probe", 2),
            "head.qkv.weight": "head.attention.in_proj_weight",
            "head.qkv.bias": "head.attention.in_proj_bias",
            "head.out.*": "head.attention.out_proj.*",
            "head.norm.*": "head.layernorm.*",
            "head.feed.up.*": "head.mlp.fc1.*",
            "head.feed.down.*": "head.mlp.fc2.*",
        }
        return KeyMap(table, unused=("embeddings.position_ids",), aliases={"vision_model.": ""})


class Pooling(nn.Module):
    """A learned question that looks at all tokens (Lee et al. 2019, section 3.2, with one seed)."""

    def __init__(self, c: TransformerConfig) -> None:
        super().__init__()
        self.n_heads = c.n_heads
        self.probe = nn.Parameter(torch.randn(c.dim))
        self.qkv, self.out = nn.Linear(c.dim, 3 * c.dim), nn.Linear(c.dim, c.dim)
        self.norm, self.feed = nn.LayerNorm(c.dim, eps=c.norm_eps), FeedForward(c)

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, D] to [B, D]."""
        asked = torch.cat((self.probe.expand(len(x), 1, -1), x), dim=1)
        q, k, v = self.qkv(asked).unflatten(-1, (3 * self.n_heads, -1)).chunk(3, dim=2)
        y = self.out(attention(q[:, :1], k[:, 1:], v[:, 1:]).flatten(2))[:, 0]
        return y + self.feed(self.norm(y))


def names(root: str, dim: int) -> dict[str, Place]:
    """The names that both have in common."""
    return {
        "patches.project.*": f"{root}embeddings.patch_embedding.*",
        "patches.place": f"{root}embeddings.position_embedding.weight",
        **clip_layers(root, dim),
    }
