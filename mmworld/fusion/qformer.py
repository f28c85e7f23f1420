"""The Q-Former (Li et al. 2023, BLIP-2, section 3.1): learned questions that look at a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mmworld.attention import FULL, Mask
from mmworld.config import config, pick
from mmworld.errors import LengthError
from mmworld.nn.attention import CrossAttention, Pass
from mmworld.nn.layer import FeedForward, Layer, TransformerConfig, make_norm
from mmworld.nn.position import positions
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
        self.questions = nn.Parameter(torch.zeros(n, c.hidden_size))
        self.norm = nn.LayerNorm(c.hidden_size, eps=c.layer_norm_eps)
        self.backbone = _layers(c, lambda cross: Layer(c.backbone, cross=cross))

    def forward(self, seen: Tensor) -> Tensor:
        """Tokens of pictures [B, N, E] to what the questions found in each [B, n, D]."""
        asked = self.norm(self.questions).expand(len(seen), -1, -1)
        return self.backbone(asked, FULL, context=seen)

    @property
    def keymap(self) -> KeyMap:
        """Of BLIP-2's names."""
        return KeyMap({"norm.*": "qformer.layernorm.*", **_names(self.config.hidden_size)})


@config
class InstructedConfig(QFormerConfig):
    """What config.json says under these names."""

    model_type: Literal["blip_2_qformer", "instructblip_qformer", "instructblipvideo_qformer"]  # type: ignore[assignment]
    use_qformer_text_input: Literal[True] = True  # type: ignore[assignment]
    vocab_size: Width = 30_522
    max_position_embeddings: Width = 512


class Instructed(nn.Module):
    """A Q-Former that reads words, too: beside its questions, so that it looks for what is asked (Dai et al. 2023,
    InstructBLIP, section 2.3) or for what a text says (Li et al. 2023, BLIP-2, figure 2), or by themselves.

    Args:
        source: what config.json says under `qformer_config`.
        n: questions.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    def __init__(self, source: Mapping[str, Any], n: int) -> None:
        super().__init__()
        c = self.config = pick(InstructedConfig, source, where="config.json: qformer_config")
        self.questions = nn.Parameter(torch.zeros(n, c.hidden_size))
        self.words, self.places = (nn.Embedding(k, c.hidden_size) for k in (c.vocab_size, c.max_position_embeddings))
        self.norm = nn.LayerNorm(c.hidden_size, eps=c.layer_norm_eps)
        self.backbone = _layers(c, lambda cross: Beside(c.backbone, n, cross))

    def forward(self, seen: Tensor, ids: Tensor) -> Tensor:
        """Tokens of pictures [B, N, E] and the ids of what is asked of each [B, T], to what the questions found in
        each [B, n, D].

        Raises:
            LengthError: more ids than the places that were learned.
        """
        asked, told = self.questions.expand(len(seen), -1, -1), self._told(ids, FULL)
        return self.backbone(self.norm(torch.cat((asked, told), dim=1)), FULL, context=seen)[:, : len(self.questions)]

    def read(self, ids: Tensor, mask: Mask = FULL) -> Tensor:
        """Ids [B, T] of words by themselves, or of texts packed in a row as the mask says, to [B, T, D].

        Raises:
            LengthError: more ids than the places that were learned.
        """
        return self.backbone(self.norm(self._told(ids, mask)), mask)

    def _told(self, ids: Tensor, mask: Mask) -> Tensor:
        if (most := max(mask.lengths or (ids.shape[1],))) > len(self.places.weight):
            raise LengthError(f"{most} ids are given, the model has learned {len(self.places.weight)} places")
        return self.words(ids) + self.places(positions(mask, ids.shape[1], ids.device))

    @property
    def keymap(self) -> KeyMap:
        """Of InstructBLIP's names."""
        at, ours = "qformer.encoder.layer.{i}.", "backbone.layers.{i}."
        table: dict[str, Place] = {
            "words.weight": "qformer.embeddings.word_embeddings.weight",
            "places.weight": "qformer.embeddings.position_embeddings.weight",
            "norm.*": "qformer.embeddings.layernorm.*",
            **_names(self.config.hidden_size),
            f"{ours}feed_words.up.*": f"{at}intermediate.dense.*",
            f"{ours}feed_words.down.*": f"{at}output.dense.*",
            f"{ours}norm_words.*": f"{at}output.LayerNorm.*",
        }
        return KeyMap(table)


class Beside(Layer):
    """A layer whose first n tokens look and have a feed-forward of their own; the others are words, as all are where
    there is nothing to look at."""

    def __init__(self, c: TransformerConfig, n: int, cross: CrossAttention | None) -> None:
        super().__init__(c, cross=cross)
        self.n, self.feed_words, self.norm_words = n, FeedForward(c), make_norm(c)

    def forward(self, x: Tensor, run: Pass, layer: int) -> Tensor:
        """x [B, n + T, D] to [B, n + T, D]; or, without a context, [B, T, D] to [B, T, D]."""
        x = self.attend(x, run, layer)
        if run.context is None:
            return self.branch(x, self.norm_words, self.feed_words)
        asked, words = x.tensor_split((self.n,), dim=1)
        return torch.cat(
            (self.think(self.look(asked, run, layer)), self.branch(words, self.norm_words, self.feed_words)), dim=1
        )


def _layers(c: QFormerConfig, layer: Callable[[CrossAttention | None], Layer]) -> Transformer:
    """Made by `layer` of what a layer looks with, if it looks."""

    def made(i: int) -> Layer:
        looks = i % c.cross_attention_frequency == 0
        return layer(CrossAttention(c.backbone, context_dim=c.encoder_hidden_size) if looks else None)

    return Transformer(c.backbone, layer=made)


def _names(dim: int) -> dict[str, Place]:
    """The names that both have in common."""
    return {
        "questions": Leading("query_tokens", 1),
        **bert_layers("qformer.", dim, "attention", "_query"),
        **bert_cross("qformer.", dim, "attention"),
    }
