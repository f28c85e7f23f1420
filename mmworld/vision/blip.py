"""The picture encoder of BLIP (Li et al. 2022) and BLIP-2 (Li et al. 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor, nn

from mmworld.config import config, pick
from mmworld.nn.layer import TransformerConfig
from mmworld.nn.transformer import Transformer
from mmworld.vision.patches import Patches
from mmworld.weights.keymap import KeyMap, Leading, Place
from mmworld.weights.sizes import Depth, Width, standard


@config
class BlipVisionConfig:
    """What config.json says under these names."""

    model_type: Literal[
        "blip_vision_model", "blip_2_vision_model", "instructblip_vision_model", "instructblipvideo_vision_model"
    ]
    hidden_size: Width = 768
    num_hidden_layers: Depth = 12
    num_attention_heads: Width = 12
    intermediate_size: Width = 3072
    image_size: Width = 384
    patch_size: Width = 16
    hidden_act: Literal["gelu"] = "gelu"
    layer_norm_eps: float = 1e-5
    qkv_bias: Literal[True] = True

    @property
    def backbone(self) -> TransformerConfig:
        return standard(self)


@config
class Blip2VisionConfig(BlipVisionConfig):
    """What config.json says under these names: by default EVA-CLIP's giant."""

    hidden_size: Width = 1408
    num_hidden_layers: Depth = 39
    num_attention_heads: Width = 16
    intermediate_size: Width = 6144
    image_size: Width = 224
    patch_size: Width = 14
    layer_norm_eps: float = 1e-6


class BlipVision(nn.Module):
    """A picture encoder: ViT, its tokens normed.

    Args:
        source: what config.json says under `vision_config`.
        kind: of config.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    def __init__(self, source: Mapping[str, Any], kind: type[BlipVisionConfig] = BlipVisionConfig) -> None:
        super().__init__()
        c = self.config = pick(kind, source, where="config.json: vision_config")
        self.patches = Patches(c.hidden_size, c.image_size, c.patch_size)
        self.backbone = Transformer(c.backbone)

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pictures [B, 3, H, W] to tokens [B, 1 + N, D]."""
        return self.backbone(self.patches(pixels))

    @property
    def keymap(self) -> KeyMap:
        """Of `BlipVisionModel`'s names."""
        at, ours = "encoder.layers.{i}", "backbone.layers.{i}"
        table: dict[str, Place] = {
            "patches.project.*": "embeddings.patch_embedding.*",
            "patches.token": Leading("embeddings.class_embedding", 2),
            "patches.place": Leading("embeddings.position_embedding", 1),
            "backbone.norm.*": "post_layernorm.*",
            f"{ours}.attention.qkv.*": f"{at}.self_attn.qkv.*",
            f"{ours}.attention.out.*": f"{at}.self_attn.projection.*",
            f"{ours}.norm_attention.*": f"{at}.layer_norm1.*",
            f"{ours}.norm_feed.*": f"{at}.layer_norm2.*",
            f"{ours}.feed.up.*": f"{at}.mlp.fc1.*",
            f"{ours}.feed.down.*": f"{at}.mlp.fc2.*",
        }
        return KeyMap(table)
