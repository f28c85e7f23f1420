"""LLaVA 1.5 (Liu et al. 2024), and what it has in common with its successors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from mmworld.config import config, pick
from mmworld.fusion.projection import Projector, put
from mmworld.models.message import Glimpse, Message
from mmworld.models.zoo.conversation import like, pictures, processor, read, row, spread
from mmworld.nn.state import KVState
from mmworld.text.decoder import Told
from mmworld.text.llama import Llama
from mmworld.types import Takes
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


class Projected(Told):
    """A picture encoder, a language model, and the map from the tokens of the one to those of the other.

    Args:
        source: what config.json says.
        kind: of config.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    config: LlavaConfig

    def __init__(self, source: Mapping[str, Any], kind: type[LlavaConfig]) -> None:
        super().__init__()
        self.source, c = dict(source), pick(kind, source, where="config.json")
        self.config = c
        siglip = c.vision_config.get("model_type") == "siglip_vision_model"
        self.vision = SiglipVision(c.vision_config) if siglip else ClipVision(c.vision_config)
        self.language = Llama(c.text_config)
        widths = self.vision.config.hidden_size, self.language.config.hidden_size
        self.projector = Projector(*widths, c.projector_hidden_act, bias=c.multimodal_projector_bias)

    def features(self, pixels: Tensor) -> Tensor:
        """Normalised pictures [B, C, H, W] to tokens of the encoder [B, N, E]."""
        c = self.config
        x = self.vision(pixels, self.vision.config.num_hidden_layers + 1 + c.vision_feature_layer)
        return x[:, 1:] if c.vision_feature_select_strategy == "default" else x

    def see_each(self, pixels: Tensor) -> Tensor:
        """Normalised pictures [B, C, H, W] to tokens of the language model [B, N, D]."""
        return self.projector(self.features(pixels))

    def embed(self, ids: Tensor, shown: Any = None) -> Tensor:
        return self.placed(ids, {} if shown is None else self._seen(shown))

    def _seen(self, shown: Any) -> dict[int, list[Tensor]]:
        """The tokens of what is shown, by the id in whose places they stand."""
        raise NotImplementedError

    def placed(self, ids: Tensor, seen: Mapping[int, Sequence[Tensor]]) -> Tensor:
        """Ids [B, T], in the places of some of which tokens [N, D] are seen one after the other, to [B, T, D].

        Raises:
            ValueError: what is seen does not fill its places, or overfills them.
        """
        x = self.language.embed(ids)
        for place, tokens in seen.items():
            if tokens:
                x = put(torch.cat(list(tokens)), x, ids == place)
        return x

    def start(self, ids: Sequence[int], seen: Mapping[int, Sequence[Tensor]]) -> tuple[KVState, Tensor]:
        """The beginning of a stream, see `Decoder.start`: of ids with one place for each thing that is seen."""
        for place, tokens in seen.items():
            ids = spread(ids, place, [len(t) for t in tokens])
        return self.language.start(self.placed(row(self, ids), seen))

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


class LLaVA(Projected):
    """A picture is so many tokens in the text of a language model: pictures [P, C, H, W], normalised, are shown in the
    places of `image_token_index`.

    Args:
        source: what config.json says.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    takes: ClassVar[Takes] = Takes(("image",))
    together: ClassVar[int] = 1

    def __init__(self, source: Mapping[str, Any]) -> None:
        super().__init__(source, LlavaConfig)

    def _seen(self, pixels: Tensor | None) -> dict[int, list[Tensor]]:
        return {self.config.image_token_index: [] if pixels is None else list(self.see_each(pixels))}

    def begin(self, messages: Sequence[Message]) -> tuple[KVState, Tensor]:
        """Read a conversation, see `mmworld.models.message.Assistant.begin`."""
        seen = self._seen(pictures(self, messages))
        return self.start(self.written(messages), seen)

    @property
    def place(self) -> int:
        return self.config.image_token_index

    def written(self, messages: Sequence[Message]) -> list[int]:
        return read(self, messages, TEMPLATE)

    def glimpse(self, frames: Tensor, held: int) -> Glimpse:
        """A picture, see `mmworld.models.message.Follower`."""
        prepare = processor(self, "image")
        return Glimpse.row(self.see_each(like(self, torch.stack([prepare(f) for f in frames]))).flatten(0, 1))
