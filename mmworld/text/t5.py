"""T5 (Raffel et al. 2020) and T5 v1.1, Flan-T5."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmworld.attention import CAUSAL, FULL, Mask
from mmworld.config import config, pick
from mmworld.nn.attention import Attention, CrossAttention
from mmworld.nn.layer import Layer, TransformerConfig
from mmworld.nn.position import RelativeBias
from mmworld.nn.state import KVState
from mmworld.nn.transformer import Transformer
from mmworld.weights.keymap import Fuse, KeyMap, Place
from mmworld.weights.sizes import Depth, Width


@config
class T5Config:
    """What config.json says under these names."""

    model_type: Literal["t5"]
    vocab_size: Width
    d_model: Width
    d_kv: Width
    d_ff: Width
    num_layers: Depth
    num_heads: Width
    num_decoder_layers: Depth | None = None
    relative_attention_num_buckets: Width = 32
    relative_attention_max_distance: Width = 128
    feed_forward_proj: Literal["relu", "gated-gelu"] = "relu"
    layer_norm_epsilon: float = 1e-6
    tie_word_embeddings: bool = True
    scale_decoder_outputs: bool | None = None
    decoder_start_token_id: int = 0

    @property
    def scale(self) -> float:
        """Of the decoder's output; what does not say so is scaled where the head is the embedding."""
        scaled = self.tie_word_embeddings if self.scale_decoder_outputs is None else self.scale_decoder_outputs
        return self.d_model**-0.5 if scaled else 1.0

    def stack(self, depth: int) -> TransformerConfig:
        """Sizes of the encoder or the decoder."""
        gated = self.feed_forward_proj == "gated-gelu"
        return TransformerConfig(
            self.d_model,
            depth,
            self.num_heads,
            hidden=self.d_ff,
            norm="rms",
            norm_eps=self.layer_norm_epsilon,
            activation="gelu_tanh" if gated else "relu",
            gated=gated,
            bias=False,
            head_dim=self.d_kv,
        )


class T5(nn.Module):
    """An encoder of a text and a decoder of another that looks at it; positions are biases of the attention.

    Args:
        source: what config.json says.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    def __init__(self, source: Mapping[str, Any]) -> None:
        super().__init__()
        self.source, c = dict(source), pick(T5Config, source, where="config.json")
        self.config = c
        self.embedding = nn.Embedding(c.vocab_size, c.d_model)
        down = c.stack(c.num_layers)
        up = c.stack(c.num_decoder_layers or c.num_layers)
        self.encoder = Transformer(
            down, bias=self._bias(causal=False), layer=lambda _: Layer(down, attention=Attention(down, scale=1.0))
        )
        self.decoder = Transformer(
            up,
            bias=self._bias(causal=True),
            layer=lambda _: Layer(up, attention=Attention(up, scale=1.0), cross=CrossAttention(up, scale=1.0)),
        )
        self.head = None if c.tie_word_embeddings else nn.Linear(c.d_model, c.vocab_size, bias=False)

    def _bias(self, *, causal: bool) -> RelativeBias:
        c = self.config
        return RelativeBias(c.num_heads, c.relative_attention_num_buckets, c.relative_attention_max_distance, causal)

    def encode(self, ids: Tensor, lengths: tuple[int, ...] | None = None) -> Tensor:
        """Ids [B, T] of texts, or of texts packed in a row, to their tokens [B, T, D]."""
        return self.encoder(self.embedding(ids), Mask("full", lengths=lengths))

    def forward(
        self,
        ids: Tensor,
        context: Tensor | None = None,
        state: KVState | None = None,
        lengths: tuple[int, ...] | None = None,
        context_lengths: tuple[int, ...] | None = None,
    ) -> Tensor:
        """Ids of the answer so far [B, T] to the scores of those that follow [B, T, V].

        Args:
            context: what `encode` made of the question [B, M, D]; a state holds it, so it is given once.
            state: of the answer that the ids go on with; None is a fresh one.
            lengths, context_lengths: of the answers packed in the row, and of their questions.
        """
        mask = CAUSAL if state is not None else Mask("causal", lengths=lengths)
        sees = FULL if lengths is None else Mask("full", lengths=lengths, key_lengths=context_lengths)
        x = self.decoder(self.embedding(ids), mask, state, context, sees) * self.config.scale
        return F.linear(x, self.embedding.weight) if self.head is None else self.head(x)

    def start(self, x: Tensor) -> tuple[KVState, Tensor]:
        """Embedded questions [B, T, D]: the state of their answers, and the logits [B, V] of what these begin with."""
        first = torch.full((len(x), 1), self.config.decoder_start_token_id, device=x.device)
        state = KVState()
        return state, self(first, self.encoder(x), state)[:, -1]

    def read(self, ids: Tensor, state: KVState) -> Tensor:
        """Append ids [B, n] to the state's rows, which hold a context; logits [B, V] of the id that comes next."""
        return self(ids, None, state)[:, -1]

    @property
    def keymap(self) -> KeyMap:
        """Of `T5ForConditionalGeneration`'s names."""
        table: dict[str, Place] = {"embedding.weight": "shared.weight", "head.weight": "lm_head.weight"}
        for side in ("encoder", "decoder"):
            table |= self._side(side)
        copies = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", *["lm_head.weight"] * (not self.head))
        # In old checkpoints a table without use: a context has no positions.
        unused = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
        return KeyMap(table, unused=(*copies, unused))

    def _side(self, side: str) -> dict[str, Place]:
        c, at, ours = self.config, f"{side}.block.{{i}}.layer", f"{side}.layers.{{i}}"
        heads, feed = c.num_heads * c.d_kv, 1 if side == "encoder" else 2
        ups = ("wi_0", "wi_1") if c.feed_forward_proj == "gated-gelu" else ("wi",)
        return {
            f"{side}.norm.weight": f"{side}.final_layer_norm.weight",
            f"{side}.bias.table.weight": f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
            f"{ours}.attention.qkv.weight": Fuse(_three(f"{at}.0.SelfAttention"), (heads,) * 3),
            f"{ours}.attention.out.weight": f"{at}.0.SelfAttention.o.weight",
            f"{ours}.norm_attention.weight": f"{at}.0.layer_norm.weight",
            f"{ours}.cross.q.weight": f"{at}.1.EncDecAttention.q.weight",
            f"{ours}.cross.kv.weight": Fuse(_three(f"{at}.1.EncDecAttention")[1:], (heads,) * 2),
            f"{ours}.cross.out.weight": f"{at}.1.EncDecAttention.o.weight",
            f"{ours}.norm_cross.weight": f"{at}.1.layer_norm.weight",
            f"{ours}.feed.up.weight": Fuse(
                tuple(f"{at}.{feed}.DenseReluDense.{up}.weight" for up in ups), (c.d_ff,) * len(ups)
            ),
            f"{ours}.feed.down.weight": f"{at}.{feed}.DenseReluDense.wo.weight",
            f"{ours}.norm_feed.weight": f"{at}.{feed}.layer_norm.weight",
        }


def _three(attention: str) -> tuple[str, ...]:
    return tuple(f"{attention}.{name}.weight" for name in "qkv")
