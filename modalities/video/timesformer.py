"""TimeSformer (Bertasius et al. 2021): frames in patches, with attention over time and space apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mmworld.config import config, pick
from mmworld.nn.attention import Attention, Pass
from mmworld.nn.layer import Layer, TransformerConfig
from mmworld.nn.transformer import Transformer
from mmworld.types import Takes
from mmworld.vision.patches import Patches
from mmworld.vision.vit import front, layers
from mmworld.weights.keymap import KeyMap, Leading, Place
from mmworld.weights.sizes import Depth, Width, standard


@config
class TimeSformerConfig:
    """What config.json says under these names."""

    model_type: Literal["timesformer"]
    image_size: Width = 224
    patch_size: Width = 16
    num_channels: Width = 3
    num_frames: Width = 8
    hidden_size: Width = 768
    num_hidden_layers: Depth = 12
    num_attention_heads: Width = 12
    intermediate_size: Width = 3072
    hidden_act: Literal["gelu", "gelu_fast", "relu"] = "gelu"
    layer_norm_eps: float = 1e-6
    qkv_bias: bool = True
    attention_type: Literal["divided_space_time", "joint_space_time", "space_only"] = "divided_space_time"

    @property
    def backbone(self) -> TransformerConfig:
        return standard(self, qkv_bias=self.qkv_bias)


class Times(nn.Module):
    """Attention of each patch to itself at other times (eq. 11); the token of the whole film is left as it is.

    Tokens [B, 1 + P * T, D] lie patch by patch, each through all T frames.
    """

    def __init__(self, c: TransformerConfig, frames: int) -> None:
        super().__init__()
        self.frames, self.attention, self.project = frames, Attention(c), nn.Linear(c.dim, c.dim)

    def forward(self, x: Tensor, run: Pass, layer: int) -> Tensor:
        patches = x[:, 1:].unflatten(1, (-1, self.frames))
        seen = self.project(self.attention(patches.flatten(0, 1), run, layer)).reshape_as(x[:, 1:])
        return torch.cat((torch.zeros_like(x[:, :1]), seen), dim=1)


class Spaces(nn.Module):
    """Attention of each frame's patches to one another (eq. 6), and of the token of the whole film to those of each
    frame, on average. Tokens lie as in `Times`."""

    def __init__(self, c: TransformerConfig, frames: int) -> None:
        super().__init__()
        self.frames, self.attention = frames, Attention(c)

    def forward(self, x: Tensor, run: Pass, layer: int) -> Tensor:
        film, patches = x[:, :1], x[:, 1:].unflatten(1, (-1, self.frames)).transpose(1, 2)
        framed = torch.cat((film[:, None].expand(-1, self.frames, -1, -1), patches), dim=2)
        seen = self.attention(framed.flatten(0, 1), run, layer).reshape_as(framed)
        return torch.cat((seen[:, :, 0].mean(1, keepdim=True), seen[:, :, 1:].transpose(1, 2).flatten(1, 2)), dim=1)


class TimeSformer(nn.Module):
    """A film encoder: ViT whose patches look at other times and then at other places, or at both at once; or at places
    alone, so that each frame stands for itself.

    Args:
        source: what config.json says; `TimesformerForVideoClassification` scores the classes that `id2label` names.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    def __init__(self, source: Mapping[str, Any]) -> None:
        super().__init__()
        self.source, c = dict(source), pick(TimeSformerConfig, source, where="config.json")
        self.config = c
        self.timed, self.divided = c.attention_type != "space_only", c.attention_type == "divided_space_time"
        self.patches = Patches(c.hidden_size, c.image_size, c.patch_size, c.num_channels)
        self.times = nn.Parameter(torch.zeros(c.num_frames, c.hidden_size)) if self.timed else None
        self.backbone = Transformer(c.backbone, layer=self._layer if self.divided else None)
        classifies = "TimesformerForVideoClassification" in (source.get("architectures") or ())
        self.head = nn.Linear(c.hidden_size, len(source.get("id2label") or range(2))) if classifies else None

    def _layer(self, _: int) -> Layer:
        c, frames = self.config.backbone, self.config.num_frames
        return Layer(c, attention=Times(c, frames), cross=Spaces(c, frames))

    @property
    def takes(self) -> Takes:
        return Takes(("video",), frames=self.config.num_frames)

    def forward(self, frames: Tensor) -> Tensor:
        """Normalised frames [B, T, C, H, W] to tokens [B, 1 + P * T, D], the first of the whole film, then patch by
        patch; with space alone, of each frame [B * T, 1 + P, D].

        Raises:
            ValueError: the frames are of another size, or others in number where times were learned.
        """
        c = self.config
        wanted = (c.num_frames if self.timed else frames.shape[1], c.num_channels, c.image_size, c.image_size)
        if frames.shape[1:] != wanted:
            raise ValueError(f"frames {list(frames.shape[1:])}, the model has learned {list(wanted)}")
        x = self.patches(frames.flatten(0, 1))
        return self.backbone(x if self.times is None else _dated(x.unflatten(0, frames.shape[:2]), self.times))

    def pool(self, x: Tensor) -> Tensor:
        """Tokens [B, N, D] to what stands for each film, or each frame, [B, D], or to the scores of its classes
        [B, K]."""
        return x[:, 0] if self.head is None else self.head(x[:, 0])

    @property
    def keymap(self) -> KeyMap:
        """Of the architecture's names."""
        root = "" if self.head is None else "timesformer."
        at, ours = f"{root}encoder.layer.{{i}}", "backbone.layers.{i}"
        table: dict[str, Place] = {
            **front(root),
            **layers(root, self.config.hidden_size),
            "times": Leading(f"{root}embeddings.time_embeddings", 1),
            f"{ours}.attention.qkv.*": f"{at}.attention.attention.qkv.*",
            "backbone.norm.*": f"{root}layernorm.*",
            "head.*": "classifier.*",
        }
        return KeyMap(table | _divided(ours, at) if self.divided else table)


def _dated(x: Tensor, times: Tensor) -> Tensor:
    """Each frame's tokens [B, T, 1 + P, D] as the film's, each at its time."""
    patches = x[:, :, 1:].transpose(1, 2) + times
    return torch.cat((x[:, 0, :1], patches.flatten(1, 2)), dim=1)


def _divided(ours: str, at: str) -> dict[str, Place]:
    """The names of a layer's attention to times, in the first place, and to space, in the second."""
    return {
        f"{ours}.norm_attention.*": f"{at}.temporal_layernorm.*",
        f"{ours}.attention.attention.qkv.*": f"{at}.temporal_attention.attention.qkv.*",
        f"{ours}.attention.attention.out.*": f"{at}.temporal_attention.output.dense.*",
        f"{ours}.attention.project.*": f"{at}.temporal_dense.*",
        f"{ours}.norm_cross.*": f"{at}.layernorm_before.*",
        f"{ours}.cross.attention.qkv.*": f"{at}.attention.attention.qkv.*",
        f"{ours}.cross.attention.out.*": f"{at}.attention.output.dense.*",
    }
