"""DINOv2 (Oquab et al. 2024), with registers too (Darcet et al. 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor, nn

from mmworld.config import config, pick
from mmworld.nn.layer import Layer, LayerScale, TransformerConfig
from mmworld.nn.transformer import Transformer
from mmworld.types import Takes
from mmworld.vision.patches import Patches
from mmworld.vision.vit import front, layers
from mmworld.weights.keymap import KeyMap, Leading, Place
from mmworld.weights.sizes import Depth, Width


@config
class DINOv2Config:
    """What config.json says under these names."""

    model_type: Literal["dinov2", "dinov2_with_registers"]
    hidden_size: Width
    num_hidden_layers: Depth
    num_attention_heads: Width
    mlp_ratio: float = 4
    image_size: Width = 224
    patch_size: Width = 16
    num_channels: Width = 3
    num_register_tokens: int = 0
    hidden_act: Literal["gelu"] = "gelu"
    layer_norm_eps: float = 1e-6
    qkv_bias: Literal[True] = True
    use_swiglu_ffn: bool = False
    use_mask_token: bool = True

    @property
    def backbone(self) -> TransformerConfig:
        hidden = int(self.hidden_size * self.mlp_ratio)
        if self.use_swiglu_ffn:
            hidden = (int(hidden * 2 / 3) + 7) // 8 * 8  # two thirds, as there are three matrices, in whole eights
        return TransformerConfig(
            self.hidden_size,
            self.num_hidden_layers,
            self.num_attention_heads,
            hidden=hidden,
            norm_eps=self.layer_norm_eps,
            activation="silu" if self.use_swiglu_ffn else "gelu",
            gated=self.use_swiglu_ffn,
        )


class DINOv2(nn.Module):
    """A picture encoder: ViT with a learned scale at the end of each branch.

    Args:
        source: what config.json says.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    takes = Takes(("image",))

    def __init__(self, source: Mapping[str, Any]) -> None:
        super().__init__()
        self.source, self.config = dict(source), pick(DINOv2Config, source, where="config.json")
        c, sizes = self.config, self.config.backbone
        registered = c.model_type == "dinov2_with_registers"
        self.patches = Patches(
            c.hidden_size,
            c.image_size,
            c.patch_size,
            c.num_channels,
            registers=c.num_register_tokens if registered else 0,
            antialias=registered,
        )
        self.backbone = Transformer(sizes, layer=lambda _: Layer(sizes, end=lambda: LayerScale(c.hidden_size)))

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pictures [B, C, H, W] to tokens [B, 1 + registers + N, D], the first of the whole picture."""
        return self.backbone(self.patches(pixels))

    def pool(self, x: Tensor) -> Tensor:
        """Tokens [B, N, D] to what stands for each picture [B, D]."""
        return x[:, 0]

    @property
    def keymap(self) -> KeyMap:
        """Of `Dinov2Model`'s names."""
        at, ours = "encoder.layer.{i}", "backbone.layers.{i}"
        up, down = ("weights_in", "weights_out") if self.config.use_swiglu_ffn else ("fc1", "fc2")
        table: dict[str, Place] = {
            **front(""),
            **layers("", self.config.hidden_size),
            "backbone.norm.*": "layernorm.*",
            "patches.registers": Leading("embeddings.register_tokens", 1),
            f"{ours}.norm_attention.*": f"{at}.norm1.*",
            f"{ours}.norm_feed.*": f"{at}.norm2.*",
            f"{ours}.end_attention.gamma": f"{at}.layer_scale1.lambda1",
            f"{ours}.end_feed.gamma": f"{at}.layer_scale2.lambda1",
            f"{ours}.feed.up.*": f"{at}.mlp.{up}.*",
            f"{ours}.feed.down.*": f"{at}.mlp.{down}.*",
        }
        return KeyMap(table, unused=("embeddings.mask_token",))  # which stands for hidden patches in training
