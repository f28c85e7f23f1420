"""Idefics3 (Laurençon et al. 2024) and SmolVLM (Marafioti et al. 2025): pictures in squares, neighbours shuffled into
one token, before LLaMA."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from mmworld.config import config, pick
from mmworld.errors import ConfigError, UsageError
from mmworld.fusion.projection import put, shuffled
from mmworld.models.message import Message
from mmworld.models.zoo.conversation import ids_of, like, processor, row, shown, vocabulary, written
from mmworld.nn.state import KVState
from mmworld.text.chat import Chat
from mmworld.text.decoder import Told
from mmworld.text.llama import Llama
from mmworld.text.number import words
from mmworld.types import Chunk, Takes
from mmworld.vision.clip import SiglipVision
from mmworld.vision.split import Split
from mmworld.weights.keymap import KeyMap
from mmworld.weights.sizes import Width

TEMPLATE = """<|im_start|>{% for m in messages %}{{ m.role | capitalize }}\
{{ ":" if m.content[0].type == "image" else ": " }}\
{% for p in m.content %}{{ p.text if p.type == "text" else "<" + p.type + ">" }}{% endfor %}\
{{ "<end_of_utterance>\n" }}{% endfor %}Assistant:"""
"""How a conversation with films is written, and one whose checkpoint brings no template."""
FAKE, WHOLE = "<fake_token_around_image>", "<global-img>"
FRAMES = 64
_VISION: dict[str, Any] = {"hidden_size": 1152, "num_attention_heads": 16, "patch_size": 32}
"""What a vision_config that does not say means, where it is not SigLIP's."""


@config
class Idefics3Config:
    """What config.json says under these names, beside those of its parts."""

    model_type: Literal["idefics3", "smolvlm"]
    text_config: dict[str, Any]
    vision_config: dict[str, Any]
    image_token_id: int = 128_257
    scale_factor: Width = 2
    tie_word_embeddings: bool = False


class Idefics3(Told):
    """Squares of a picture, and the whole of it, are so many tokens each in the text of LLaMA.

    Args:
        source: what config.json says.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    takes: ClassVar[Takes] = Takes(("image",))
    processors: Mapping[str, Any]

    def __init__(self, source: Mapping[str, Any]) -> None:
        super().__init__()
        self.source, c = dict(source), pick(Idefics3Config, source, where="config.json")
        self.config = c
        fixed = {"model_type": "siglip_vision_model", "vision_use_head": False}
        self.vision = SiglipVision({**_VISION, **c.vision_config, **fixed})
        if self.vision.patches.grid % c.scale_factor or not exact(self.vision.patches.grid):
            raise ConfigError(f"config.json: {self.vision.patches.grid} patches a side are not supported")
        text = {"model_type": "llama", **c.text_config, "tie_word_embeddings": c.tie_word_embeddings}
        self.language = Llama(text)
        widths = self.vision.config.hidden_size * c.scale_factor**2, self.language.config.hidden_size
        self.project = nn.Linear(*widths, bias=False)

    @property
    def tokens(self) -> int:
        """Of a square."""
        return (self.vision.patches.grid // self.config.scale_factor) ** 2

    def see(self, pixels: Tensor) -> Tensor:
        """Normalised squares [P, 3, S, S] to tokens of the language model [P, n, D]."""
        return self.project(shuffled(self.vision(pixels), self.config.scale_factor))

    def embed(self, ids: Tensor, pixels: Tensor | None = None) -> Tensor:
        """Ids [B, T], and the squares [P, 3, S, S] that stand in their `image_token_id`, to [B, T, D].

        Raises:
            ValueError: the squares do not fill those places, or overfill them.
        """
        x = self.language.embed(ids)
        return x if pixels is None else put(self.see(pixels).flatten(0, 1), x, ids == self.config.image_token_id)

    def begin(self, messages: Sequence[Message]) -> tuple[KVState, Tensor]:
        """Read a conversation, see `mmworld.models.message.Assistant.begin`."""
        ids, pixels = self.prepared(messages)
        return self.language.start(self.embed(row(self, ids), pixels))

    def prepared(self, messages: Sequence[Message]) -> tuple[list[int], Tensor | None]:
        """The ids of a conversation, and the squares of all that it shows."""
        tokenizer, parts = vocabulary(self), [self._shown(chunk) for chunk in shown(messages, *self.takes.senses)]
        films = bool(shown(messages, "video"))
        chat = Chat(TEMPLATE, tokenizer.tokens) if films or tokenizer.chat is None else tokenizer.chat
        text, pixels = written(messages, chat), [p for part in parts for p in part[1]]
        ids = ids_of(tokenizer, filled(text, [name for part in parts for name in part[0]]))
        return ids, like(self, torch.cat(pixels)) if pixels else None

    def _shown(self, chunk: Chunk) -> tuple[list[str], list[Tensor]]:
        """What stands in the text for each thing of a chunk, and the squares of all."""
        prepare = processor(self, "image")
        if chunk.modality == "video":
            film = self.processors.get("video", prepare).film(chunk.data)
            return [told(len(film), chunk.end - chunk.start, self.tokens)], [film]
        pictures = [prepare(x) for x in chunk.data]
        return [laid(p, self.tokens) for p in pictures], [p.pixels for p in pictures]

    @property
    def keymap(self) -> KeyMap:
        """Of `Idefics3ForConditionalGeneration`'s names, which are SmolVLM's too."""
        language = self.language.keymap.moved(
            lambda n: f"language.{n}", lambda n: re.sub(r"^model\.", "model.text_model.", n)
        )
        own = KeyMap({"project.weight": "model.connector.modality_projection.proj.weight"})
        return own | language | self.vision.keymap.within("vision.", "model.vision_model.")


class SmolVLM(Idefics3):
    """It watches films too, frame by frame, each with its time."""

    takes: ClassVar[Takes] = Takes(("image", "video"), frames=FRAMES)


def exact(grid: int) -> bool:
    """Whether a patch's place is its own: the makers find it among shares of a side in float32, and of some sides
    (19, 25, 29 patches …) two patches then share one."""
    with torch.device("cpu"):
        shares = torch.arange(grid) * (1.0 / torch.tensor(grid))
        found = torch.bucketize(shares, torch.arange(1 / grid, 1.0, 1 / grid), right=True)
    return found.tolist() == list(range(grid))


def filled(text: str, names: Sequence[str]) -> str:
    """The text, with what stands for each thing that is shown in its place.

    Raises:
        UsageError: there are not as many places as things.
    """
    parts = re.split("<image>|<video>", text)
    if len(parts) - 1 != len(names):
        raise UsageError(f"the conversation has places for {len(parts) - 1} things and shows {len(names)}")
    return "".join(a + b for a, b in zip(parts, [*names, ""], strict=True))


def laid(picture: Split, n: int) -> str:
    """What stands in the text for a picture whose squares come to n tokens each: row by row, then the whole."""
    seen = "<image>" * n
    whole = f"{FAKE}{WHOLE}{seen}{FAKE}"
    lines = [
        "".join(f"{FAKE}<row_{r + 1}_col_{c + 1}>{seen}" for c in range(picture.columns)) + "\n"
        for r in range(picture.rows)
    ]
    return "".join(lines) + ("\n" if lines else "") + whole


def told(frames: int, seconds: float, n: int) -> str:
    """What stands in the text for a film of so many frames, evenly spread over its time."""
    intro = f"You are provided the following series of {words(frames)} frames from a {timedelta(seconds=int(seconds))}"
    at = [divmod(int(i * seconds / frames), 60) for i in range(frames)]
    whole = laid(Split(torch.empty(0)), n)
    return f"{intro} [H:MM:SS] video.\n" + "".join(f"\nFrame from {m:02d}:{s:02d}:{whole}" for m, s in at) + "\n\n"
