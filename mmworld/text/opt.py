"""OPT (Zhang et al. 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor, nn

from mmworld.attention import FULL, Mask
from mmworld.config import config, pick
from mmworld.nn.layer import TransformerConfig
from mmworld.nn.position import Learned
from mmworld.nn.state import KVState
from mmworld.nn.transformer import Transformer
from mmworld.text.decoder import Decoder
from mmworld.weights.keymap import Fuse, KeyMap, Place
from mmworld.weights.sizes import Depth, Width

FIRST = 2
"""Row of the first place in the table of learned places: the two before were for padding."""


@config
class OPTConfig:
    """What config.json says under these names.

    Raises:
        ValueError: the embeddings are narrower than the layers (OPT-350M).
    """

    model_type: Literal["opt"]
    vocab_size: Width
    hidden_size: Width
    num_hidden_layers: Depth
    num_attention_heads: Width
    ffn_dim: Width
    max_position_embeddings: Width = 2048
    activation_function: Literal["relu", "gelu"] = "relu"
    do_layer_norm_before: Literal[True] = True
    enable_bias: Literal[True] = True
    layer_norm_elementwise_affine: Literal[True] = True
    tie_word_embeddings: Literal[True] = True
    word_embed_proj_dim: Width | None = None

    def __post_init__(self) -> None:
        if self.word_embed_proj_dim not in (None, self.hidden_size):
            raise ValueError(f"word_embed_proj_dim {self.word_embed_proj_dim} is not hidden_size {self.hidden_size}")

    @property
    def backbone(self) -> TransformerConfig:
        return TransformerConfig(
            self.hidden_size,
            self.num_hidden_layers,
            self.num_attention_heads,
            hidden=self.ffn_dim,
            activation=self.activation_function,
        )


class OPT(Decoder):
    """A text decoder: a pre-norm transformer with learned places, its head tied to the embedding.

    Args:
        source: what config.json says.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    def __init__(self, source: Mapping[str, Any]) -> None:
        super().__init__()
        self.source, self.config = dict(source), pick(OPTConfig, source, where="config.json")
        c = self.config.backbone
        self.embedding = nn.Embedding(self.config.vocab_size, c.dim)
        self.place = Learned(self.config.max_position_embeddings + FIRST, c.dim)
        self.backbone, self.head = Transformer(c), None

    def hidden(
        self,
        x: Tensor,
        state: KVState | None = None,
        lengths: tuple[int, ...] | None = None,
        context: Tensor | None = None,
        context_mask: Mask = FULL,
    ) -> Tensor:
        mask, at = self.ordered(x, state, lengths)
        return self.backbone(x + self.place(FIRST + at), mask, state, context, context_mask)

    @property
    def keymap(self) -> KeyMap:
        """Of `OPTForCausalLM`'s names."""
        root, ours = "model.decoder", "backbone.layers.{i}"
        at = f"{root}.layers.{{i}}"
        table: dict[str, Place] = {
            "embedding.weight": f"{root}.embed_tokens.weight",
            "place.table.weight": f"{root}.embed_positions.weight",
            "backbone.norm.*": f"{root}.final_layer_norm.*",
            f"{ours}.attention.qkv.*": Fuse(
                tuple(f"{at}.self_attn.{p}_proj.*" for p in "qkv"), (self.config.hidden_size,) * 3
            ),
            f"{ours}.attention.out.*": f"{at}.self_attn.out_proj.*",
            f"{ours}.norm_attention.*": f"{at}.self_attn_layer_norm.*",
            f"{ours}.feed.up.*": f"{at}.fc1.*",
            f"{ours}.feed.down.*": f"{at}.fc2.*",
            f"{ours}.norm_feed.*": f"{at}.final_layer_norm.*",
        }
        return KeyMap(table, unused=("lm_head.weight",), aliases={"decoder.": "model.decoder."})
