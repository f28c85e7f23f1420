"""Whisper (Radford et al. 2022): thirty seconds of sound to text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmworld.attention import CAUSAL, FULL
from mmworld.config import config, pick
from mmworld.nn.attention import CrossAttention
from mmworld.nn.layer import Layer, TransformerConfig
from mmworld.nn.position import Learned
from mmworld.nn.state import KVState
from mmworld.nn.transformer import Transformer
from mmworld.weights.keymap import Fuse, KeyMap, Place
from mmworld.weights.sizes import Depth, Width


@config
class WhisperConfig:
    """What config.json says under these names."""

    model_type: Literal["whisper"]
    vocab_size: Width
    d_model: Width
    encoder_layers: Depth
    encoder_attention_heads: Width
    encoder_ffn_dim: Width
    decoder_layers: Depth
    decoder_attention_heads: Width
    decoder_ffn_dim: Width
    num_mel_bins: Width = 80
    max_source_positions: Width = 1500
    max_target_positions: Width = 448
    activation_function: Literal["gelu"] = "gelu"
    scale_embedding: Literal[False] = False
    tie_word_embeddings: Literal[True] = True
    decoder_start_token_id: int = 50257

    @property
    def encoder(self) -> TransformerConfig:
        return TransformerConfig(
            self.d_model, self.encoder_layers, self.encoder_attention_heads, hidden=self.encoder_ffn_dim
        )

    @property
    def decoder(self) -> TransformerConfig:
        return TransformerConfig(
            self.d_model, self.decoder_layers, self.decoder_attention_heads, hidden=self.decoder_ffn_dim
        )


class Whisper(nn.Module):
    """An encoder of log-mel frames and a decoder of text that looks at it (figure 1).

    Args:
        source: what config.json says.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    def __init__(self, source: Mapping[str, Any]) -> None:
        super().__init__()
        self.source, c = dict(source), pick(WhisperConfig, source, where="config.json")
        self.config = c
        self.first = nn.Conv1d(c.num_mel_bins, c.d_model, 3, padding=1)
        self.second = nn.Conv1d(c.d_model, c.d_model, 3, stride=2, padding=1)
        self.heard = Learned(c.max_source_positions, c.d_model)
        self.encoder = Transformer(c.encoder)
        self.words = nn.Embedding(c.vocab_size, c.d_model)
        self.told = Learned(c.max_target_positions, c.d_model)
        up = c.decoder
        self.decoder = Transformer(up, layer=lambda _: Layer(up, cross=CrossAttention(up)))

    def encode(self, mel: Tensor) -> Tensor:
        """Log-mel frames [B, T, M], a hundredth of a second each, to [B, T / 2, D].

        Raises:
            ValueError: more frames than the places that were learned.
        """
        x = F.gelu(self.second(F.gelu(self.first(mel.mT)))).mT
        return self.encoder(x + self.heard(torch.arange(x.shape[1], device=x.device)), FULL)

    def forward(self, ids: Tensor, context: Tensor | None = None, state: KVState | None = None) -> Tensor:
        """Ids of the text so far [B, T] to the scores of those that follow [B, T, V].

        Args:
            context: what `encode` made of the sound [B, N, D]; a state holds it, so it is given once.
            state: of the text that the ids go on with; None is a fresh one.
        """
        return self._logits(self._hidden(ids, context, state))

    def read(self, ids: Tensor, state: KVState) -> Tensor:
        """Append ids [B, n] to the state's rows, which hold a context; logits [B, V] of the id that comes next."""
        return self._logits(self._hidden(ids, None, state)[:, -1])

    def _hidden(self, ids: Tensor, context: Tensor | None, state: KVState | None) -> Tensor:
        at = torch.arange(ids.shape[1], device=ids.device) + (len(state) if state is not None else 0)
        return self.decoder(self.words(ids) + self.told(at), CAUSAL, state, context)

    def _logits(self, x: Tensor) -> Tensor:
        return F.linear(x, self.words.weight)

    @property
    def keymap(self) -> KeyMap:
        """Of `WhisperForConditionalGeneration`'s names."""
        table: dict[str, Place] = {
            "first.*": "model.encoder.conv1.*",
            "second.*": "model.encoder.conv2.*",
            "heard.table.weight": "model.encoder.embed_positions.weight",
            "words.weight": "model.decoder.embed_tokens.weight",
            "told.table.weight": "model.decoder.embed_positions.weight",
        }
        for side in ("encoder", "decoder"):
            table |= _side(side, self.config.d_model)
        return KeyMap(table, unused=("proj_out.weight",))


def _side(side: str, dim: int) -> dict[str, Place]:
    at, ours = f"model.{side}.layers.{{i}}", f"{side}.layers.{{i}}"
    own, cross = f"{at}.self_attn", f"{at}.encoder_attn"
    table: dict[str, Place] = {
        f"{side}.norm.*": f"model.{side}.layer_norm.*",
        f"{ours}.attention.qkv.weight": Fuse(tuple(f"{own}.{p}_proj.weight" for p in "qkv"), (dim,) * 3),
        f"{ours}.attention.qkv.bias": Fuse((f"{own}.q_proj.bias", None, f"{own}.v_proj.bias"), (dim,) * 3),
        f"{ours}.attention.out.*": f"{own}.out_proj.*",
        f"{ours}.norm_attention.*": f"{at}.self_attn_layer_norm.*",
        f"{ours}.feed.up.*": f"{at}.fc1.*",
        f"{ours}.feed.down.*": f"{at}.fc2.*",
        f"{ours}.norm_feed.*": f"{at}.final_layer_norm.*",
    }
    if side == "decoder":
        table |= {
            f"{ours}.cross.q.*": f"{cross}.q_proj.*",
            f"{ours}.cross.kv.weight": Fuse((f"{cross}.k_proj.weight", f"{cross}.v_proj.weight"), (dim,) * 2),
            f"{ours}.cross.kv.bias": Fuse((None, f"{cross}.v_proj.bias"), (dim,) * 2),
            f"{ours}.cross.out.*": f"{cross}.out_proj.*",
            f"{ours}.norm_cross.*": f"{at}.encoder_attn_layer_norm.*",
        }
    return table
