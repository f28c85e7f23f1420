"""Early fusion: VisualBERT (Li et al. 2019) reads what is seen as words among words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mmworld.attention import FULL
from mmworld.config import config, pick
from mmworld.nn.transformer import Transformer
from mmworld.text.bert import BertConfig, Embeddings, names
from mmworld.weights.keymap import KeyMap, Place
from mmworld.weights.sizes import Width


@config
class VisualBertConfig(BertConfig):
    """What config.json says under these names."""

    model_type: Literal["visual_bert"]  # type: ignore[assignment]
    visual_embedding_dim: Width = 512
    bypass_transformer: Literal[False] = False


class VisualBERT(nn.Module):
    """BERT over a text and the features of a picture's regions, every token seeing every other (figure 2).

    Args:
        source: what config.json says, of `VisualBertModel`.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    def __init__(self, source: Mapping[str, Any]) -> None:
        super().__init__()
        self.source, c = dict(source), pick(VisualBertConfig, source, where="config.json")
        self.config = c
        self.embeddings = Embeddings(c)
        self.seen = nn.Linear(c.visual_embedding_dim, c.hidden_size)
        self.seen_places = nn.Embedding(c.max_position_embeddings, c.hidden_size)
        self.seen_types = nn.Embedding(c.type_vocab_size, c.hidden_size)
        self.backbone = Transformer(c.backbone)
        self.pooler = nn.Linear(c.hidden_size, c.hidden_size)

    def forward(self, ids: Tensor, regions: Tensor | None = None) -> Tensor:
        """Ids [B, T] and features of regions [B, R, F] to tokens [B, T + R, D]; regions have no order."""
        x = self.embeddings(ids, FULL)
        if regions is not None:
            place, kind = self.seen_places.weight[0], self.seen_types.weight[1]
            x = torch.cat((x, self.embeddings.norm(self.seen(regions) + place + kind)), dim=1)
        return self.backbone(x, FULL)

    def pool(self, x: Tensor) -> Tensor:
        """Tokens [B, N, D] to what stands for each pair of text and picture [B, D]."""
        return self.pooler(x[:, 0]).tanh()

    @property
    def keymap(self) -> KeyMap:
        """Of `VisualBertModel`'s names."""
        own: dict[str, Place] = {
            "seen.*": "embeddings.visual_projection.*",
            "seen_places.weight": "embeddings.visual_position_embeddings.weight",
            "seen_types.weight": "embeddings.visual_token_type_embeddings.weight",
            "pooler.*": "pooler.dense.*",
        }
        return KeyMap({**names("", self.config.hidden_size), **own}, unused=("embeddings.position_ids",))
