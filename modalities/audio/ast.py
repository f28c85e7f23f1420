"""The Audio Spectrogram Transformer (Gong et al. 2021)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mmworld.config import config, pick
from mmworld.nn.layer import TransformerConfig
from mmworld.nn.transformer import Transformer
from mmworld.types import Takes
from mmworld.vision.vit import front, layers
from mmworld.weights.keymap import KeyMap, Leading
from mmworld.weights.sizes import Depth, Width, standard


@config
class ASTConfig:
    """What config.json says under these names."""

    model_type: Literal["audio-spectrogram-transformer"]
    hidden_size: Width
    num_hidden_layers: Depth
    num_attention_heads: Width
    intermediate_size: Width
    patch_size: Width = 16
    frequency_stride: Width = 10
    time_stride: Width = 10
    max_length: Width = 1024
    num_mel_bins: Width = 128
    hidden_act: Literal["gelu", "relu"] = "gelu"
    layer_norm_eps: float = 1e-12
    qkv_bias: Literal[True] = True

    @property
    def backbone(self) -> TransformerConfig:
        return standard(self)

    @property
    def n_patches(self) -> int:
        frequencies = (self.num_mel_bins - self.patch_size) // self.frequency_stride + 1
        return frequencies * ((self.max_length - self.patch_size) // self.time_stride + 1)


class Patches(nn.Module):
    """Overlapping patches of a spectrogram, behind two tokens of the whole sound."""

    def __init__(self, c: ASTConfig) -> None:
        super().__init__()
        stride = c.frequency_stride, c.time_stride
        self.project = nn.Conv2d(1, c.hidden_size, c.patch_size, stride)
        self.token, self.other = (nn.Parameter(torch.zeros(c.hidden_size)) for _ in range(2))
        self.place = nn.Parameter(torch.randn(c.n_patches + 2, c.hidden_size) * 0.02)

    def forward(self, mel: Tensor) -> Tensor:
        """[B, T, M] to [B, 2 + N, D]; ValueError if it is not as long as the places that were learned."""
        x = self.project(mel.mT[:, None]).flatten(2).mT
        if x.shape[1] != len(self.place) - 2:
            raise ValueError(
                f"{mel.shape[1]} frames give {x.shape[1]} patches, the model has {len(self.place) - 2} places"
            )
        two = torch.stack((self.token, self.other)).expand(len(x), 2, -1)
        return torch.cat((two, x), dim=1) + self.place


class AST(nn.Module):
    """A sound encoder: ViT over a log-mel spectrogram.

    Args:
        source: what config.json says; `ASTForAudioClassification` scores the classes that `id2label` names.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    def __init__(self, source: Mapping[str, Any]) -> None:
        super().__init__()
        self.source, c = dict(source), pick(ASTConfig, source, where="config.json")
        self.config = c
        self.patches = Patches(c)
        self.backbone = Transformer(c.backbone)
        classifies = "ASTForAudioClassification" in (source.get("architectures") or ())
        self.norm = nn.LayerNorm(c.hidden_size, eps=c.layer_norm_eps) if classifies else nn.Identity()
        self.head = nn.Linear(c.hidden_size, len(source.get("id2label") or range(2))) if classifies else None

    @property
    def takes(self) -> Takes:
        return Takes(("audio",), seconds=self.config.max_length / 100)  # frames of a hundredth of a second

    def forward(self, mel: Tensor) -> Tensor:
        """Normalised log-mel frames [B, T, M] to tokens [B, 2 + N, D]."""
        return self.backbone(self.patches(mel))

    def pool(self, x: Tensor) -> Tensor:
        """Tokens [B, 2 + N, D] to what stands for each sound [B, D], or to the scores of its classes [B, K]."""
        pooled = self.norm((x[:, 0] + x[:, 1]) / 2)
        return pooled if self.head is None else self.head(pooled)

    @property
    def keymap(self) -> KeyMap:
        """Of the architecture's names."""
        root = "" if self.head is None else "audio_spectrogram_transformer."
        return KeyMap(
            {
                **front(root),
                **layers(root, self.config.hidden_size),
                "patches.other": Leading(f"{root}embeddings.distillation_token", 2),
                "backbone.norm.*": f"{root}layernorm.*",
                "norm.*": "classifier.layernorm.*",
                "head.*": "classifier.dense.*",
            }
        )
