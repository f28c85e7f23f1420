"""InstructBLIP (Dai et al. 2023): a BLIP-2 whose Q-Former reads what is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from mmworld.config import config, pick
from mmworld.errors import UsageError
from mmworld.fusion.projection import put
from mmworld.fusion.qformer import Instructed
from mmworld.models.message import Message
from mmworld.models.zoo.conversation import DESCRIBE, pictures, row, vocabulary, words
from mmworld.nn.state import KVState
from mmworld.text.decoder import Decoder
from mmworld.text.llama import Llama
from mmworld.text.opt import OPT
from mmworld.text.pretrained import Pretrained
from mmworld.text.t5 import T5
from mmworld.types import Takes
from mmworld.vision.blip import Blip2VisionConfig, BlipVision
from mmworld.weights.keymap import KeyMap
from mmworld.weights.sizes import Width

TOKENIZER = "qformer_tokenizer"
"""The folder, within the checkpoint's, of the vocabulary that the Q-Former reads by."""
LANGUAGES: dict[str, type[nn.Module]] = {"t5": T5, "opt": OPT, "llama": Llama}


@config
class InstructBlipConfig:
    """What config.json says under these names, beside those of its parts."""

    model_type: Literal["instructblip"]
    text_config: dict[str, Any]
    vision_config: dict[str, Any]
    qformer_config: dict[str, Any]
    num_query_tokens: Width = 32
    image_token_index: int | None = None


class InstructBLIP(nn.Module):
    """What the Q-Former finds in a picture, which it searches for what is asked, stands before the question in the text
    of a language model: LLaMA (Vicuna), OPT or T5 (figure 3).

    Args:
        source: what config.json says, of `InstructBlipForConditionalGeneration`.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    takes: ClassVar[Takes] = Takes(("image",))
    folder: Path
    language: Any

    def __init__(self, source: Mapping[str, Any]) -> None:
        super().__init__()
        self.source, c = dict(source), pick(InstructBlipConfig, source, where="config.json")
        self.config = c
        self.vision = BlipVision(c.vision_config, Blip2VisionConfig)
        self.qformer = Instructed(c.qformer_config, c.num_query_tokens)
        self.language = LANGUAGES.get(str(c.text_config.get("model_type")), OPT)(c.text_config)
        self.project = nn.Linear(self.qformer.config.hidden_size, self.language.embedding.embedding_dim)

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
        """Ids [B, T], and the pictures [P, 3, H, W] in the places of `image_token_index`, to the scores of the ids that
        follow [B, T, V].

        Args:
            asked: what is asked of each picture, in the Q-Former's ids [P, N].
            state: of the text that goes on; None is a fresh one.
            answer: with T5, the ids so far of what it answers to `ids`, whose scores are given.

        Raises:
            ValueError: the pictures do not fill those places, nothing is asked of them, or T5 has no answer so far.
        """
        x = self.language.embedding(ids)
        if (pixels is None) != (asked is None):
            raise ValueError("pictures and what is asked of each go together: give both, or neither")
        if pixels is not None and asked is not None:
            place = -1 if self.config.image_token_index is None else self.config.image_token_index
            x = put(self.see(pixels, asked).flatten(0, 1), x, torch.eq(ids, place))
        if isinstance(self.language, Decoder):
            return self.language.logits(self.language.hidden(x, state))
        if answer is None:
            raise ValueError("T5 answers: give the ids of the answer so far, which begins with decoder_start_token_id")
        scores: Tensor = self.language(answer, self.language.encoder(x), state)
        return scores

    def begin(self, messages: Sequence[Message]) -> tuple[KVState, Tensor]:
        """Look at the pictures for what is asked, and read it; see `mmworld.models.message.Assistant.begin`."""
        pixels = pictures(self, messages)
        asked = " ".join(words(m) for m in messages if m.role != "assistant" and words(m)) or DESCRIBE["image"]
        begun = " ".join(words(m) for m in messages if m.role == "assistant")
        x = self.language.embedding(row(self, vocabulary(self).encode(f"{asked} {begun}".rstrip())))
        if pixels is not None:
            ids = row(self, self._vocabulary().encode(asked)).expand(len(pixels), -1)
            x = torch.cat((self.see(pixels, ids).flatten(0, 1)[None].to(x.dtype), x), dim=1)
        if isinstance(self.language, Decoder):
            return self.language.start(x)
        state = KVState()
        first = row(self, [self.language.config.decoder_start_token_id])
        return state, self.language(first, self.language.encoder(x), state)[:, -1]

    def _vocabulary(self) -> Pretrained:
        if (found := Pretrained.load(self.folder / TOKENIZER)) is None:
            raise UsageError(f"this model's Q-Former has no vocabulary: {self.folder} lacks {TOKENIZER}")
        return found

    def read(self, ids: Tensor, state: KVState) -> Tensor:
        """Append ids [B, n] to the state's rows; logits [B, V] of the id that comes next."""
        if isinstance(self.language, Decoder):
            return self.language.read(ids, state)
        scores: Tensor = self.language(ids, None, state)[:, -1]
        return scores

    @property
    def keymap(self) -> KeyMap:
        """Of `InstructBlipForConditionalGeneration`'s names."""
        own = KeyMap({"project.*": "language_projection.*"}, unused=("qformer.embeddings.position_ids",))
        parts = self.qformer.keymap.within("qformer.", ""), self.vision.keymap.within("vision.", "vision_model.")
        return own | parts[0] | parts[1] | self.language.keymap.within("language.", "language_model.")
