"""Magneto (Wang et al. 2022, Foundation Transformers), as Kosmos-2 speaks with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor, nn

from mmworld.config import config, pick
from mmworld.nn.attention import Attention
from mmworld.nn.layer import FeedForward, Layer, TransformerConfig
from mmworld.nn.position import sinusoids
from mmworld.nn.state import KVState
from mmworld.nn.transformer import Transformer
from mmworld.text.decoder import Decoder
from mmworld.weights.keymap import Fuse, KeyMap, Place
from mmworld.weights.sizes import Depth, Width


@config
class MagnetoConfig:
    """What config.json says under these names."""

    model_type: Literal["kosmos_2_text_model"]
    vocab_size: Width = 65_037
    embed_dim: Width = 2048
    layers: Depth = 24
    ffn_dim: Width = 8192
    attention_heads: Width = 32
    activation_function: Literal["gelu", "relu"] = "gelu"
    layer_norm_eps: float = 1e-5
    scale_embedding: bool = True
    pad_token_id: Literal[1] = 1
    tie_word_embeddings: Literal[True] = True
    add_cross_attention: Literal[False] = False

    @property
    def backbone(self) -> TransformerConfig:
        return TransformerConfig(
            self.embed_dim,
            self.layers,
            self.attention_heads,
            hidden=self.ffn_dim,
            norm_eps=self.layer_norm_eps,
            activation=self.activation_function,
        )


class Magneto(Decoder):
    """A text decoder with sinusoidal places, its head tied to the embedding.

    Args:
        source: what config.json says.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    def __init__(self, source: Mapping[str, Any]) -> None:
        super().__init__()
        self.source = dict(source)
        self.config = pick(MagnetoConfig, source, where="config.json: text_config")
        c = self.config.backbone
        self.scale = c.dim**0.5 if self.config.scale_embedding else 1.0
        self.embedding = nn.Embedding(self.config.vocab_size, c.dim)
        self.backbone, self.head = Transformer(c, layer=lambda _: sub_normed(c)), None

    def hidden(self, x: Tensor, state: KVState | None = None, lengths: tuple[int, ...] | None = None) -> Tensor:
        mask, at = self.ordered(x, state, lengths)
        return self.backbone(x * self.scale + sinusoids(at, x), mask, state)

    @property
    def keymap(self) -> KeyMap:
        """Of `Kosmos2TextForCausalLM`'s names."""
        at, ours = "model.layers.{i}", "backbone.layers.{i}"
        qkv = tuple(f"{at}.self_attn.{p}_proj.*" for p in "qkv")
        table: dict[str, Place] = {
            "embedding.weight": "model.embed_tokens.weight",
            "backbone.norm.*": "model.layer_norm.*",
            f"{ours}.norm_attention.*": f"{at}.self_attn_layer_norm.*",
            f"{ours}.attention.qkv.*": Fuse(qkv, (self.config.embed_dim,) * 3),
            f"{ours}.attention.out.0.*": f"{at}.self_attn.inner_attn_ln.*",
            f"{ours}.attention.out.1.*": f"{at}.self_attn.out_proj.*",
            f"{ours}.norm_feed.*": f"{at}.final_layer_norm.*",
            f"{ours}.feed.up.*": f"{at}.ffn.fc1.*",
            f"{ours}.feed.down.0.*": f"{at}.ffn.ffn_layernorm.*",
            f"{ours}.feed.down.1.*": f"{at}.ffn.fc2.*",
        }
        return KeyMap(table, unused=("lm_head.weight", "model.embed_positions.weights"))


def sub_normed(c: TransformerConfig) -> Layer:
    """A layer with a second norm in each branch, before its last projection (Sub-LN, section 2.1)."""
    attention: Any = Attention(c)
    feed: Any = FeedForward(c)
    attention.out = nn.Sequential(nn.LayerNorm(c.dim, eps=c.norm_eps), attention.out)
    feed.down = nn.Sequential(nn.LayerNorm(feed.down.in_features, eps=c.norm_eps), feed.down)
    return Layer(c, attention=attention, feed=feed)
