"""The text encoders of CLIP (Radford et al. 2021) and SigLIP (Zhai et al. 2023)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from mmworld.attention import Mask
from mmworld.config import config
from mmworld.nn.layer import TransformerConfig
from mmworld.nn.position import Learned, positions
from mmworld.nn.transformer import Transformer
from mmworld.weights.keymap import KeyMap, Place
from mmworld.weights.names import clip_layers
from mmworld.weights.sizes import Depth, Width, standard


@config
class ClipTextConfig:
    """What config.json says under these names."""

    model_type: Literal["clip_text_model"]
    vocab_size: Width = 49408
    hidden_size: Width = 512
    num_hidden_layers: Depth = 12
    num_attention_heads: Width = 8
    intermediate_size: Width = 2048
    max_position_embeddings: Width = 77
    hidden_act: Literal["quick_gelu", "gelu", "gelu_pytorch_tanh"] = "quick_gelu"
    layer_norm_eps: float = 1e-5

    @property
    def backbone(self) -> TransformerConfig:
        return standard(self)


@config
class SiglipTextConfig(ClipTextConfig):
    """What config.json says under these names."""

    model_type: Literal["siglip_text_model"]  # type: ignore[assignment]
    vocab_size: Width = 32_000
    hidden_size: Width = 768
    num_attention_heads: Width = 12
    intermediate_size: Width = 3072
    max_position_embeddings: Width = 64
    hidden_act: Literal["quick_gelu", "gelu", "gelu_pytorch_tanh"] = "gelu_pytorch_tanh"
    layer_norm_eps: float = 1e-6
    pad_token_id: int = 1
    projection_size: Width | None = None


class TextTower(nn.Module):
    """Words and learned places, through a pre-norm transformer.

    Args:
        c: sizes.
        causal: whether a token sees only those before it.
    """

    def __init__(self, c: ClipTextConfig, *, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.words = nn.Embedding(c.vocab_size, c.hidden_size)
        self.places = Learned(c.max_position_embeddings, c.hidden_size)
        self.backbone = Transformer(c.backbone)

    def forward(self, ids: Tensor, lengths: tuple[int, ...] | None = None) -> Tensor:
        """Ids [B, T] of texts, or of texts packed in a row, to their tokens [B, T, D]."""
        mask = Mask("causal", lengths=lengths) if self.causal else Mask("full", lengths=lengths)
        return self.backbone(self.words(ids) + self.places(positions(mask, ids.shape[1], ids.device)), mask)

    @property
    def keymap(self) -> KeyMap:
        """Of `CLIPTextModel`'s names, which `SiglipTextModel` has too."""
        table: dict[str, Place] = {
            "words.weight": "embeddings.token_embedding.weight",
            "places.table.weight": "embeddings.position_embedding.weight",
            "backbone.norm.*": "final_layer_norm.*",
            **clip_layers("", self.words.embedding_dim),
        }
        return KeyMap(table, unused=("embeddings.position_ids",))
