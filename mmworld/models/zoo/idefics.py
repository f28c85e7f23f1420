"""IDEFICS (Laurençon et al. 2023): Flamingo's design on LLaMA and a CLIP picture encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from mmworld.config import config, pick
from mmworld.fusion import gated
from mmworld.fusion.resampler import Resampler
from mmworld.models.message import Message
from mmworld.models.zoo.conversation import pictures, read, row, vocabulary
from mmworld.nn.attention import CrossAttention
from mmworld.nn.layer import Layer, TransformerConfig
from mmworld.nn.state import KVState
from mmworld.text.decoder import Told
from mmworld.text.llama import Llama
from mmworld.types import Takes
from mmworld.vision.clip import ClipVision
from mmworld.weights.keymap import Fuse, KeyMap, Leading, Place
from mmworld.weights.sizes import Depth, Width

END = "<end_of_utterance>"
TEMPLATE = """{{ bos_token }}{% for m in messages %}{{ m.role | capitalize }}:{% for p in m.content %}\
{% if p.type == "image" %}{% if loop.first or loop.previtem.type != "image" %}<fake_token_around_image>{% endif %}\
<image><fake_token_around_image>{% else %}{{ " " if loop.first }}{{ p.text | trim }}{% endif %}{% endfor %}\
{{ "<end_of_utterance>\n" }}{% endfor %}Assistant:"""
"""As the makers write a conversation, which no checkpoint brings; those that are not instructed know no END."""
_VISION: dict[str, Any] = {"hidden_act": "gelu", "patch_size": 14, "num_hidden_layers": 32, "num_attention_heads": 16}
_VISION |= {"embed_dim": 768, "intermediate_size": 5120}
"""What a vision_config that does not say means."""


@config
class PerceiverConfig:
    """What config.json says under perceiver_config."""

    resampler_n_latents: Width = 64
    resampler_depth: Depth = 6
    resampler_n_heads: Width = 16
    resampler_head_dim: Width = 96
    qk_layer_norms_perceiver: bool = False


@config
class IdeficsConfig:
    """What config.json says under these names, beside those of LLaMA."""

    model_type: Literal["idefics"]
    vision_config: dict[str, Any]
    vocab_size: Width = 32_000
    additional_vocab_size: int = 0
    cross_layer_interval: Width = 1
    qk_layer_norms: bool = False
    use_resampler: bool = False
    alpha_type: Literal["float", "vector"] = "float"
    eos_token_id: int = 2
    tie_word_embeddings: Literal[False] = False


class Idefics(Told):
    """Between the layers of LLaMA, each token looks at the last picture before it.

    Args:
        source: what config.json says.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    takes: ClassVar[Takes] = Takes(("image",))

    def __init__(self, source: Mapping[str, Any]) -> None:
        super().__init__()
        self.source, c = dict(source), pick(IdeficsConfig, source, where="config.json")
        self.config = c
        vision = _VISION | c.vision_config
        self.vision = ClipVision({**vision, "model_type": "clip_vision_model", "hidden_size": vision["embed_dim"]})
        dim = self.vision.config.hidden_size
        self.resampler = _resampler(source.get("perceiver_config") or {}, dim) if c.use_resampler else None
        ids = c.vocab_size + c.additional_vocab_size
        plain = {"model_type": "llama", "vocab_size": ids, "num_key_value_heads": None, "head_dim": None}
        self.language = Llama({**source, **plain})
        sizes = self.language.config.backbone
        every, normed = c.cross_layer_interval, c.qk_layer_norms
        n = sizes.dim if c.alpha_type == "vector" else 1
        gated.insert(self.language.backbone, lambda i: None if i % every else _look(sizes, dim, n, normed=normed))

    @property
    def place(self) -> int:
        """The id that stands for a picture: the second of those that are added to LLaMA's."""
        return self.config.vocab_size + 1

    def see(self, pixels: Tensor) -> Tensor:
        """Normalised pictures [P, C, H, W] to the tokens that the text looks at [P, n, E]."""
        seen = self.vision(pixels)
        return seen if self.resampler is None else self.resampler(seen[:, None])

    def hidden(
        self,
        ids: Tensor,
        seen: Tensor | None = None,
        state: KVState | None = None,
        lengths: tuple[int, ...] | None = None,
    ) -> Tensor:
        """Ids [1, T] and the tokens of pictures [P, n, E] to what the backbone makes of them [1, T, D]."""
        if seen is None:
            seen = self.vision.first.weight.new_zeros(0, 1, self.vision.config.hidden_size)
        at = ids[0] == self.place, ids[0] == self.config.eos_token_id
        return gated.hidden(self.language, ids, at[0], seen, state, lengths, at[1])

    def forward(
        self,
        ids: Tensor,
        pixels: Tensor | None = None,
        state: KVState | None = None,
        lengths: tuple[int, ...] | None = None,
    ) -> Tensor:
        """Ids of one row [1, T] and pictures [P, C, H, W], which stand in their `place`, to the scores of the ids that
        follow [1, T, V]. A token sees the last picture before it, and none once its text is over.

        Args:
            state: of the stream that the ids go on with; None is a fresh one.
            lengths: of the texts packed in the row.

        Raises:
            ValueError: there are not as many places as pictures.
        """
        seen = None if pixels is None else self.see(pixels)
        return self.language.logits(self.hidden(ids, seen, state, lengths))

    def begin(self, messages: Sequence[Message]) -> tuple[KVState, Tensor]:
        """Read a conversation, see `mmworld.models.message.Assistant.begin`."""
        pixels, state = pictures(self, messages), self.init_state()
        seen = None if pixels is None else self.see(pixels)
        instructed = vocabulary(self).id(END) is not None
        ids = row(self, read(self, messages, TEMPLATE if instructed else TEMPLATE.replace(END, "")))
        return state, self.language.logits(self.hidden(ids, seen, state)[:, -1])

    @property
    def keymap(self) -> KeyMap:
        """Of `IdeficsForVisionText2Text`'s names."""
        c = self.config
        table: dict[str, Place] = {
            name: place
            for i in range(0, len(self.language.backbone.layers), c.cross_layer_interval)
            for name, place in self._look(i, f"model.gated_cross_attn_layers.{i // c.cross_layer_interval}").items()
        }
        if n := c.additional_vocab_size:
            for ours, at, added in (
                ("embedding", "model.embed_tokens", "additional_embedding"),
                ("head", "lm_head", "additional_fc"),
            ):
                parts = f"{at}.weight", f"{at}.{added}.weight"
                table[f"language.{ours}.weight"] = Fuse(parts, (c.vocab_size, n))
        own = KeyMap(
            table | self._latents(), unused=("model.gated_cross_attn_layers.{i}.cross_attn.rotary_emb.inv_freq",)
        )
        language = gated.inside(self.language.keymap).within("language.", "")
        return language | self.vision.keymap.within("vision.", "model.vision_model.") | own

    def _latents(self) -> dict[str, Place]:
        """The names of the resampler."""
        if self.resampler is None:
            return {}
        c, ours, theirs = self.resampler.backbone.config, "resampler.backbone.layers.{i}", "model.perceiver_resampler"
        at, kv = f"{theirs}.blocks.{{i}}", (c.n_heads * (c.head_dim or 0),) * 2
        return {
            "resampler.latents": f"{theirs}.latents",
            "resampler.backbone.norm.*": f"{theirs}.layer_norm.*",
            f"{ours}.norm_attention.*": f"{at}.0.latents_layer_norm.*",
            f"{ours}.attention.norm.*": f"{at}.0.context_layer_norm.*",
            f"{ours}.attention.cross.q.weight": f"{at}.0.q_proj.weight",
            f"{ours}.attention.cross.kv.weight": Fuse((f"{at}.0.k_proj.weight", f"{at}.0.v_proj.weight"), kv),
            f"{ours}.attention.cross.q_norm.*": f"{at}.0.q_layer_norm.*",
            f"{ours}.attention.cross.k_norm.*": f"{at}.0.k_layer_norm.*",
            f"{ours}.attention.cross.out.weight": f"{at}.0.output_proj.weight",
            f"{ours}.norm_feed.*": f"{at}.1.ln.*",
            f"{ours}.feed.up.weight": f"{at}.1.fc.weight",
            f"{ours}.feed.down.weight": f"{at}.1.c_proj.weight",
        }

    def _look(self, i: int, at: str) -> dict[str, Place]:
        """The names of what looks before layer i."""
        c, ours = self.language.config.backbone, f"language.backbone.layers.{i}.look"
        hidden, vector = c.hidden or 0, self.config.alpha_type == "vector"
        kv = tuple(f"{at}.cross_attn.{p}_proj.weight" for p in "kv")
        gates = {"attention": "cross_attn", "feed": "dense"}
        return {
            f"{ours}.norm_attention.weight": f"{at}.input_layernorm.weight",
            f"{ours}.attention.q.weight": f"{at}.cross_attn.q_proj.weight",
            f"{ours}.attention.kv.weight": Fuse(kv, (c.dim, c.dim)),
            f"{ours}.attention.q_norm.weight": f"{at}.cross_attn.q_layer_norm.weight",
            f"{ours}.attention.k_norm.weight": f"{at}.cross_attn.k_layer_norm.weight",
            f"{ours}.attention.out.weight": f"{at}.cross_attn.o_proj.weight",
            f"{ours}.norm_feed.weight": f"{at}.post_attention_layernorm.weight",
            f"{ours}.feed.up.weight": Fuse(tuple(f"{at}.mlp.{p}_proj.weight" for p in ("gate", "up")), (hidden,) * 2),
            f"{ours}.feed.down.weight": f"{at}.mlp.down_proj.weight",
            **{
                f"{ours}.end_{mine}.alpha": Leading(f"{at}.alpha_{name}", 2) if vector else f"{at}.alpha_{name}"
                for mine, name in gates.items()
            },
        }


def _resampler(source: Mapping[str, Any], dim: int) -> Resampler:
    c = pick(PerceiverConfig, source, where="config.json: perceiver_config")
    sizes = TransformerConfig(
        dim, c.resampler_depth, c.resampler_n_heads, head_dim=c.resampler_head_dim, activation="relu", bias=False
    )
    return Resampler(sizes, c.resampler_n_latents, normed=c.qk_layer_norms_perceiver)


def _look(c: TransformerConfig, seen: int, n_alpha: int, *, normed: bool) -> Layer:
    """What looks at tokens of width `seen`."""
    norms = [nn.RMSNorm(c.dim // c.n_heads, eps=c.norm_eps) if normed else None for _ in range(2)]
    cross = CrossAttention(c, context_dim=seen, q_norm=norms[0], k_norm=norms[1])
    return Layer(c, attention=cross, end=lambda: gated.Gate(n_alpha))
