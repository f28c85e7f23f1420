"""The Q-Former (Li et al. 2023, BLIP-2, section 3.1): learned questions that look at a picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mmworld.attention import FULL
from mmworld.config import config, pick
from mmworld.nn.attention import CrossAttention
from mmworld.nn.layer import Layer, TransformerConfig
from mmworld.nn.transformer import Transformer
from mmworld.weights.keymap import KeyMap, Leading, Place
from mmworld.weights.names import bert_cross, bert_layers
from mmworld.weights.sizes import Depth, Width, standard


@config
class QFormerConfig:
    """What config.json says under these names."""

    model_type: Literal["blip_2_qformer"]
    hidden_size: Width = 768
    num_hidden_layers: Depth = 12
    num_attention_heads: Width = 12
    intermediate_size: Width = 3072
    encoder_hidden_size: Width = 1408
    cross_attention_frequency: Width = 2
    hidden_act: Literal["gelu", "relu"] = "gelu"
    layer_norm_eps: float = 1e-12
    use_qformer_text_input: Literal[False] = False

    @property
    def backbone(self) -> TransformerConfig:
        return standard(self, order="post")


class QFormer(nn.Module):
    """So many tokens of a picture, whatever its size: BERT's layers over learned questions, every so many of which
    look at the picture.

    Args:
        source: what config.json says under `qformer_config`.
        n: questions.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    def __init__(self, source: Mapping[str, Any], n: int) -> None:
        super().__init__()
        c = self.config = pick(QFormerConfig, source, where="config.json: qformer_config")
        sizes = c.backbone
        self.questions = nn.Parameter(torch.zeros(n, c.hidden_size))
        self.norm = nn.LayerNorm(c.hidden_size, eps=c.layer_norm_eps)

        def layer(i: int) -> Layer:
            looks = i % c.cross_attention_frequency == 0
            return Layer(sizes, cross=CrossAttention(sizes, context_dim=c.encoder_hidden_size) if looks else None)

        self.backbone = Transformer(sizes, layer=layer)

    def forward(self, seen: Tensor) -> Tensor:
        """Tokens of pictures [B, N, E] to what the questions found in each [B, n, D]."""
        asked = self.norm(self.questions).expand(len(seen), -1, -1)
        return self.backbone(asked, FULL, context=seen)

    @property
    def keymap(self) -> KeyMap:
        """Of BLIP-2's names."""
        dim, root = self.config.hidden_size, "qformer."
        table: dict[str, Place] = {
            "questions": Leading("query_tokens", 1),
            "norm.*": "qformer.layernorm.*",
            **bert_layers(root, dim, "attention", "_query"),
            **bert_cross(root, dim, "attention"),
        }
        return KeyMap(table)
