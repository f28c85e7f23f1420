"""ViT (Dosovitskiy et al. 2021)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor, nn

from mmworld.config import config, pick
from mmworld.nn.layer import TransformerConfig
from mmworld.nn.transformer import Transformer
from mmworld.types import Takes
from mmworld.vision.patches import Patches
from mmworld.weights.keymap import Fuse, KeyMap, Leading, Place
from mmworld.weights.sizes import Depth, Width, standard


@config
class ViTConfig:
    """What config.json says under these names."""

    model_type: Literal["vit"]
    hidden_size: Width
    num_hidden_layers: Depth
    num_attention_heads: Width
    intermediate_size: Width
    image_size: Width = 224
    patch_size: Width = 16
    num_channels: Width = 3
    hidden_act: Literal["gelu", "gelu_tanh", "relu"] = "gelu"
    layer_norm_eps: float = 1e-12
    qkv_bias: Literal[True] = True
    pooler_act: Literal["tanh"] = "tanh"

    @property
    def backbone(self) -> TransformerConfig:
        return standard(self)


class ViT(nn.Module):
    """A picture encoder: patches, a token for the whole, a pre-norm transformer.

    The architecture that config.json names decides what stands at the end: `ViTModel` has the pooler,
    `ViTForImageClassification` scores of the classes that `id2label` names.

    Args:
        source: what config.json says.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    takes = Takes(("image",))

    def __init__(self, source: Mapping[str, Any]) -> None:
        super().__init__()
        self.source, c = dict(source), pick(ViTConfig, source, where="config.json")
        self.config = c
        self.classifies = "ViTForImageClassification" in (source.get("architectures") or ())
        self.patches = Patches(c.hidden_size, c.image_size, c.patch_size, c.num_channels)
        self.backbone = Transformer(c.backbone)
        n_classes = len(source.get("id2label") or range(2))
        self.head = nn.Linear(c.hidden_size, n_classes if self.classifies else c.hidden_size)

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pictures [B, C, H, W] to tokens [B, 1 + N, D], the first of the whole picture."""
        return self.backbone(self.patches(pixels))

    def pool(self, x: Tensor) -> Tensor:
        """Tokens [B, 1 + N, D] to what stands for each picture [B, D], or to the scores of its classes [B, K]."""
        return self.head(x[:, 0]) if self.classifies else self.head(x[:, 0]).tanh()

    @property
    def keymap(self) -> KeyMap:
        """Of the architecture's names."""
        root = "vit." if self.classifies else ""
        head = "classifier.*" if self.classifies else "pooler.dense.*"
        dim = self.config.hidden_size
        return KeyMap({**front(root), **layers(root, dim), "backbone.norm.*": f"{root}layernorm.*", "head.*": head})


def front(root: str) -> dict[str, Place]:
    """The names of what comes before the layers, as ViT's kin have them."""
    return {
        "patches.project.*": f"{root}embeddings.patch_embeddings.projection.*",
        "patches.token": Leading(f"{root}embeddings.cls_token", 2),
        "patches.place": Leading(f"{root}embeddings.position_embeddings", 1),
    }


def layers(root: str, dim: int) -> dict[str, Place]:
    """The names of the layers, as ViT's kin have them."""
    at, ours = f"{root}encoder.layer.{{i}}", "backbone.layers.{i}"
    qkv = tuple(f"{at}.attention.attention.{name}.*" for name in ("query", "key", "value"))
    return {
        f"{ours}.attention.qkv.*": Fuse(qkv, (dim,) * 3),
        f"{ours}.attention.out.*": f"{at}.attention.output.dense.*",
        f"{ours}.norm_attention.*": f"{at}.layernorm_before.*",
        f"{ours}.norm_feed.*": f"{at}.layernorm_after.*",
        f"{ours}.feed.up.*": f"{at}.intermediate.dense.*",
        f"{ours}.feed.down.*": f"{at}.output.dense.*",
    }
