"""InstructBLIP (Dai et al. 2023): a BLIP-2 whose Q-Former reads what is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch import Tensor

from mmworld.config import config, pick
from mmworld.errors import UsageError
from mmworld.fusion.qformer import Instructed
from mmworld.models.message import Message
from mmworld.models.zoo.blip2 import Blip2Config, Queried
from mmworld.models.zoo.conversation import DESCRIBE, asked, row, words
from mmworld.nn.state import KVState
from mmworld.text.pretrained import Pretrained
from mmworld.types import Takes

TOKENIZER = "qformer_tokenizer"
"""The folder, within the checkpoint's, of the vocabulary that the Q-Former reads by."""


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

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    kind: ClassVar[type[Blip2Config]] = InstructBlipConfig
    folder: Path

    def __init__(self, source: Mapping[str, Any]) -> None:
        c = pick(self.kind, source, where="config.json")
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
        """Ids [B, T], and the what `see` takes [P, ...] in the places that stand for it, to the scores of the ids that
        follow [B, T, V].

        Args:
            asked: what is asked of each picture or film, in the Q-Former's ids [P, N].
            state: of the text that goes on; None is a fresh one.
            answer: with T5, the ids so far of what it answers to `ids`, whose scores are given.

        Raises:
            ValueError: no id stands for what is shown, it does not fill its places, nothing is asked of it, or T5 has
                no answer so far.
        """
        if (pixels is None) != (asked is None):
            raise ValueError("pictures and what is asked of each go together: give both, or neither")
        seen = None if pixels is None or asked is None else self.see(pixels, asked)
        return self.scores(self.placed(ids, seen), state, answer)

    def begin(self, messages: Sequence[Message]) -> tuple[KVState, Tensor]:
        """Look at what is shown for all that is asked, and read what was said, in its order; see
        `mmworld.models.message.Assistant.begin`."""
        pixels, question = self.shown(messages), asked(messages)
        unasked = [] if question else [DESCRIBE[self.takes.senses[0]]]
        text = " ".join([*unasked, *(words(m) for m in messages if words(m))])
        if pixels is None:
            return self.start(text, None)
        ids = row(self, self.asks.encode(question or unasked[0])).expand(len(pixels), -1)
        return self.start(text, self.see(pixels, ids))

    @cached_property
    def asks(self) -> Pretrained:
        """The vocabulary that the Q-Former reads by; UsageError if the folder has none."""
        if (found := Pretrained.load(self.folder / TOKENIZER)) is None:
            raise UsageError(f"this model's Q-Former has no vocabulary: {self.folder} lacks {TOKENIZER}")
        return found


class InstructBLIPVideo(InstructBLIP):
    """An InstructBLIP that is shown films: what it finds in each of four frames, one frame after the other.

    Args:
        source: what config.json says, of `InstructBlipVideoForConditionalGeneration`.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    kind = InstructBlipVideoConfig
    takes = Takes(("video",), frames=4)

    def see(self, pixels: Tensor, asked: Tensor) -> Tensor:
        """Normalised films [B, F, 3, H, W], and in the Q-Former's ids what is asked of each [B, T], to tokens of the
        language model [B, F * n, D]."""
        frames = pixels.shape[1]
        return (
            super()
            .see(pixels.flatten(0, 1), asked.repeat_interleave(frames, 0))
            .unflatten(0, (-1, frames))
            .flatten(1, 2)
        )
