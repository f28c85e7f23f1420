"""CLAP (Wu et al. 2023): HTS-AT and a RoBERTa bring sounds and texts to one space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmworld.attention import Mask
from mmworld.config import config, pick
from mmworld.fusion.late import Late
from mmworld.fusion.projection import Projector
from mmworld.modalities.audio.htsat import HTSAT
from mmworld.nn.transformer import Transformer
from mmworld.text.bert import BertConfig, Embeddings, names
from mmworld.text.packing import firsts, pack
from mmworld.types import Takes
from mmworld.weights.keymap import KeyMap
from mmworld.weights.sizes import Depth, Width


@config
class ClapConfig:
    """What config.json says under these names, beside those of its parts."""

    model_type: Literal["clap"]
    text_config: dict[str, Any]
    audio_config: dict[str, Any]
    projection_dim: Width = 512
    projection_hidden_act: Literal["relu", "gelu"] = "relu"


@config
class ClapTextConfig(BertConfig):
    """What config.json says under these names."""

    model_type: Literal["clap_text_model"]  # type: ignore[assignment]
    vocab_size: Width = 50265
    hidden_size: Width = 768
    num_hidden_layers: Depth = 12
    num_attention_heads: Width = 12
    intermediate_size: Width = 3072
    max_position_embeddings: Width = 514
    type_vocab_size: Width = 1
    pad_token_id: int = 1


class CLAP(Late):
    """A sound and a text fit as well as their directions agree.

    Args:
        source: what config.json says.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    takes = Takes(("audio",), seconds=600.0, rate=48_000)

    def __init__(self, source: Mapping[str, Any]) -> None:
        super().__init__()
        self.source, c = dict(source), pick(ClapConfig, source, where="config.json")
        told = self.told = pick(ClapTextConfig, c.text_config, where="config.json: text_config")
        self.audio = HTSAT(c.audio_config)
        self.embeddings, self.backbone = Embeddings(told, first=told.pad_token_id + 1), Transformer(told.backbone)
        self.pooler = nn.Linear(told.hidden_size, told.hidden_size)
        ends = c.projection_dim, c.projection_hidden_act
        self.sound_project = Projector(self.audio.config.hidden_size, *ends)
        self.text_project = Projector(told.hidden_size, *ends)
        self.scale, self.text_scale = (nn.Parameter(torch.tensor(2.6593)) for _ in range(2))

    def embed(self, x: Tensor) -> Tensor:
        """Log-mel frames of sounds [B, C, T, M] to directions [B, E] of length 1."""
        return self.embed_sounds(x)

    def embed_sounds(self, mel: Tensor, longer: Tensor | None = None) -> Tensor:
        """Log-mel frames of sounds [B, C, T, M] to directions [B, E] of length 1.

        Args:
            longer: bool [B], of which sounds the crops are looked at too, where the model has learned to; None is all,
                as of a sound that is heard by itself.
        """
        return F.normalize(self.sound_project(self.audio(mel, longer)), dim=-1)

    def embed_texts(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """The ids of each text, which the token that begins it stands for, to directions [B, E] of length 1.

        Raises:
            ValueError: a text is empty, or longer than the places that were learned.
        """
        row, lengths = pack(texts, self.scale.device)
        mask = Mask("full", lengths=lengths)
        x = self.backbone(self.embeddings(row, mask), mask)[0, firsts(lengths)]
        return F.normalize(self.text_project(self.pooler(x).tanh()), dim=-1)

    @property
    def keymap(self) -> KeyMap:
        """Of `ClapModel`'s names; what texts' scores are multiplied by, alone, is kept for whoever saves it."""
        unused = ("embeddings.position_ids", "embeddings.token_type_ids")
        own = KeyMap(
            {
                **names("text_model.", self.told.hidden_size),
                "pooler.*": "text_model.pooler.dense.*",
                "scale": "logit_scale_a",
                "text_scale": "logit_scale_t",
            },
            tuple(f"text_model.{name}" for name in unused),
        )
        ends = {"up": "linear1", "down": "linear2"}
        for ours, theirs in (("sound_project", "audio_projection"), ("text_project", "text_projection")):
            own |= KeyMap({f"{ours}.{end}.*": f"{theirs}.{other}.*" for end, other in ends.items()})
        return own | self.audio.keymap.within("audio.", "audio_model.")
