"""InstructBLIP (Dai et al. 2023): a BLIP-2 whose Q-Former reads what is asked, of pictures or of a film's frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from mmworld.config import config, pick
from mmworld.errors import UsageError
from mmworld.fusion.qformer import Instructed
from mmworld.models.message import Message
from mmworld.models.zoo.blip2 import Blip2Config, Queried
from mmworld.models.zoo.conversation import DESCRIBE, asked, begun, pictures, prepared, row, shown
from mmworld.nn.state import KVState
from mmworld.text.llama import Llama
from mmworld.text.opt import OPT
from mmworld.text.pretrained import Pretrained
from mmworld.text.t5 import T5
from mmworld.types import Takes

TOKENIZER = "qformer_tokenizer"
"""The folder, within the checkpoint's, of the vocabulary that the Q-Former reads by."""
FRAMES = 4
"""Of a film, as the model is shown it in transformers."""
LANGUAGES: dict[str, type[nn.Module]] = {"t5": T5, "opt": OPT, "llama": Llama}


@config
class InstructBlipConfig(Blip2Config):
    """What config.json says under these names, beside those of its parts."""

    model_type: Literal["instructblip"]  # type: ignore[assignment]


@config
class InstructBlipVideoConfig(Blip2Config):
    """What config.json says under these names, beside those of its parts."""

    model_type: Literal["instructblipvideo"]  # type: ignore[assignment]
    video_token_index: int | None = None

    @property
    def place(self) -> int | None:
        return self.video_token_index


class InstructBLIP(Queried):
    """What the Q-Former finds in a picture, which it searches for what is asked, stands before the question in the text
    of a language model: LLaMA (Vicuna), OPT or T5 (figure 3).

    Args:
        source: what config.json says, of `InstructBlipForConditionalGeneration`.
        kind: of config.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    folder: Path

    def __init__(self, source: Mapping[str, Any], kind: type[Blip2Config] = InstructBlipConfig) -> None:
        c = pick(kind, source, where="config.json")
        language = LANGUAGES.get(str(c.text_config.get("model_type")), OPT)(c.text_config)
        super().__init__(c, Instructed(c.qformer_config, c.num_query_tokens), language)
        self.source = dict(source)

    def see(self, pixels: Tensor, asked: Tensor) -> Tensor:
        """Normalised pictures [B, 3, H, W], and in the Q-Former's ids what is asked of each [B, T], to tokens of the
        language model [B, n, D]."""
        return self.project(self.qformer(self.vision(pixels), asked))

    def forward(
        self,
        ids: Tensor,
        pixels: Tensor | None = None,
        asked: Tensor | None = None,
        state: KVState | None = None,
        answer: Tensor | None = None,
    ) -> Tensor:
        """Ids [B, T], and the pictures [P, 3, H, W] or frames in the places of the id that stands for them, to the
        scores of the ids that follow [B, T, V].

        Args:
            asked: what is asked of each picture, in the Q-Former's ids [P, N].
            state: of the text that goes on; None is a fresh one.
            answer: with T5, the ids so far of what it answers to `ids`, whose scores are given.

        Raises:
            ValueError: the pictures do not fill those places, config.json names no id for them, nothing is asked of
                them, or T5 has no answer so far.
        """
        if (pixels is None) != (asked is None):
            raise ValueError("pictures and what is asked of each go together: give both, or neither")
        seen = None if pixels is None or asked is None else self.see(pixels, asked)
        return self.scores(self.placed(ids, seen), state, answer)

    def begin(self, messages: Sequence[Message]) -> tuple[KVState, Tensor]:
        """Look at the pictures for what is asked, and read it; see `mmworld.models.message.Assistant.begin`."""
        pixels = self.pictures(messages)
        question = asked(messages) or DESCRIBE[self.takes.senses[0]]
        text = f"{question} {begun(messages)}".rstrip()
        if pixels is None:
            return self.start(text, None)
        ids = row(self, self.asks.encode(question)).expand(len(pixels), -1)
        return self.start(text, self.see(pixels, ids))

    def pictures(self, messages: Sequence[Message]) -> Tensor | None:
        """What is shown, prepared [P, 3, h, w]; None if nothing is."""
        return pictures(self, messages)

    @cached_property
    def asks(self) -> Pretrained:
        """The vocabulary that the Q-Former reads by; UsageError if the folder has none."""
        if (found := Pretrained.load(self.folder / TOKENIZER)) is None:
            raise UsageError(f"this model's Q-Former has no vocabulary: {self.folder} lacks {TOKENIZER}")
        return found


class InstructBLIPVideo(InstructBLIP):
    """The same of a film: the Q-Former searches each of its frames for what is asked, and what it finds in them stands
    one after the other.

    Args:
        source: what config.json says, of `InstructBlipVideoForConditionalGeneration`.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    takes: ClassVar[Takes] = Takes(("video",), frames=FRAMES)

    def __init__(self, source: Mapping[str, Any]) -> None:
        super().__init__(source, InstructBlipVideoConfig)

    def pictures(self, messages: Sequence[Message]) -> Tensor | None:
        films = [prepared(self, chunk)[0] for chunk in shown(messages, "video")]
        return torch.cat(films) if films else None
