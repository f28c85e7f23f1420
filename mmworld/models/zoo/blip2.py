"""BLIP-2 (Li et al. 2023): a picture encoder, a Q-Former, and a language model: OPT, LLaMA or T5; or the first two
alone, which match pictures and texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmworld.attention import Mask
from mmworld.config import config, pick
from mmworld.errors import ConfigError
from mmworld.fusion.late import Judged
from mmworld.fusion.projection import put
from mmworld.fusion.qformer import Instructed, QFormer
from mmworld.models.message import Message
from mmworld.models.zoo.blip import architecture
from mmworld.models.zoo.conversation import check, prepared, row, shown, vocabulary, words
from mmworld.nn.state import KVState
from mmworld.text.decoder import Decoder
from mmworld.text.llama import Llama
from mmworld.text.opt import OPT
from mmworld.text.packing import firsts, pack
from mmworld.text.t5 import T5
from mmworld.types import Takes
from mmworld.vision.blip import Blip2VisionConfig, BlipVision
from mmworld.weights.keymap import KeyMap
from mmworld.weights.sizes import Width

LANGUAGES: dict[str, type[nn.Module]] = {"llama": Llama, "opt": OPT, "t5": T5}
"""By the model type that config.json says of its text_config."""


@config
class Blip2Config:
    """What config.json says under these names, beside those of its parts."""

    model_type: Literal["blip-2"]
    text_config: dict[str, Any]
    vision_config: dict[str, Any]
    qformer_config: dict[str, Any]
    num_query_tokens: Width = 32
    image_text_hidden_size: Width = 256
    image_token_index: int | None = None

    @property
    def place(self) -> int | None:
        """The id that stands for tokens of what is shown; None in older files."""
        return self.image_token_index


def blip2(source: Mapping[str, Any]) -> BLIP2 | BLIP2Match:
    """The model of the architecture that config.json names.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """
    return ARCHITECTURES[architecture(source, ARCHITECTURES)](source)


class Queried(nn.Module):
    """A language model that is told what a Q-Former finds in pictures.

    Args:
        c: sizes.
        qformer: what asks.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    takes: ClassVar[Takes] = Takes(("image",))
    language: Any

    def __init__(self, c: Blip2Config, qformer: QFormer | Instructed) -> None:
        super().__init__()
        kind = str(c.text_config.get("model_type", "opt"))  # as transformers reads one that does not say
        if kind not in LANGUAGES:
            raise ConfigError(f"config.json: text_config: model_type: {kind} is none of {', '.join(LANGUAGES)}")
        self.config = c
        self.vision = BlipVision(c.vision_config, Blip2VisionConfig)
        self.qformer, self.language = qformer, LANGUAGES[kind]({"model_type": kind, **c.text_config})
        self.project = nn.Linear(qformer.config.hidden_size, self.language.embedding.embedding_dim)

    def shown(self, messages: Sequence[Message]) -> Tensor | None:
        """What is shown, prepared, in order [P, ...]; None if nothing is.

        Raises:
            UsageError: something is shown that the model does not take, or cannot be prepared.
        """
        check(messages, self.takes)
        found = [prepared(self, chunk) for chunk in shown(messages, *self.takes.senses)]
        return torch.cat(found) if found else None

    def placed(self, ids: Tensor, seen: Tensor | None) -> Tensor:
        """Ids [B, T], and tokens of what is shown [P, n, D] in the places that stand for them, to [B, T, D].

        Raises:
            ValueError: config.json names no id that stands for them, or they do not fill its places, or overfill them.
        """
        words: Tensor = self.language.embedding(ids)
        if seen is None:
            return words
        if self.config.place is None:
            raise ValueError("config.json names no id that stands for what is shown: begin puts it before the text")
        return put(seen.flatten(0, 1), words, ids == self.config.place)

    def start(self, text: str, seen: Tensor | None) -> tuple[KVState, Tensor]:
        """The beginning of what follows tokens of pictures [P, n, D] and a text."""
        x = self.language.embedding(row(self, vocabulary(self).encode(text)))
        if seen is not None:
            x = torch.cat((seen.flatten(0, 1)[None].to(x.dtype), x), dim=1)
        begun: tuple[KVState, Tensor] = self.language.start(x)
        return begun

    def scores(self, x: Tensor, state: KVState | None, answer: Tensor | None) -> Tensor:
        """Embedded tokens [B, T, D] to the scores of the ids that follow, or of those that follow an answer to them.

        Raises:
            ValueError: T5 has no answer so far.
        """
        if isinstance(self.language, Decoder):
            return self.language.logits(self.language.hidden(x, state))
        if answer is None:
            raise ValueError("T5 answers: give the ids of the answer so far, which begins with decoder_start_token_id")
        found: Tensor = self.language(answer, self.language.encoder(x), state)
        return found

    def read(self, ids: Tensor, state: KVState) -> Tensor:
        """Append ids [B, n] to the state's rows; logits [B, V] of the id that comes next."""
        logits: Tensor = self.language.read(ids, state)
        return logits

    @property
    def keymap(self) -> KeyMap:
        """Of the names of `Blip2ForConditionalGeneration` and its kin."""
        own = KeyMap({"project.*": "language_projection.*"}, unused=("qformer.embeddings.position_ids",))
        parts = self.qformer.keymap.within("qformer.", ""), self.vision.keymap.within("vision.", "vision_model.")
        return own | parts[0] | parts[1] | self.language.keymap.within("language.", "language_model.")


class BLIP2(Queried):
    """What the Q-Former's questions find in a picture are so many tokens in the text of a language model.

    Args:
        source: what config.json says, of `Blip2ForConditionalGeneration`.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    def __init__(self, source: Mapping[str, Any]) -> None:
        c = pick(Blip2Config, source, where="config.json")
        super().__init__(c, QFormer(c.qformer_config, c.num_query_tokens))
        self.source = dict(source)

    def see(self, pixels: Tensor) -> Tensor:
        """Normalised pictures [B, 3, H, W] to tokens of the language model [B, n, D]."""
        return self.project(self.qformer(self.vision(pixels)))

    def embed(self, ids: Tensor, pixels: Tensor | None = None) -> Tensor:
        """Ids [B, T], and the pictures [P, 3, H, W] that stand in their `image_token_index`, to [B, T, D].

        Raises:
            ValueError: there is no such id, or the pictures do not fill those places, or overfill them.
        """
        return self.placed(ids, None if pixels is None else self.see(pixels))

    def begin(self, messages: Sequence[Message]) -> tuple[KVState, Tensor]:
        """Look at the pictures, and read the words after them: a question as the model was trained on them (section
        4.3), and how the answer begins."""
        pixels = self.shown(messages)
        turns = ((m.role, words(m)) for m in messages if words(m))
        text = " ".join(said if role == "assistant" else f"Question: {said} Answer:" for role, said in turns)
        return self.start(text, None if pixels is None else self.see(pixels))

    def forward(
        self, ids: Tensor, pixels: Tensor | None = None, state: KVState | None = None, answer: Tensor | None = None
    ) -> Tensor:
        """Ids [B, T] and pictures [P, 3, H, W] to the scores of the ids that follow [B, T, V].

        Args:
            state: of the text that goes on; None is a fresh one.
            answer: with T5, the ids so far of what it answers to `ids`, whose scores are given.
        """
        return self.scores(self.embed(ids, pixels), state, answer)


class BLIP2Match(Judged):
    """Whether a text is about a picture: the Q-Former's questions look at the one and read the other, and each judges
    (figure 2). Without the text each of them, and the text by itself, have directions in one space.

    Args:
        source: what config.json says, of `Blip2ForImageTextRetrieval`.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    takes = Takes(("image",))

    def __init__(self, source: Mapping[str, Any]) -> None:
        super().__init__()
        self.source, c = dict(source), pick(Blip2Config, source, where="config.json")
        self.vision = BlipVision(c.vision_config, Blip2VisionConfig)
        self.qformer = Instructed(c.qformer_config, c.num_query_tokens)
        width = self.qformer.config.hidden_size
        self.picture_project, self.text_project = (nn.Linear(width, c.image_text_hidden_size) for _ in range(2))
        self.fits = nn.Linear(width, 2)

    def embed(self, pixels: Tensor) -> Tensor:
        """Normalised pictures [B, 3, H, W] to directions of length 1, one for each question [B, n, E]."""
        unread = torch.zeros(len(pixels), 0, dtype=torch.long, device=pixels.device)
        return F.normalize(self.picture_project(self.qformer(self.vision(pixels), unread)), dim=-1)

    def embed_texts(self, texts: Sequence[Sequence[int]]) -> Tensor:
        ids, lengths = pack(texts, self.fits.weight.device)
        told = self.qformer.read(ids, Mask("full", lengths=lengths))
        return F.normalize(self.text_project(told[0, firsts(lengths)]), dim=-1)

    def compare(self, seen: Tensor, told: Tensor) -> Tensor:
        """Directions [pictures, n, E] and [texts, E] to scores [pictures, texts]: those of the best question."""
        return (seen @ told.T).amax(1)

    def judge(self, seen: Tensor, ids: Tensor) -> Tensor:
        fits: Tensor = self.fits(self.qformer(seen, ids)).mean(1)
        return fits

    @property
    def keymap(self) -> KeyMap:
        """Of `Blip2ForImageTextRetrieval`'s names, where what the Q-Former reads by stands beside it."""
        own = {
            "picture_project.*": "vision_projection.*",
            "text_project.*": "text_projection.*",
            "fits.*": "itm_head.*",
        }
        qformer = self.qformer.keymap.moved(lambda n: f"qformer.{n}", _beside)
        rest = KeyMap(own, unused=("embeddings.position_ids",))
        return rest | qformer | self.vision.keymap.within("vision.", "vision_model.")


def _beside(name: str) -> str:
    return name.replace("qformer.embeddings.layernorm", "qformer.layernorm").replace(
        "qformer.embeddings.", "embeddings."
    )


ARCHITECTURES: dict[str, type[BLIP2] | type[BLIP2Match]] = {
    "Blip2ForConditionalGeneration": BLIP2,
    "Blip2ForImageTextRetrieval": BLIP2Match,
}
