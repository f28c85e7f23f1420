"""LLaMA (Touvron et al. 2023) and those built like it: Mistral, Qwen2, Qwen3, SmolLM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor, nn

from mmworld.attention import CAUSAL, FULL, Mask
from mmworld.config import config, pick
from mmworld.nn.attention import Attention
from mmworld.nn.layer import Layer, TransformerConfig
from mmworld.nn.state import KVState
from mmworld.nn.transformer import Transformer
from mmworld.text.decoder import Decoder
from mmworld.text.rope import rotary
from mmworld.weights.keymap import Fuse, KeyMap, Place
from mmworld.weights.sizes import Depth, Width


@config
class LlamaConfig:
    """What config.json says under these names; what it leaves out, as within a larger model's, is that of LLaMA 7B,
    and of Mistral 7B the window, which others do not have.

    Raises:
        ValueError: some of the layers see a window and others do not (Qwen's `use_sliding_window`).
    """

    model_type: Literal["llama", "mistral", "qwen2", "qwen3"]
    vocab_size: Width = 32_000
    hidden_size: Width = 4096
    intermediate_size: Width = 11_008
    num_hidden_layers: Depth = 32
    num_attention_heads: Width = 32
    num_key_value_heads: Width | None = None
    head_dim: Width | None = None
    hidden_act: Literal["silu"] = "silu"
    rms_norm_eps: float = 1e-6
    attention_bias: Literal[False] = False
    mlp_bias: Literal[False] = False
    tie_word_embeddings: bool = False
    sliding_window: Width | None = 4096
    use_sliding_window: bool = False

    def __post_init__(self) -> None:
        if self.use_sliding_window:
            raise ValueError("use_sliding_window: layers of different windows are not supported")

    @property
    def window(self) -> int | None:
        """Tokens that a token sees, itself counted; None is all before it."""
        return self.sliding_window if self.model_type == "mistral" else None

    @property
    def backbone(self) -> TransformerConfig:
        return TransformerConfig(
            self.hidden_size,
            self.num_hidden_layers,
            self.num_attention_heads,
            n_kv_heads=self.num_key_value_heads,
            hidden=self.intermediate_size,
            norm="rms",
            norm_eps=self.rms_norm_eps,
            activation="silu",
            gated=True,
            bias=False,
            head_dim=self.head_dim,
            qkv_bias=self.model_type == "qwen2",
        )


class Llama(Decoder):
    """A text decoder: a pre-norm transformer with rotary positions, RMS norms, gated layers and grouped heads.

    Args:
        source: what config.json says, of a model type that LlamaConfig names.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    def __init__(self, source: Mapping[str, Any]) -> None:
        super().__init__()
        self.source, self.config = dict(source), pick(LlamaConfig, source, where="config.json")
        c = self.config.backbone
        self.embedding = nn.Embedding(self.config.vocab_size, c.dim)
        head_dim = c.head_dim or c.dim // c.n_heads
        qwen3 = self.config.model_type == "qwen3"
        layer = (lambda _: Layer(c, attention=_normed(c, head_dim))) if qwen3 else None
        self.backbone = Transformer(c, position=rotary(head_dim, source), layer=layer)
        self.head = None if self.config.tie_word_embeddings else nn.Linear(c.dim, self.config.vocab_size, bias=False)

    def init_state(self) -> KVState:
        return KVState(self.config.window)

    def hidden(
        self,
        x: Tensor,
        state: KVState | None = None,
        lengths: tuple[int, ...] | None = None,
        places: Tensor | None = None,
        context: Tensor | None = None,
        context_mask: Mask = FULL,
    ) -> Tensor:
        """As `Decoder.hidden`.

        Args:
            places: positions [A, T] on the axes of `mrope_section`; None counts on.
            context: what layers that look at one look at, as `context_mask` says (`mmworld.fusion.gated`).
        """
        mask = CAUSAL if state is not None else Mask("causal", window=self.config.window, lengths=lengths)
        return self.backbone(x, mask, state, context, context_mask, places=places)

    @property
    def keymap(self) -> KeyMap:
        """Of `LlamaForCausalLM`'s names and those of its kin."""
        c, at, ours = self.config.backbone, "model.layers.{i}", "backbone.layers.{i}"
        head_dim = c.head_dim or c.dim // c.n_heads
        q, kv = c.n_heads * head_dim, (c.n_kv_heads or c.n_heads) * head_dim
        qkv = tuple(f"{at}.self_attn.{p}_proj.*" for p in "qkv")
        table: dict[str, Place] = {
            "embedding.weight": "model.embed_tokens.weight",
            "head.weight": "lm_head.weight",
            "backbone.norm.weight": "model.norm.weight",
            f"{ours}.attention.qkv.*": Fuse(qkv, (q, kv, kv)),
            f"{ours}.attention.q_norm.weight": f"{at}.self_attn.q_norm.weight",
            f"{ours}.attention.k_norm.weight": f"{at}.self_attn.k_norm.weight",
            f"{ours}.attention.out.weight": f"{at}.self_attn.o_proj.weight",
            f"{ours}.norm_attention.weight": f"{at}.input_layernorm.weight",
            f"{ours}.norm_feed.weight": f"{at}.post_attention_layernorm.weight",
            f"{ours}.feed.up.weight": Fuse(
                (f"{at}.mlp.gate_proj.weight", f"{at}.mlp.up_proj.weight"), (c.hidden or 0,) * 2
            ),
            f"{ours}.feed.down.weight": f"{at}.mlp.down_proj.weight",
        }
        tied = ("lm_head.weight",) if self.head is None else ()
        return KeyMap(table, unused=(*tied, f"{at}.self_attn.rotary_emb.inv_freq"))


def _normed(c: TransformerConfig, head_dim: int) -> Attention:
    """Attention whose queries and keys are normed head by head (Qwen3)."""
    q_norm, k_norm = (nn.RMSNorm(head_dim, eps=c.norm_eps) for _ in range(2))
    return Attention(c, q_norm=q_norm, k_norm=k_norm)
