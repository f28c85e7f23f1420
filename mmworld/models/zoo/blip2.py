"""BLIP-2 (Li et al. 2023): a picture encoder, a Q-Former, and a language model: OPT or T5."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor, nn

from mmworld.config import config, pick
from mmworld.fusion.projection import put
from mmworld.fusion.qformer import QFormer
from mmworld.nn.state import KVState
from mmworld.text.opt import OPT
from mmworld.text.t5 import T5
from mmworld.vision.blip import Blip2VisionConfig, BlipVision
from mmworld.weights.keymap import KeyMap
from mmworld.weights.sizes import Width


@config
class Blip2Config:
    """What config.json says under these names, beside those of its parts."""

    model_type: Literal["blip-2"]
    text_config: dict[str, Any]
    vision_config: dict[str, Any]
    qformer_config: dict[str, Any]
    num_query_tokens: Width = 32
    image_token_index: int | None = None


class BLIP2(nn.Module):
    """What the Q-Former's questions find in a picture are so many tokens in the text of a language model.

    Args:
        source: what config.json says, of `Blip2ForConditionalGeneration`.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    def __init__(self, source: Mapping[str, Any]) -> None:
        super().__init__()
        self.source, c = dict(source), pick(Blip2Config, source, where="config.json")
        self.config = c
        self.vision = BlipVision(c.vision_config, Blip2VisionConfig)
        self.qformer = QFormer(c.qformer_config, c.num_query_tokens)
        self.language: OPT | T5 = (T5 if c.text_config.get("model_type") == "t5" else OPT)(c.text_config)
        width = self.language.embedding.embedding_dim
        self.project = nn.Linear(self.qformer.config.hidden_size, width)

    def see(self, pixels: Tensor) -> Tensor:
        """Normalised pictures [B, 3, H, W] to tokens of the language model [B, n, D]."""
        return self.project(self.qformer(self.vision(pixels)))

    def embed(self, ids: Tensor, pixels: Tensor | None = None) -> Tensor:
        """Ids [B, T], and the pictures [P, 3, H, W] that stand in their `image_token_index`, to [B, T, D].

        Raises:
            ValueError: the pictures do not fill those places, or overfill them.
        """
        words = self.language.embedding(ids)
        if pixels is None or self.config.image_token_index is None:
            return words
        return put(self.see(pixels).flatten(0, 1), words, ids == self.config.image_token_index)

    def forward(
        self, ids: Tensor, pixels: Tensor | None = None, state: KVState | None = None, answer: Tensor | None = None
    ) -> Tensor:
        """Ids [B, T] and pictures [P, 3, H, W] to the scores of the ids that follow [B, T, V].

        Args:
            state: of the text that goes on; None is a fresh one.
            answer: with T5, the ids so far of what it answers to `ids`, whose scores are given.
        """
        x = self.embed(ids, pixels)
        if isinstance(self.language, OPT):
            return self.language.logits(self.language.hidden(x, state))
        if answer is None:
            raise ValueError("T5 answers: give the ids of the answer so far, which begins with decoder_start_token_id")
        return self.language(answer, self.language.encoder(x), state)

    @property
    def keymap(self) -> KeyMap:
        """Of `Blip2ForConditionalGeneration`'s names."""
        own = KeyMap({"project.*": "language_projection.*"}, unused=("qformer.embeddings.position_ids",))
        parts = self.qformer.keymap.within("qformer.", ""), self.vision.keymap.within("vision.", "vision_model.")
        return own | parts[0] | parts[1] | self.language.keymap.within("language.", "language_model.")
