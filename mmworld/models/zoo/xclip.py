"""X-CLIP (Ni et al. 2022): CLIP for films, whose frames send each other messages and whose texts see the film."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmworld.config import config, pick
from mmworld.errors import ConfigError
from mmworld.fusion.late import Late
from mmworld.models.zoo.clip import ClipConfig
from mmworld.nn.attention import Attention, CrossAttention, Pass
from mmworld.nn.layer import Layer, TransformerConfig, make_norm
from mmworld.nn.transformer import Transformer
from mmworld.text.clip import ClipTextConfig, TextTower
from mmworld.text.packing import lasts, pack
from mmworld.types import Takes
from mmworld.vision.clip import ClipVisionConfig, names
from mmworld.vision.patches import Patches
from mmworld.weights.keymap import Fuse, KeyMap, Leading, Place, Transposed
from mmworld.weights.names import clip_attention, clip_layers
from mmworld.weights.sizes import Depth, Width


@config
class XClipConfig(ClipConfig):
    """What config.json says under these names, beside those of its parts."""

    model_type: Literal["xclip"]  # type: ignore[assignment]
    prompt_layers: Depth = 2
    prompt_hidden_act: Literal["quick_gelu", "gelu", "relu"] = "quick_gelu"
    prompt_num_attention_heads: Width = 8


@config
class XClipTextConfig(ClipTextConfig):
    """What config.json says under these names."""

    model_type: Literal["xclip_text_model"]  # type: ignore[assignment]


@config
class XClipVisionConfig(ClipVisionConfig):
    """What config.json says under these names."""

    model_type: Literal["xclip_vision_model"]  # type: ignore[assignment]
    num_frames: Width = 8
    mit_hidden_size: Width = 512
    mit_intermediate_size: Width = 2048
    mit_num_hidden_layers: Depth = 1
    mit_num_attention_heads: Width = 8

    @property
    def over_frames(self) -> TransformerConfig:
        """Sizes of the multi-frame integration transformer."""
        return replace(
            self.backbone,
            dim=self.mit_hidden_size,
            depth=self.mit_num_hidden_layers,
            n_heads=self.mit_num_attention_heads,
            hidden=self.mit_intermediate_size,
        )


class Messages(nn.Module):
    """A layer over the patches of each frame and its message from all frames (section 3.2).

    Args:
        c: sizes.
        frames: T, of each film.
    """

    def __init__(self, c: TransformerConfig, frames: int) -> None:
        super().__init__()
        self.frames = frames
        self.message, self.norm, self.exchange = nn.Linear(c.dim, c.dim), make_norm(c), Attention(c)
        self.layer = Layer(c)

    def forward(self, x: Tensor, run: Pass, layer: int) -> Tensor:
        """Tokens of frames [B * T, N, D] to the same; the messages go no further than this layer."""
        said = self.message(x[:, 0]).unflatten(0, (-1, self.frames))
        said = said + self.exchange(self.norm(said), run, layer)
        return self.layer(torch.cat((x, said.flatten(0, 1)[:, None]), dim=1), run, layer)[:, :-1]


class Frames(nn.Module):
    """CLIP's picture encoder over frames that send each other messages.

    Args:
        source: what config.json says under `vision_config`.
    """

    def __init__(self, source: Mapping[str, Any]) -> None:
        super().__init__()
        c = self.config = pick(XClipVisionConfig, source, where="config.json: vision_config")
        self.patches = Patches(c.hidden_size, c.image_size, c.patch_size, c.num_channels, bias=False)
        self.first, self.norm = make_norm(c.backbone), make_norm(c.backbone)
        self.backbone = Transformer(c.backbone, layer=lambda _: Messages(c.backbone, c.num_frames), last=nn.Identity())

    def forward(self, frames: Tensor) -> Tensor:
        """Normalised frames [B, T, C, H, W] to tokens [B, T, 1 + N, D], the first of each frame.

        Raises:
            ValueError: there are more or fewer frames than were learned.
        """
        if frames.shape[1] != self.config.num_frames:
            raise ValueError(f"{frames.shape[1]} frames, the model has learned {self.config.num_frames}")
        x = self.backbone(self.first(self.patches(frames.flatten(0, 1))))
        return x.unflatten(0, frames.shape[:2])

    @property
    def keymap(self) -> KeyMap:
        """Of `XCLIPVisionModel`'s names."""
        at, layer = "encoder.layers.{i}", "backbone.layers.{i}"
        inner = {n.replace(layer, f"{layer}.layer"): place for n, place in names("", self.config.hidden_size).items()}
        table: dict[str, Place] = {
            **inner,
            **clip_attention(f"{layer}.exchange", f"{at}.message_attn", self.config.hidden_size),
            f"{layer}.message.*": f"{at}.message_fc.*",
            f"{layer}.norm.*": f"{at}.message_ln.*",
            "patches.token": "embeddings.class_embedding",
            "first.*": "pre_layernorm.*",
            "norm.*": "post_layernorm.*",
        }
        return KeyMap(table, unused=("embeddings.position_ids",))


class Integration(nn.Module):
    """What stands for each frame becomes what stands for the film (section 3.2).

    Args:
        c: sizes.
        frames: T, of each film.
    """

    def __init__(self, c: TransformerConfig, frames: int) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.zeros(frames, c.dim))
        self.backbone = Transformer(c, last=nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, E] to [B, E]."""
        return (self.backbone(x + self.place) + x).mean(1)


class Prompts(nn.Module):
    """What is added to a text for the film that it is compared with (section 3.3).

    Args:
        c: sizes.
        norm_eps: of the norm of what is seen.
    """

    def __init__(self, c: TransformerConfig, norm_eps: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(c.dim, eps=norm_eps)
        self.backbone = Transformer(c, layer=lambda _: Layer(c, attention=CrossAttention(c)), last=nn.Identity())
        self.alpha = nn.Parameter(torch.full((c.dim,), 0.1))

    def forward(self, texts: Tensor, seen: Tensor) -> Tensor:
        """Texts [B, K, E] and each film's patches [B, N, E] to [B, K, E]."""
        return self.alpha * self.backbone(texts, context=self.norm(seen))


class XCLIP(Late):
    """A film and a text fit as well as their directions agree, once the text has seen the film.

    `embed_texts` gives texts that have seen none, so that `forward` says more than the agreement of directions.

    Args:
        source: what config.json says.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    def __init__(self, source: Mapping[str, Any]) -> None:
        super().__init__()
        self.source, c = dict(source), pick(XClipConfig, source, where="config.json")
        told = pick(XClipTextConfig, c.text_config, where="config.json: text_config")
        self.vision, self.text = Frames(c.vision_config), TextTower(told, causal=True)
        seen, dim = self.vision.config, c.projection_dim
        if seen.mit_hidden_size != dim:
            raise ConfigError(f"config.json: mit_hidden_size {seen.mit_hidden_size}, projection_dim is {dim}")
        self.picture_project = nn.Linear(seen.hidden_size, dim, bias=False)
        self.text_project = nn.Linear(told.hidden_size, dim, bias=False)
        self.integration = Integration(seen.over_frames, seen.num_frames)
        self.patch_norm = make_norm(seen.backbone)
        self.patch_project = nn.Linear(seen.hidden_size, dim, bias=False)
        sizes = TransformerConfig(
            dim,
            c.prompt_layers,
            c.prompt_num_attention_heads,
            norm_eps=told.layer_norm_eps,
            activation=c.prompt_hidden_act,
            qkv_bias=False,
        )
        self.prompts = Prompts(sizes, seen.layer_norm_eps)
        self.scale = nn.Parameter(torch.tensor(2.6592))

    @property
    def takes(self) -> Takes:  # type: ignore[override]
        return Takes(("video",), frames=self.vision.config.num_frames)

    def embed(self, frames: Tensor) -> Tensor:
        """Normalised frames [B, T, C, H, W] to directions [B, E] of length 1; ValueError if T is not what was
        learned."""
        return self._film(self.vision(frames))

    def embed_texts(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """The ids of each text, which the token that ends it stands for, to directions [B, E] of length 1.

        Raises:
            ValueError: a text is empty, or longer than the places that were learned.
        """
        return F.normalize(self._texts(texts), dim=-1)

    def forward(self, frames: Tensor, texts: Sequence[Sequence[int]]) -> Tensor:
        """How well each text, having seen the film, fits it [films, texts]."""
        x, told = self.vision(frames), self._texts(texts)
        patches = self.patch_project(self.patch_norm(x[:, :, 1:])).mean(1)
        told = told + self.prompts(told.expand(len(x), -1, -1), patches)
        return torch.einsum("be,bke->bk", self._film(x), F.normalize(told, dim=-1)) * self.scale.exp()

    def _film(self, x: Tensor) -> Tensor:
        return F.normalize(self.integration(self.picture_project(self.vision.norm(x[:, :, 0]))), dim=-1)

    def _texts(self, texts: Sequence[Sequence[int]]) -> Tensor:
        row, lengths = pack(texts, self.scale.device)
        return self.text_project(self.text(row, lengths)[0, lasts(lengths)])

    @property
    def keymap(self) -> KeyMap:
        """Of `XCLIPModel`'s names."""
        dim = self.picture_project.out_features
        at, ours = "prompts_generator.decoder.{i}", "prompts.backbone.layers.{i}"
        own: dict[str, Place] = {
            "picture_project.weight": "visual_projection.weight",
            "text_project.weight": "text_projection.weight",
            "patch_norm.*": "prompts_visual_layernorm.*",
            "patch_project.weight": Transposed("prompts_visual_projection"),
            "scale": "logit_scale",
            "integration.place": Leading("mit.position_embedding", 1),
            "prompts.norm.*": "prompts_generator.layernorm.*",
            "prompts.alpha": "prompts_generator.alpha",
            f"{ours}.attention.q.weight": f"{at}.cross_attn.q_proj.weight",
            f"{ours}.attention.kv.weight": Fuse(
                (f"{at}.cross_attn.k_proj.weight", f"{at}.cross_attn.v_proj.weight"), (dim,) * 2
            ),
            f"{ours}.attention.out.*": f"{at}.cross_attn.proj.*",
            f"{ours}.norm_attention.*": f"{at}.norm1.*",
            f"{ours}.norm_feed.*": f"{at}.norm3.*",
            f"{ours}.feed.up.*": f"{at}.mlp.0.*",
            f"{ours}.feed.down.*": f"{at}.mlp.3.*",
        }
        text, vision = self.text.keymap, self.vision.keymap
        whole = KeyMap(own) | KeyMap(clip_layers("", dim)).within("integration.", "mit.")
        return whole | text.within("text.", "text_model.") | vision.within("vision.", "vision_model.")
