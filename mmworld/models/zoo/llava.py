"""LLaVA 1.5 (Liu et al. 2024): a picture encoder, a projection, a language model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from mmworld.config import config, pick
from mmworld.fusion.projection import Projector, put
from mmworld.models.message import Message, Takes
from mmworld.models.zoo.conversation import pictures, read, row, spread
from mmworld.nn.state import KVState
from mmworld.text.llama import Llama
from mmworld.vision.clip import ClipVision, SiglipVision
from mmworld.weights.keymap import KeyMap

TEMPLATE = """{% for m in messages %}{{ m.role.upper() + ": " if m.role != "system" }}\
{% for p in m.content %}{{ "<image>\n" if p.type == "image" else p.text }}{% endfor %}\
{{ "</s>" if m.role == "assistant" else " " }}{% endfor %}ASSISTANT:"""
"""Of Vicuna, which checkpoints without a template are built on."""


@config
class LlavaConfig:
    """What config.json says under these names, beside those of its parts."""

    model_type: Literal["llava"]
    text_config: dict[str, Any]
    vision_config: dict[str, Any]
    image_token_index: int = 32_000
    projector_hidden_act: Literal["gelu"] = "gelu"
    multimodal_projector_bias: bool = True
    vision_feature_layer: int = -2
    vision_feature_select_strategy: Literal["default", "full"] = "default"

    def __post_init__(self) -> None:
        if self.vision_feature_layer > -1:
            raise ValueError(f"vision_feature_layer {self.vision_feature_layer}: counted from the end, it is below 0")


class LLaVA(nn.Module):
    """A picture is so many tokens in the text of a language model.

    Args:
        source: what config.json says.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    takes: ClassVar[Takes] = Takes(("image",))

    def __init__(self, source: Mapping[str, Any]) -> None:
        super().__init__()
        self.source, c = dict(source), pick(LlavaConfig, source, where="config.json")
        self.config = c
        siglip = c.vision_config.get("model_type") == "siglip_vision_model"
        self.vision = SiglipVision(c.vision_config) if siglip else ClipVision(c.vision_config)
        self.language = Llama(c.text_config)
        widths = self.vision.config.hidden_size, self.language.config.hidden_size
        self.projector = Projector(*widths, c.projector_hidden_act, bias=c.multimodal_projector_bias)

    def see(self, pixels: Tensor) -> Tensor:
        """Normalised pictures [B, C, H, W] to tokens of the language model [B, N, D]."""
        c = self.config
        x = self.vision(pixels, self.vision.config.num_hidden_layers + 1 + c.vision_feature_layer)
        return self.projector(x[:, 1:] if c.vision_feature_select_strategy == "default" else x)

    def embed(self, ids: Tensor, pixels: Tensor | None = None) -> Tensor:
        """Ids [B, T], and the pictures [P, C, H, W] that stand in their `image_token_index`, to [B, T, D].

        Raises:
            ValueError: the pictures do not fill those places, or overfill them.
        """
        return self._placed(ids, None if pixels is None else self.see(pixels))

    def _placed(self, ids: Tensor, seen: Tensor | None) -> Tensor:
        words = self.language.embed(ids)
        return words if seen is None else put(seen.flatten(0, 1), words, ids == self.config.image_token_index)

    def begin(self, messages: Sequence[Message]) -> tuple[KVState, Tensor]:
        """Read a conversation, see `mmworld.models.message.Assistant.begin`."""
        pixels = pictures(self, messages)
        seen = None if pixels is None else self.see(pixels)
        counts = [] if seen is None else [seen.shape[1]] * len(seen)
        ids = spread(read(self, messages, TEMPLATE), self.config.image_token_index, counts)
        return self.language.start(self._placed(row(self, ids), seen))

    def init_state(self) -> KVState:
        return self.language.init_state()

    def forward(
        self,
        ids: Tensor,
        pixels: Tensor | None = None,
        state: KVState | None = None,
        lengths: tuple[int, ...] | None = None,
    ) -> Tensor:
        """Ids [B, T] and pictures [P, C, H, W] to the scores of the ids that follow [B, T, V].

        Args:
            state: of the stream that the ids go on with; None is a fresh one.
            lengths: of the texts packed in the row.
        """
        return self.language.logits(self.language.hidden(self.embed(ids, pixels), state, lengths))

    def read(self, ids: Tensor, state: KVState) -> Tensor:
        """Append ids [B, n] to the state's rows; logits [B, V] of the id that comes next."""
        return self.language.read(ids, state)

    @property
    def keymap(self) -> KeyMap:
        """Of `LlavaForConditionalGeneration`'s names, as the first checkpoints have them; later ones are read too."""
        own = KeyMap(
            {
                "projector.up.*": "multi_modal_projector.linear_1.*",
                "projector.down.*": "multi_modal_projector.linear_2.*",
            },
            aliases={
                "model.language_model.": "language_model.model.",
                "model.vision_tower.": "vision_tower.",
                "model.multi_modal_projector.": "multi_modal_projector.",
                "lm_head.": "language_model.lm_head.",
            },
        )
        language = self.language.keymap.within("language.", "language_model.")
        return own | language | self.vision.keymap.within("vision.", "vision_tower.")
