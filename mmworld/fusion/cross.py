"""Cross-attention fusion: a text whose layers look at something (Li et al. 2022, BLIP, figure 2)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from mmworld.attention import Mask
from mmworld.config import config
from mmworld.nn.attention import CrossAttention, Pass
from mmworld.nn.layer import Layer, TransformerConfig
from mmworld.nn.position import Learned, positions
from mmworld.nn.state import KVState
from mmworld.nn.transformer import Transformer
from mmworld.weights.keymap import KeyMap
from mmworld.weights.names import bert_cross, bert_layers
from mmworld.weights.sizes import Depth, Width, standard


@config
class BlipTextConfig:
    """What config.json says under these names."""

    model_type: Literal["blip_text_model"]
    vocab_size: Width = 30524
    hidden_size: Width = 768
    encoder_hidden_size: Width = 768
    num_hidden_layers: Depth = 12
    num_attention_heads: Width = 8
    intermediate_size: Width = 3072
    max_position_embeddings: Width = 512
    hidden_act: Literal["gelu", "relu"] = "gelu"
    layer_norm_eps: float = 1e-12
    bos_token_id: int = 30522
    sep_token_id: int = 102
    tie_word_embeddings: Literal[True] = True

    @property
    def backbone(self) -> TransformerConfig:
        return standard(self, order="post")


class Looking(Layer):
    """A layer that looks at something where there is something to look at, and goes on without where there is not."""

    def look(self, x: Tensor, run: Pass, layer: int) -> Tensor:
        held = run.state is not None and layer in run.state.context
        return super().look(x, run, layer) if held or run.context is not None else x


class BlipText(nn.Module):
    """BERT with cross-attention in every layer, and without types of tokens.

    Args:
        c: sizes.
        layer: of the backbone; `Looking` reads texts by themselves too.
    """

    def __init__(self, c: BlipTextConfig, layer: type[Layer] = Layer) -> None:
        super().__init__()
        sizes, self.dim = c.backbone, c.hidden_size
        self.words = nn.Embedding(c.vocab_size, c.hidden_size)
        self.places = Learned(c.max_position_embeddings, c.hidden_size)
        self.norm = nn.LayerNorm(c.hidden_size, eps=c.layer_norm_eps)
        self.backbone = Transformer(
            sizes, layer=lambda _: layer(sizes, cross=CrossAttention(sizes, context_dim=c.encoder_hidden_size))
        )

    def forward(self, ids: Tensor, mask: Mask, context: Tensor | None = None, state: KVState | None = None) -> Tensor:
        """Ids [B, T], which see each other as `mask` says, to tokens [B, T, D].

        Args:
            context: what they look at [B, N, E]; a state holds it, so it is given once.
            state: of the text that the ids go on with; None is a fresh one.
        """
        at = positions(mask, ids.shape[1], ids.device) + (len(state) if state is not None else 0)
        return self.backbone(self.norm(self.words(ids) + self.places(at)), mask, state, context)

    @property
    def keymap(self) -> KeyMap:
        """Of `BlipTextModel`'s names."""
        table = {
            "words.weight": "embeddings.word_embeddings.weight",
            "places.table.weight": "embeddings.position_embeddings.weight",
            "norm.*": "embeddings.LayerNorm.*",
            **bert_layers("", self.dim),
            **bert_cross("", self.dim),
        }
        return KeyMap(table, unused=("embeddings.position_ids",))
