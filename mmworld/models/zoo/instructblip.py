"""InstructBLIP (Dai et al. 2023): a BLIP-2 whose Q-Former reads what is asked, of pictures or of a film's frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from mmworld.config import config, pick
from mmworld.errors import UsageError
from mmworld.fusion.qformer import Instructed
from mmworld.models.message import Message
from mmworld.models.zoo.blip2 import Blip2Config, Queried
from mmworld.models.zoo.conversation import DESCRIBE, pictures, prepared, row, shown, split, words
from mmworld.nn.state import KVState
from mmworld.text.pretrained import Pretrained
from mmworld.types import Takes

TOKENIZER = "qformer_tokenizer"
"""The folder, within the checkpoint's, of the vocabulary that the Q-Former reads by."""
FRAMES = 4
"""Of a film, as the model is shown it in transformers."""


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
    qformer: Instructed

    def __init__(self, source: Mapping[str, Any], kind: type[Blip2Config] = InstructBlipConfig) -> None:
        c = pick(kind, source, where="config.json")
        super().__init__(c, Instructed(c.qformer_config, c.num_query_tokens))
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
        """Look at the pictures for what is asked, and read it; see `mmworld.models.message.Assistant.begin`.

        What was asked and answered before is a part of what is asked (section 2.2: the history of a dialog).
        """
        pixels, (before, answer) = self.pictures(messages), split(messages)
        question = " ".join(words(m) for m in before if words(m)) or DESCRIBE[self.takes.senses[0]]
        text = f"{question} {answer.strip()}".rstrip()
        return self.start(text, None if pixels is None else self.see(pixels, self._asked(question, len(pixels))))

    def _asked(self, question: str, n: int) -> Tensor:
        """The Q-Former's ids of what is asked of each of n pictures [n, T]."""
        ids, most = self.asks.encode(question), self.qformer.config.max_position_embeddings
        if len(ids) > most:
            raise UsageError(f"what is asked comes to {len(ids)} ids, the Q-Former of this model reads {most}")
        return row(self, ids).expand(n, -1)

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
