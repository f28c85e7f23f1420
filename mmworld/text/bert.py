"""BERT (Devlin et al. 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmworld.attention import Mask
from mmworld.config import config, pick
from mmworld.nn.layer import ACTIVATIONS, TransformerConfig
from mmworld.nn.position import Learned, positions
from mmworld.nn.transformer import Transformer
from mmworld.weights.keymap import KeyMap, Place
from mmworld.weights.names import bert_layers
from mmworld.weights.sizes import Depth, Width, standard


@config
class BertConfig:
    """What config.json says under these names."""

    model_type: Literal["bert"]
    vocab_size: Width
    hidden_size: Width
    num_hidden_layers: Depth
    num_attention_heads: Width
    intermediate_size: Width
    hidden_act: Literal["gelu", "relu"] = "gelu"
    max_position_embeddings: Width = 512
    type_vocab_size: Width = 2
    layer_norm_eps: float = 1e-12
    position_embedding_type: Literal["absolute"] = "absolute"
    is_decoder: Literal[False] = False
    tie_word_embeddings: Literal[True] = True

    @property
    def backbone(self) -> TransformerConfig:
        return standard(self, order="post")


class Embeddings(nn.Module):
    """Words, places and types, summed and normed (figure 2).

    Args:
        c: sizes.
        first: the place of a text's first token; RoBERTa's is behind those of padding.
    """

    def __init__(self, c: BertConfig, first: int = 0) -> None:
        super().__init__()
        self.first = first
        self.words = nn.Embedding(c.vocab_size, c.hidden_size)
        self.places = Learned(c.max_position_embeddings, c.hidden_size)
        self.types = nn.Embedding(c.type_vocab_size, c.hidden_size)
        self.norm = nn.LayerNorm(c.hidden_size, eps=c.layer_norm_eps)

    def forward(self, ids: Tensor, mask: Mask, types: Tensor | None = None) -> Tensor:
        """Ids and their types [B, T] to [B, T, D]; without types they are all of the first."""
        places = self.places(self.first + positions(mask, ids.shape[1], ids.device))
        return self.norm(self.words(ids) + places + self.types(torch.zeros_like(ids) if types is None else types))


class MaskedHead(nn.Module):
    """Scores of the id that a token stands for, over a table of embeddings (section 3.1, task 1)."""

    def __init__(self, vocab: int, dim: int, activation: str, norm_eps: float) -> None:
        super().__init__()
        self.dense, self.activation = nn.Linear(dim, dim), ACTIVATIONS[activation]
        self.norm = nn.LayerNorm(dim, eps=norm_eps)
        self.bias = nn.Parameter(torch.zeros(vocab))

    def forward(self, x: Tensor, table: Tensor) -> Tensor:
        """x [..., D] and the embeddings [V, D] to [..., V]."""
        return F.linear(self.norm(self.activation(self.dense(x))), table, self.bias)


class Bert(nn.Module):
    """A text encoder: a post-norm transformer, every token of a text seeing every other.

    The architecture that config.json names decides the heads: `BertModel` has the pooler, `BertForMaskedLM` the head of
    masked words, `BertForPreTraining` both (its head of next sentences is left out).

    Args:
        source: what config.json says.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    def __init__(self, source: Mapping[str, Any]) -> None:
        super().__init__()
        self.source, self.config = dict(source), pick(BertConfig, source, where="config.json")
        self.architecture = next(iter(source.get("architectures") or ()), "BertModel")
        dim = self.config.hidden_size
        self.embeddings = Embeddings(self.config)
        self.backbone = Transformer(self.config.backbone)
        self.pooler = None if self.architecture == "BertForMaskedLM" else nn.Linear(dim, dim)
        c = self.config
        masked = MaskedHead(c.vocab_size, dim, c.hidden_act, c.layer_norm_eps)
        self.head = None if self.architecture == "BertModel" else masked

    def forward(self, ids: Tensor, types: Tensor | None = None, lengths: tuple[int, ...] | None = None) -> Tensor:
        """Ids [B, T] of texts, or of texts packed in a row, to their tokens [B, T, D]."""
        mask = Mask("full", lengths=lengths)
        return self.backbone(self.embeddings(ids, mask, types), mask)

    def pool(self, x: Tensor) -> Tensor:
        """Tokens [B, T, D] of one text a row to what stands for each text [B, D].

        Raises:
            ValueError: this checkpoint has no pooler.
        """
        if self.pooler is None:
            raise ValueError(f"{self.architecture} has no pooler")
        return self.pooler(x[:, 0]).tanh()

    def logits(self, x: Tensor) -> Tensor:
        """Tokens [..., D] to the scores of the words that stand there [..., V].

        Raises:
            ValueError: this checkpoint has no head of masked words.
        """
        if self.head is None:
            raise ValueError(f"{self.architecture} has no head of masked words")
        return self.head(x, self.embeddings.words.weight)

    @property
    def keymap(self) -> KeyMap:
        """Of the architecture's names."""
        root = "" if self.architecture == "BertModel" else "bert."
        heads = {"pooler.*": f"{root}pooler.dense.*", **told("")}
        tied = ("cls.predictions.decoder.*", f"{root}embeddings.position_ids", "cls.seq_relationship.*")
        unpooled = () if self.pooler is not None else ("bert.pooler.dense.*",)
        table = {**names(root, self.config.hidden_size), **heads}
        # Norms in checkpoints that were converted from TensorFlow.
        return KeyMap(table, unused=(*tied, *unpooled), endings={"gamma": "weight", "beta": "bias"})


def names(root: str, dim: int) -> dict[str, Place]:
    """The names of BERT's embeddings and layers."""
    return {
        "embeddings.words.weight": f"{root}embeddings.word_embeddings.weight",
        "embeddings.places.table.weight": f"{root}embeddings.position_embeddings.weight",
        "embeddings.types.weight": f"{root}embeddings.token_type_embeddings.weight",
        "embeddings.norm.*": f"{root}embeddings.LayerNorm.*",
        **bert_layers(root, dim),
    }


def told(root: str) -> dict[str, Place]:
    """The names of the head of masked words."""
    at = f"{root}cls.predictions"
    return {
        "head.dense.*": f"{at}.transform.dense.*",
        "head.norm.*": f"{at}.transform.LayerNorm.*",
        "head.bias": f"{at}.bias",
    }
