"""Late fusion: CLIP (Radford et al. 2021) and SigLIP (Zhai et al. 2023) bring pictures and texts to one space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmworld.config import config, pick
from mmworld.errors import LengthError
from mmworld.fusion.late import Late
from mmworld.text.clip import ClipTextConfig, SiglipTextConfig, TextTower
from mmworld.text.packing import lasts, pack
from mmworld.types import Takes
from mmworld.vision.clip import ClipVision, SiglipVision
from mmworld.weights.keymap import KeyMap
from mmworld.weights.sizes import Width


@config
class ClipConfig:
    """What config.json says under these names, beside those of its parts."""

    model_type: Literal["clip", "siglip"]
    text_config: dict[str, Any]
    vision_config: dict[str, Any]
    projection_dim: Width = 512


class CLIP(Late):
    """A picture and a text fit as well as their directions agree.

    Args:
        source: what config.json says.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    takes = Takes(("image",))

    def __init__(self, source: Mapping[str, Any]) -> None:
        super().__init__()
        self.source, c = dict(source), pick(ClipConfig, source, where="config.json")
        told = pick(ClipTextConfig, c.text_config, where="config.json: text_config")
        self.vision = ClipVision(c.vision_config)
        self.text = TextTower(told, causal=True)
        self.picture_project = nn.Linear(self.vision.config.hidden_size, c.projection_dim, bias=False)
        self.text_project = nn.Linear(told.hidden_size, c.projection_dim, bias=False)
        self.scale = nn.Parameter(torch.tensor(2.6592))

    def embed(self, pixels: Tensor) -> Tensor:
        """Normalised pictures [B, C, H, W] to directions [B, E] of length 1."""
        return F.normalize(self.picture_project(self.vision.pool(self.vision(pixels))), dim=-1)

    def embed_texts(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """The ids of each text, which the token that ends it stands for, to directions [B, E] of length 1.

        Raises:
            ValueError: a text is empty, or longer than the places that were learned.
        """
        row, lengths = pack(texts, self.scale.device)
        return F.normalize(self.text_project(self.text(row, lengths)[0, lasts(lengths)]), dim=-1)

    @property
    def keymap(self) -> KeyMap:
        """Of `CLIPModel`'s names."""
        own = KeyMap(
            {
                "picture_project.weight": "visual_projection.weight",
                "text_project.weight": "text_projection.weight",
                "scale": "logit_scale",
            }
        )
        text, vision = self.text.keymap, self.vision.keymap
        return own | text.within("text.", "text_model.") | vision.within("vision.", "vision_model.")


class SigLIP(Late):
    """CLIP whose pairs are judged one by one: each has a probability of its own.

    Texts are padded, and the padding seen, as they were in training.

    Args:
        source: what config.json says.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    takes, alone = Takes(("image",)), True

    def __init__(self, source: Mapping[str, Any]) -> None:
        super().__init__()
        self.source, c = dict(source), pick(ClipConfig, source, where="config.json")
        told = self.told = pick(SiglipTextConfig, c.text_config, where="config.json: text_config")
        self.vision = SiglipVision(c.vision_config)
        self.text = TextTower(told, causal=False)
        self.head = nn.Linear(told.hidden_size, told.projection_size or told.hidden_size)
        self.scale, self.bias = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))

    def embed(self, pixels: Tensor) -> Tensor:
        """Normalised pictures [B, C, H, W] to directions [B, E] of length 1."""
        return F.normalize(self.vision.pool(self.vision(pixels)), dim=-1)

    def embed_texts(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """The ids of each text to directions [B, E] of length 1.

        Raises:
            LengthError: a text is longer than the places that were learned.
        """
        n = self.told.max_position_embeddings
        if longest := max((len(t) for t in texts if len(t) > n), default=0):
            raise LengthError(f"a text of {longest} ids, the model has learned {n} places")
        rows = torch.tensor([[*t, *[self.told.pad_token_id] * (n - len(t))] for t in texts], device=self.scale.device)
        return F.normalize(self.head(self.text(rows)[:, -1]), dim=-1)

    def compare(self, seen: Tensor, told: Tensor) -> Tensor:
        return super().compare(seen, told) + self.bias

    @property
    def keymap(self) -> KeyMap:
        """Of `SiglipModel`'s names."""
        own = KeyMap({"head.*": "text_model.head.*", "scale": "logit_scale", "bias": "logit_bias"})
        text, vision = self.text.keymap, self.vision.keymap
        return own | text.within("text.", "text_model.") | vision.within("vision.", "vision_model.")
