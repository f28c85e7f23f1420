"""ALIGN (Jia et al. 2021): an EfficientNet and a BERT bring pictures and texts to one space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmworld.attention import Mask
from mmworld.config import config, pick
from mmworld.errors import ConfigError
from mmworld.fusion.late import Late
from mmworld.nn.transformer import Transformer
from mmworld.text.bert import BertConfig, Embeddings, names
from mmworld.text.packing import firsts, pack
from mmworld.types import Takes
from mmworld.vision.efficientnet import EfficientNet
from mmworld.weights.keymap import KeyMap
from mmworld.weights.sizes import Depth, Width


@config
class AlignConfig:
    """What config.json says under these names, beside those of its parts."""

    model_type: Literal["align"]
    text_config: dict[str, Any]
    vision_config: dict[str, Any]
    projection_dim: Width = 640


@config
class AlignTextConfig(BertConfig):
    """What config.json says under these names."""

    model_type: Literal["align_text_model"]  # type: ignore[assignment]
    vocab_size: Width = 30522
    hidden_size: Width = 768
    num_hidden_layers: Depth = 12
    num_attention_heads: Width = 12
    intermediate_size: Width = 3072


class ALIGN(Late):
    """A picture and a text fit as well as their directions agree; a picture's is that of its last map, as it is.

    Args:
        source: what config.json says.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    takes = Takes(("image",))

    def __init__(self, source: Mapping[str, Any]) -> None:
        super().__init__()
        self.source, c = dict(source), pick(AlignConfig, source, where="config.json")
        told = self.told = pick(AlignTextConfig, c.text_config, where="config.json: text_config")
        self.vision = EfficientNet(c.vision_config)
        if self.vision.config.dim != c.projection_dim:
            raise ConfigError(f"config.json: projection_dim {c.projection_dim}, pictures have {self.vision.config.dim}")
        self.embeddings, self.backbone = Embeddings(told), Transformer(told.backbone)
        self.text_project = nn.Linear(told.hidden_size, c.projection_dim)
        self.temperature = nn.Parameter(torch.tensor(1.0))

    def embed(self, pixels: Tensor) -> Tensor:
        """Normalised pictures [B, C, H, W] to directions [B, E] of length 1."""
        return F.normalize(self.vision.pool(self.vision(pixels)), dim=-1)

    def embed_texts(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """The ids of each text, which the token that begins it stands for, to directions [B, E] of length 1.

        Raises:
            ValueError: a text is empty, or longer than the places that were learned.
        """
        row, lengths = pack(texts, self.temperature.device)
        mask = Mask("full", lengths=lengths)
        told = self.backbone(self.embeddings(row, mask), mask)[0, firsts(lengths)]
        return F.normalize(self.text_project(told), dim=-1)

    def compare(self, seen: Tensor, told: Tensor) -> Tensor:
        return seen @ told.T / self.temperature

    @property
    def keymap(self) -> KeyMap:
        """Of `AlignModel`'s names."""
        unused = tuple(
            f"text_model.{n}" for n in ("pooler.dense.*", "embeddings.position_ids", "embeddings.token_type_ids")
        )
        own = KeyMap(
            {
                **names("text_model.", self.told.hidden_size),
                "text_project.*": "text_projection.*",
                "temperature": "temperature",
            },
            unused,
        )
        return own | self.vision.keymap.within("vision.", "vision_model.")
