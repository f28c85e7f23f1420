"""Kosmos-2 (Peng et al. 2023): a language model that sees a picture, and says where in it what it speaks of is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmworld.config import config, pick
from mmworld.errors import UsageError
from mmworld.fusion.projection import put
from mmworld.models.message import Message
from mmworld.models.zoo.conversation import like, processor, row, shown, vocabulary, words
from mmworld.nn.attention import CrossAttention, Pass
from mmworld.nn.layer import TransformerConfig
from mmworld.nn.state import KVState
from mmworld.text.grounding import END, PICTURE
from mmworld.text.magneto import Magneto
from mmworld.text.pretrained import Pretrained
from mmworld.types import Takes
from mmworld.vision.clip import ClipVision, ClipVisionConfig
from mmworld.weights.keymap import Fuse, KeyMap, Place
from mmworld.weights.sizes import Depth, Width

BRIEF = "An image of"
"""How a caption begins where nothing is asked (section 4.3)."""


@config
class Kosmos2Config:
    """What config.json says under these names, beside those of its parts."""

    model_type: Literal["kosmos-2"]
    text_config: dict[str, Any]
    vision_config: dict[str, Any]
    latent_query_num: Width = 64


@config
class Kosmos2VisionConfig(ClipVisionConfig):
    """What config.json says under these names: by default CLIP's large encoder."""

    model_type: Literal["kosmos_2_vision_model"]  # type: ignore[assignment]
    hidden_size: Width = 1024
    num_hidden_layers: Depth = 24
    num_attention_heads: Width = 16
    intermediate_size: Width = 4096
    patch_size: Width = 14


class Kosmos2(nn.Module):
    """A picture is so many tokens in the text of a language model, which names places by words of their own.

    Args:
        source: what config.json says, of `Kosmos2ForConditionalGeneration`.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    takes: ClassVar[Takes] = Takes(("image",))

    def __init__(self, source: Mapping[str, Any]) -> None:
        super().__init__()
        self.source, c = dict(source), pick(Kosmos2Config, source, where="config.json")
        self.config = c
        self.vision, self.language = ClipVision(c.vision_config, Kosmos2VisionConfig), Magneto(c.text_config)
        sizes = self.language.config.backbone
        self.connector = Connector(sizes, self.vision.config.hidden_size, c.latent_query_num)

    def see(self, pixels: Tensor) -> Tensor:
        """Normalised pictures [B, 3, H, W] to tokens of the language model [B, n, D]."""
        return self.connector(F.normalize(self.vision.norm(self.vision(pixels)), dim=-1))

    def forward(
        self,
        ids: Tensor,
        pixels: Tensor | None = None,
        where: Tensor | None = None,
        state: KVState | None = None,
        lengths: tuple[int, ...] | None = None,
    ) -> Tensor:
        """Ids [B, T], and the pictures [P, 3, H, W] that stand where `where` [B, T] is true, to the scores of the ids
        that follow [B, T, V].

        Args:
            state: of the stream that the ids go on with; None is a fresh one.
            lengths: of the texts packed in the row.

        Raises:
            ValueError: the pictures do not fill those places, or overfill them.
        """
        return self.language.logits(self.language.hidden(self._placed(ids, pixels, where), state, lengths))

    def _placed(self, ids: Tensor, pixels: Tensor | None, where: Tensor | None) -> Tensor:
        x = self.language.embed(ids)
        return x if pixels is None or where is None else put(self.see(pixels).flatten(0, 1), x, where)

    def begin(self, messages: Sequence[Message]) -> tuple[KVState, Tensor]:
        """Look at a picture, and read what is asked, as the model was asked (section 4.3), and what is answered; if
        nothing is said, the beginning of a caption.

        Raises:
            UsageError: there is no picture or more than one, or the folder has no vocabulary or preprocessing.
        """
        said = (f"Question: {words(m)} Answer:" if m.role == "user" else words(m) for m in messages if words(m))
        text = " ".join(said) or BRIEF
        return self.look([x for chunk in shown(messages, "image") for x in chunk.data], text)

    def look(self, pictures: Sequence[Tensor], text: str) -> tuple[KVState, Tensor]:
        """Look at the one picture uint8 [3, H, W], and read a text, which may have tags; errors as of `begin`."""
        if len(pictures) != 1:
            raise UsageError(f"this model looks at one picture, and is shown {len(pictures)}")
        pixels = like(self, processor(self, "image")(pictures[0])[None])
        ids, n = prompt(vocabulary(self), text, self.config.latent_query_num), self.config.latent_query_num
        where = torch.arange(len(ids), device=pixels.device)[None].sub(2)
        return self.language.start(self._placed(row(self, ids), pixels, (where >= 0) & (where < n)))

    def read(self, ids: Tensor, state: KVState) -> Tensor:
        """Append ids [B, n] to the state's rows; logits [B, V] of the id that comes next."""
        return self.language.read(ids, state)

    @property
    def keymap(self) -> KeyMap:
        """Of `Kosmos2ForConditionalGeneration`'s names."""
        vision = self.vision.keymap.within("vision.", "vision_model.model.")
        return vision | self.language.keymap.within("language.", "text_model.") | self.connector.keymap


class Connector(nn.Module):
    """Learned latents that look at what is seen and at themselves, in one row of keys: so many tokens of a picture.

    Args:
        c: sizes of the language model.
        seen: width of a token of the picture.
        n: latents.
    """

    def __init__(self, c: TransformerConfig, seen: int, n: int) -> None:
        super().__init__()
        self.project, self.latents = nn.Linear(seen, c.dim), nn.Parameter(torch.randn(n, c.dim))
        self.cross = CrossAttention(c)

    def forward(self, seen: Tensor) -> Tensor:
        """Tokens [B, N, seen] to [B, n, D]."""
        latents = self.latents.expand(len(seen), -1, -1)
        return self.cross(latents, Pass(context=torch.cat((self.project(seen), latents), dim=1)), 0)

    @property
    def keymap(self) -> KeyMap:
        at = "image_to_text_projection"
        table: dict[str, Place] = {
            "connector.project.*": f"{at}.dense.*",
            "connector.latents": f"{at}.latent_query",
            "connector.cross.q.*": f"{at}.x_attn.q_proj.*",
            "connector.cross.kv.*": Fuse(
                (f"{at}.x_attn.k_proj.*", f"{at}.x_attn.v_proj.*"), (self.latents.shape[1],) * 2
            ),
            "connector.cross.out.*": f"{at}.x_attn.out_proj.*",
        }
        return KeyMap(table)


def prompt(tokenizer: Pretrained, text: str, n: int) -> list[int]:
    """The ids of a text after a picture: <s>, <image>, n that hold its tokens, </image>, the text.

    What they are is of no account for the model; it was trained with those after <unk>.

    Raises:
        UsageError: the vocabulary lacks one of these words.
    """
    first, unknown = (tokenizer.tokens.get(f"{name}_token", "") for name in ("bos", "unk"))
    for word in (first, PICTURE, END, unknown):
        if tokenizer.id(word) is None:
            raise UsageError(f"this vocabulary is not Kosmos-2's: it has no {word or 'bos_token or unk_token'}")
    start, *rest = tokenizer.encode(f"{first}{PICTURE}{END} {text.strip()}", whole=False)[1:]
    hole = (tokenizer.id(unknown) or 0) + 1
    return [tokenizer.id(first) or 0, start, *range(hole, hole + n), *rest]
