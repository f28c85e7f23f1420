"""What SpeechT5's systems share: config, encoder, what stands before it, and the names of layers."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from mmworld.config import config
from mmworld.errors import LengthError
from mmworld.modalities.audio.waves import PlaceConv, WaveConvs
from mmworld.nn.attention import CrossAttention
from mmworld.nn.layer import Layer, TransformerConfig
from mmworld.nn.position import RelativeKeys, sinusoids
from mmworld.nn.transformer import Transformer
from mmworld.weights.keymap import Fuse, KeyMap, Place
from mmworld.weights.sizes import Depth, Width

Widths = Annotated[tuple[Width, ...], Field(min_length=1, max_length=32)]


@config
class SpeechT5Config:
    """What config.json says under these names."""

    model_type: Literal["speecht5"]
    vocab_size: Width = 81
    hidden_size: Width = 768
    encoder_layers: Depth = 12
    encoder_attention_heads: Width = 12
    encoder_ffn_dim: Width = 3072
    decoder_layers: Depth = 6
    decoder_attention_heads: Width = 12
    decoder_ffn_dim: Width = 3072
    encoder_max_relative_position: Width = 160
    hidden_act: Literal["gelu", "relu"] = "gelu"
    layer_norm_eps: float = 1e-5
    scale_embedding: Literal[False] = False
    tie_word_embeddings: Literal[True] = True
    pad_token_id: Literal[1] = 1
    decoder_start_token_id: int = 2
    max_text_positions: Width = 450
    max_speech_positions: Width = 4000
    conv_dim: Widths = (512,) * 7
    conv_kernel: Widths = (10, 3, 3, 3, 3, 2, 2)
    conv_stride: Widths = (5, 2, 2, 2, 2, 2, 2)
    conv_bias: bool = False
    feat_extract_norm: Literal["group"] = "group"
    feat_extract_activation: Literal["gelu"] = "gelu"
    num_conv_pos_embeddings: Width = 128
    num_conv_pos_embedding_groups: Width = 16
    num_mel_bins: Width = 80
    reduction_factor: Width = 2
    speaker_embedding_dim: Width = 512
    speech_decoder_prenet_layers: Depth = 2
    speech_decoder_prenet_units: Width = 256
    speech_decoder_prenet_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    speech_decoder_postnet_layers: Depth = 5
    speech_decoder_postnet_units: Width = 256
    speech_decoder_postnet_kernel: Width = 5

    def __post_init__(self) -> None:
        if not len(self.conv_dim) == len(self.conv_kernel) == len(self.conv_stride):
            raise ValueError("conv_dim, conv_kernel and conv_stride must have as many values")
        if self.hidden_size % 2 or self.speech_decoder_postnet_kernel % 2 == 0:
            raise ValueError("hidden_size must be even and speech_decoder_postnet_kernel odd")

    def stack(self, depth: int, n_heads: int, hidden: int) -> TransformerConfig:
        """Sizes of the encoder or the decoder."""
        return TransformerConfig(
            self.hidden_size,
            depth,
            n_heads,
            hidden=hidden,
            norm_eps=self.layer_norm_eps,
            activation=self.hidden_act,
            order="post",
        )


class Waves(nn.Module):
    """Speech, before the encoder (section 2.2): wav2vec 2.0's convolutions and places, and sinusoids."""

    def __init__(self, c: SpeechT5Config) -> None:
        super().__init__()
        self.convs = WaveConvs(c.conv_dim, c.conv_kernel, c.conv_stride, bias=c.conv_bias)
        self.norm = nn.LayerNorm(c.conv_dim[-1], eps=c.layer_norm_eps)
        self.project = nn.Linear(c.conv_dim[-1], c.hidden_size)
        self.place = PlaceConv(c.hidden_size, c.num_conv_pos_embeddings, c.num_conv_pos_embedding_groups)

    def forward(self, samples: Tensor) -> Tensor:
        """Normalised samples [B, S] of 16 kHz to steps [B, T, D]."""
        x = self.project(self.norm(self.convs(samples)))
        return x + self.place(x) + sinusoids(torch.arange(x.shape[1], device=x.device), x)

    @staticmethod
    def keymap(at: str) -> KeyMap:
        """Of `SpeechT5SpeechEncoderPrenet`'s names."""
        places, weight = f"{at}.pos_conv_embed.conv", "parametrizations.weight"
        return KeyMap(
            {
                "convs.convs.{i}.*": f"{at}.feature_encoder.conv_layers.{{i}}.conv.*",
                "convs.norm.*": f"{at}.feature_encoder.conv_layers.0.layer_norm.*",
                "norm.*": f"{at}.feature_projection.layer_norm.*",
                "project.*": f"{at}.feature_projection.projection.*",
                "place.conv.bias": f"{places}.bias",
                f"place.conv.{weight}.original0": f"{places}.{weight}.original0",
                f"place.conv.{weight}.original1": f"{places}.{weight}.original1",
            },
            # What hides steps in training; a table that is computed.
            unused=(f"{at}.masked_spec_embed", f"{at}.pos_sinusoidal_embed.weights"),
            endings={"weight_g": f"{weight}.original0", "weight_v": f"{weight}.original1"},
        )


class Letters(nn.Module):
    """Text, before the encoder: its letters and, to a learned degree, their places (Li et al. 2019, section 3.2)."""

    def __init__(self, c: SpeechT5Config) -> None:
        super().__init__()
        self.limit = c.max_text_positions
        self.words = nn.Embedding(c.vocab_size, c.hidden_size)
        self.places = nn.Parameter(torch.ones(()))

    def forward(self, ids: Tensor) -> Tensor:
        """Ids [B, T] to [B, T, D]; LengthError if the text is longer than what was trained on."""
        if ids.shape[1] > self.limit:
            raise LengthError(f"a text of {ids.shape[1]} ids, the model has learned {self.limit} places")
        x = self.words(ids)
        return x + self.places * turns(torch.arange(ids.shape[1], device=ids.device), x)

    @staticmethod
    def keymap(at: str) -> KeyMap:
        """Of `SpeechT5TextEncoderPrenet`'s names."""
        table: dict[str, Place] = {
            "words.weight": f"{at}.embed_tokens.weight",
            "places": f"{at}.encode_positions.alpha",
        }
        return KeyMap(table, unused=(f"{at}.encode_positions.pe",))


class Encoder(nn.Module):
    """A post-norm transformer whose queries look at distances, too, behind what makes steps of speech or text."""

    def __init__(self, c: SpeechT5Config, front: Waves | Letters) -> None:
        super().__init__()
        sizes = c.stack(c.encoder_layers, c.encoder_attention_heads, c.encoder_ffn_dim)
        distances = RelativeKeys(c.hidden_size // c.encoder_attention_heads, c.encoder_max_relative_position)
        self.front, self.norm = front, nn.LayerNorm(c.hidden_size, eps=c.layer_norm_eps)
        self.backbone = Transformer(sizes, bias=distances)

    def forward(self, x: Tensor) -> Tensor:
        """Samples [B, S] or ids [B, T] to [B, N, D]."""
        return self.backbone(self.norm(self.front(x)))

    @property
    def keymap(self) -> KeyMap:
        """Of the names of an encoder with its prenet."""
        at, dim = "speecht5.encoder.wrapped_encoder", self.backbone.config.dim
        own: dict[str, Place] = {
            "norm.*": f"{at}.layer_norm.*",
            "backbone.bias.table.weight": f"{at}.embed_positions.pe_k.weight",
            **_layers(at, dim, attention="attention", norm="layer_norm"),
        }
        return KeyMap(own) | self.front.keymap("speecht5.encoder.prenet").within("front.", "")


def decoder(c: SpeechT5Config) -> Transformer:
    """The decoder, which looks at what the encoder made."""
    sizes = c.stack(c.decoder_layers, c.decoder_attention_heads, c.decoder_ffn_dim)
    return Transformer(sizes, layer=lambda _: Layer(sizes, cross=CrossAttention(sizes)))


def decoder_names(dim: int) -> KeyMap:
    """Of the decoder's names."""
    at = "speecht5.decoder.wrapped_decoder"
    ours, cross = "backbone.layers.{i}", f"{at}.layers.{{i}}.encoder_attn"
    table = _layers(at, dim, attention="self_attn", norm="self_attn_layer_norm") | {
        f"{ours}.cross.q.*": f"{cross}.q_proj.*",
        f"{ours}.cross.kv.*": Fuse((f"{cross}.k_proj.*", f"{cross}.v_proj.*"), (dim,) * 2),
        f"{ours}.cross.out.*": f"{cross}.out_proj.*",
        f"{ours}.norm_cross.*": f"{cross}_layer_norm.*",
    }
    return KeyMap(table)


def _layers(at: str, dim: int, *, attention: str, norm: str) -> dict[str, Place]:
    layer, ours = f"{at}.layers.{{i}}", "backbone.layers.{i}"
    own = f"{layer}.{attention}"
    return {
        f"{ours}.attention.qkv.*": Fuse(tuple(f"{own}.{p}_proj.*" for p in "qkv"), (dim,) * 3),
        f"{ours}.attention.out.*": f"{own}.out_proj.*",
        f"{ours}.norm_attention.*": f"{layer}.{norm}.*",
        f"{ours}.feed.up.*": f"{layer}.feed_forward.intermediate_dense.*",
        f"{ours}.feed.down.*": f"{layer}.feed_forward.output_dense.*",
        f"{ours}.norm_feed.*": f"{layer}.final_layer_norm.*",
    }


def turns(at: Tensor, like: Tensor) -> Tensor:
    """Places [N] as sines and cosines in turn [N, D] (Vaswani et al. 2017, section 3.5), in float32."""
    dim = like.shape[-1]
    rates = torch.exp(torch.arange(0, dim, 2, device=at.device) * -(math.log(10_000) / dim))
    phase = at.float()[:, None] * rates
    return torch.stack((phase.sin(), phase.cos()), dim=-1).flatten(1).to(like.dtype)
