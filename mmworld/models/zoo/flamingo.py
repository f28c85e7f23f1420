"""Flamingo (Alayrac et al. 2022), as OpenFlamingo (Awadalla et al. 2023) builds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from mmworld.config import config, pick
from mmworld.fusion import gated
from mmworld.fusion.resampler import Resampler
from mmworld.models.message import Message
from mmworld.models.zoo.conversation import like, processor, read, row, shown
from mmworld.nn.attention import CrossAttention
from mmworld.nn.layer import Layer, TransformerConfig
from mmworld.nn.state import KVState
from mmworld.text.decoder import Told
from mmworld.text.llama import Llama
from mmworld.text.opt import OPT
from mmworld.types import Takes
from mmworld.vision.clip import ClipVision
from mmworld.weights.keymap import KeyMap, Place

TEMPLATE = """{% for m in messages %}{% for p in m.content %}\
{{ p.text if p.type == "text" else "<image>" }}{% endfor %}\
{{ "<|endofchunk|>" if m.role == "assistant" }}{% endfor %}"""
"""Examples one after another, as it was trained on them (Awadalla et al. 2023, section 3.2)."""


@config
class FlamingoConfig:
    """What a config.json says: the released files have none.

    Attributes:
        vision_config, text_config: what config.json would say of the CLIP picture encoder, and of LLaMA or OPT.
        image_token_index: the id <image>, which stands for a picture or film.
        every: the last of each so many layers of the language model has a look before it.
        latents: tokens that a picture or film comes to.
        depth: layers of the resampler.
        n_heads, head_dim: of the resampler and of the looks.
        frames: of a film, whose times are learned; 0 is pictures alone.
    """

    model_type: Literal["flamingo"]
    vision_config: dict[str, Any]
    text_config: dict[str, Any]
    image_token_index: int
    every: int = 1
    latents: int = 64
    depth: int = 6
    n_heads: int = 8
    head_dim: int = 64
    frames: int = 0


class Flamingo(Told):
    """A language model that looks at the last picture or film before each of its tokens (figure 3).

    Args:
        source: what config.json says.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    def __init__(self, source: Mapping[str, Any]) -> None:
        super().__init__()
        self.source, c = dict(source), pick(FlamingoConfig, source, where="config.json")
        self.config = c
        self.takes = Takes(("image", "video"), frames=c.frames) if c.frames else Takes(("image",))
        self.vision = ClipVision(c.vision_config)
        width = self.vision.config.hidden_size
        sizes = TransformerConfig(width, c.depth, c.n_heads, head_dim=c.head_dim, bias=False)
        self.resampler = Resampler(sizes, c.latents, frames=c.frames or None)
        self.language: Llama | OPT = (OPT if c.text_config.get("model_type") == "opt" else Llama)(c.text_config)
        looks = replace(sizes, dim=self.language.embedding.embedding_dim)

        def look(i: int) -> Layer | None:
            cross = CrossAttention(looks, context_dim=width)
            return None if (i + 1) % c.every else Layer(looks, attention=cross, end=gated.Gate)

        gated.insert(self.language.backbone, look)

    def see(self, pixels: Tensor) -> Tensor:
        """Normalised films [P, F, C, H, W], of one frame where they are pictures, to tokens [P, n, E]."""
        patches = self.vision(pixels.flatten(0, 1))[:, 1:]
        return self.resampler(patches.unflatten(0, pixels.shape[:2]))

    def begin(self, messages: Sequence[Message]) -> tuple[KVState, Tensor]:
        """Read a conversation, see `mmworld.models.message.Assistant.begin`."""
        prepare, state = processor(self, "image"), self.init_state()
        films = [torch.stack([prepare(x) for x in chunk.data]) for chunk in shown(messages, "image", "video")]
        seen = [self.see(like(self, film)[None]) for film in films]
        ids = row(self, read(self, messages, TEMPLATE))
        return state, self._logits(ids, torch.cat(seen) if seen else self._none(), state)[:, -1]

    def forward(
        self,
        ids: Tensor,
        pixels: Tensor | None = None,
        state: KVState | None = None,
        lengths: tuple[int, ...] | None = None,
    ) -> Tensor:
        """Ids of one row [1, T] and the films [P, F, C, H, W] that stand in their `place`, to the scores of the ids
        that follow [1, T, V]. A token sees the last film before it.

        Args:
            state: of the stream that the ids go on with; None is a fresh one.
            lengths: of the texts packed in the row.

        Raises:
            ValueError: there are not as many places as films, or a film has more frames than times were learned.
        """
        return self._logits(ids, self._none() if pixels is None else self.see(pixels), state, lengths)

    def _logits(
        self, ids: Tensor, seen: Tensor, state: KVState | None, lengths: tuple[int, ...] | None = None
    ) -> Tensor:
        places = ids[0] == self.config.image_token_index
        return self.language.logits(gated.hidden(self.language, ids, places, seen, state, lengths))

    def _none(self) -> Tensor:
        """What is seen of no films."""
        return self.resampler.latents.new_zeros(0, *self.resampler.latents.shape)

    @property
    def keymap(self) -> KeyMap:
        """Of OpenFlamingo's names. What it trains, and releases, stands under `perceiver` and in the language model's
        layers; where all is saved, these stand there a second and third time, which is left out."""
        stack = "model.decoder.layers.{i}." if isinstance(self.language, OPT) else "model.layers.{i}."
        frozen = gated.inside(self.language.keymap, lambda n: n.replace(stack, f"{stack}decoder_layer."))
        twice = self.language.keymap.moved(str, lambda n: n.replace(stack, "old_decoder_blocks.{i}.")).names
        unused = tuple(n for n in twice if n.startswith("old")) + KeyMap(_looks("gated_cross_attn_layers.{i}")).names
        looks = KeyMap(_looks(f"{stack}gated_cross_attn_layer"), unused=unused)
        language = (frozen | looks).within("language.", "lang_encoder.")
        return language | KeyMap(_RESAMPLER) | KeyMap(_VISION, unused=("vision_encoder.proj",))


def _looks(at: str) -> dict[str, Place]:
    """The names of what looks before the layers."""
    ours = "backbone.layers.{i}.look"
    return {
        f"{ours}.norm_attention.*": f"{at}.attn.norm.*",
        f"{ours}.attention.q.weight": f"{at}.attn.to_q.weight",
        f"{ours}.attention.kv.weight": f"{at}.attn.to_kv.weight",
        f"{ours}.attention.out.weight": f"{at}.attn.to_out.weight",
        f"{ours}.end_attention.alpha": f"{at}.attn_gate",
        f"{ours}.norm_feed.*": f"{at}.ff.0.*",
        f"{ours}.feed.up.weight": f"{at}.ff.1.weight",
        f"{ours}.feed.down.weight": f"{at}.ff.3.weight",
        f"{ours}.end_feed.alpha": f"{at}.ff_gate",
    }


_AT, _OURS = "perceiver.layers.{i}", "resampler.backbone.layers.{i}"
_RESAMPLER: dict[str, Place] = {
    "resampler.latents": "perceiver.latents",
    "resampler.times": "perceiver.frame_embs",
    "resampler.backbone.norm.*": "perceiver.norm.*",
    f"{_OURS}.norm_attention.*": f"{_AT}.0.norm_latents.*",
    f"{_OURS}.attention.norm.*": f"{_AT}.0.norm_media.*",
    f"{_OURS}.attention.cross.q.weight": f"{_AT}.0.to_q.weight",
    f"{_OURS}.attention.cross.kv.weight": f"{_AT}.0.to_kv.weight",
    f"{_OURS}.attention.cross.out.weight": f"{_AT}.0.to_out.weight",
    f"{_OURS}.norm_feed.*": f"{_AT}.1.0.*",
    f"{_OURS}.feed.up.weight": f"{_AT}.1.1.weight",
    f"{_OURS}.feed.down.weight": f"{_AT}.1.3.weight",
}
_BLOCK, _LAYER = "vision_encoder.transformer.resblocks.{i}", "vision.backbone.layers.{i}"
_VISION: dict[str, Place] = {
    "vision.patches.token": "vision_encoder.class_embedding",
    "vision.patches.place": "vision_encoder.positional_embedding",
    "vision.patches.project.weight": "vision_encoder.conv1.weight",
    "vision.first.*": "vision_encoder.ln_pre.*",
    "vision.norm.*": "vision_encoder.ln_post.*",
    f"{_LAYER}.attention.qkv.*": f"{_BLOCK}.attn.in_proj_*",
    f"{_LAYER}.attention.out.*": f"{_BLOCK}.attn.out_proj.*",
    f"{_LAYER}.norm_attention.*": f"{_BLOCK}.ln_1.*",
    f"{_LAYER}.norm_feed.*": f"{_BLOCK}.ln_2.*",
    f"{_LAYER}.feed.up.*": f"{_BLOCK}.mlp.c_fc.*",
    f"{_LAYER}.feed.down.*": f"{_BLOCK}.mlp.c_proj.*",
}
"""The picture encoder's, as open_clip names them."""
