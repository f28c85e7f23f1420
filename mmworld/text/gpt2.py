"""GPT-2 (Radford et al. 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor, nn

from mmworld.config import config, pick
from mmworld.nn.layer import TransformerConfig
from mmworld.nn.position import Learned
from mmworld.nn.state import KVState
from mmworld.nn.transformer import Transformer
from mmworld.text.decoder import Decoder
from mmworld.weights.keymap import KeyMap, Place, Transposed
from mmworld.weights.sizes import Depth, Width


@config
class GPT2Config:
    """What config.json says under these names."""

    model_type: Literal["gpt2"]
    vocab_size: Width
    n_embd: Width
    n_layer: Depth
    n_head: Width
    n_positions: Width = 1024
    n_inner: Width | None = None
    activation_function: Literal["gelu_new", "gelu", "relu"] = "gelu_new"
    layer_norm_epsilon: float = 1e-5
    scale_attn_weights: Literal[True] = True
    scale_attn_by_inverse_layer_idx: Literal[False] = False
    add_cross_attention: Literal[False] = False
    tie_word_embeddings: Literal[True] = True

    @property
    def backbone(self) -> TransformerConfig:
        names: dict[str, Any] = {"gelu_new": "gelu_tanh"}
        return TransformerConfig(
            self.n_embd,
            self.n_layer,
            self.n_head,
            hidden=self.n_inner,
            norm_eps=self.layer_norm_epsilon,
            activation=names.get(self.activation_function, self.activation_function),
        )


class GPT2(Decoder):
    """A text decoder: a pre-norm transformer with learned positions, its head tied to the embedding.

    Args:
        source: what config.json says.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    def __init__(self, source: Mapping[str, Any]) -> None:
        super().__init__()
        self.source, self.config = dict(source), pick(GPT2Config, source, where="config.json")
        c = self.config.backbone
        self.embedding = nn.Embedding(self.config.vocab_size, c.dim)
        self.place = Learned(self.config.n_positions, c.dim)
        self.backbone, self.head = Transformer(c), None

    def hidden(self, x: Tensor, state: KVState | None = None, lengths: tuple[int, ...] | None = None) -> Tensor:
        mask, at = self.ordered(x, state, lengths)
        return self.backbone(x + self.place(at), mask, state)

    @property
    def keymap(self) -> KeyMap:
        """Of `GPT2LMHeadModel`'s names."""
        at, ours = "transformer.h.{i}", "backbone.layers.{i}"
        table: dict[str, Place] = {
            "embedding.weight": "transformer.wte.weight",
            "place.table.weight": "transformer.wpe.weight",
            "backbone.norm.*": "transformer.ln_f.*",
            f"{ours}.attention.qkv.*": Transposed(f"{at}.attn.c_attn.*"),
            f"{ours}.attention.out.*": Transposed(f"{at}.attn.c_proj.*"),
            f"{ours}.norm_attention.*": f"{at}.ln_1.*",
            f"{ours}.norm_feed.*": f"{at}.ln_2.*",
            f"{ours}.feed.up.*": Transposed(f"{at}.mlp.c_fc.*"),
            f"{ours}.feed.down.*": Transposed(f"{at}.mlp.c_proj.*"),
        }
        bare = {name: f"transformer.{name}" for name in ("h.", "wte.", "wpe.", "ln_f.")}  # in the released checkpoint
        return KeyMap(table, ("lm_head.weight", f"{at}.attn.bias", f"{at}.attn.masked_bias"), aliases=bare)
