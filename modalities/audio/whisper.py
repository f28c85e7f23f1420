"""Whisper's encoder of sound (Radford et al. 2022), which other systems listen with, too."""

from __future__ import annotations

from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmworld.config import config
from mmworld.nn.layer import TransformerConfig
from mmworld.nn.position import Learned
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
    def decoder(self) -> TransformerConfig:
        return TransformerConfig(
            self.d_model, self.decoder_layers, self.decoder_attention_heads, hidden=self.decoder_ffn_dim
        )


class Hears(Protocol):
    """A config of such an encoder."""

    @property
    def d_model(self) -> int: ...
    @property
    def encoder_layers(self) -> int: ...
    @property
    def encoder_attention_heads(self) -> int: ...
    @property
    def encoder_ffn_dim(self) -> int: ...
    @property
    def num_mel_bins(self) -> int: ...
    @property
    def max_source_positions(self) -> int: ...


class WhisperEncoder(nn.Module):
    """Log-mel frames to tokens, two frames a token (figure 1, left)."""

    def __init__(self, c: Hears) -> None:
        super().__init__()
        self.dim = c.d_model
        self.first = nn.Conv1d(c.num_mel_bins, c.d_model, 3, padding=1)
        self.second = nn.Conv1d(c.d_model, c.d_model, 3, stride=2, padding=1)
        self.places = Learned(c.max_source_positions, c.d_model)
        sizes = TransformerConfig(c.d_model, c.encoder_layers, c.encoder_attention_heads, hidden=c.encoder_ffn_dim)
        self.backbone = Transformer(sizes)

    def steps(self, mel: Tensor) -> Tensor:
        """Frames [B, T, M], a hundredth of a second each, to steps [B, T / 2, D] without places."""
        return F.gelu(self.second(F.gelu(self.first(mel.mT)))).mT

    def forward(self, mel: Tensor) -> Tensor:
        """Frames [B, T, M], a hundredth of a second each, to [B, T / 2, D].

        Raises:
            ValueError: more frames than the places that were learned.
        """
        x = self.steps(mel)
        return self.backbone(x + self.places(torch.arange(x.shape[1], device=x.device)))

    @property
    def keymap(self) -> KeyMap:
        """Of `WhisperEncoder`'s names."""
        table: dict[str, Place] = {
            "first.*": "conv1.*",
            "second.*": "conv2.*",
            "places.table.weight": "embed_positions.weight",
        }
        return KeyMap(table | names("backbone.", "", self.dim))


def names(ours: str, theirs: str, dim: int) -> dict[str, Place]:
    """Of the layers that encoder and decoder have in common; keys have no bias."""
    at, here = f"{theirs}layers.{{i}}", f"{ours}layers.{{i}}"
    own = f"{at}.self_attn"
    return {
        f"{ours}norm.*": f"{theirs}layer_norm.*",
        f"{here}.attention.qkv.weight": Fuse(tuple(f"{own}.{p}_proj.weight" for p in "qkv"), (dim,) * 3),
        f"{here}.attention.qkv.bias": Fuse((f"{own}.q_proj.bias", None, f"{own}.v_proj.bias"), (dim,) * 3),
        f"{here}.attention.out.*": f"{own}.out_proj.*",
        f"{here}.norm_attention.*": f"{at}.self_attn_layer_norm.*",
        f"{here}.feed.up.*": f"{at}.fc1.*",
        f"{here}.feed.down.*": f"{at}.fc2.*",
        f"{here}.norm_feed.*": f"{at}.final_layer_norm.*",
    }
