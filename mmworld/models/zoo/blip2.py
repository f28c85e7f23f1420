"""BLIP-2 (Li et al. 2023): a picture encoder, a Q-Former, and a language model, or heads that match."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmworld.config import architecture, config, pick
from mmworld.errors import ConfigError, UsageError
from mmworld.fusion.late import Late
from mmworld.fusion.projection import put
from mmworld.fusion.qformer import Instructed, MatchingConfig, QFormer
from mmworld.models.message import Message
from mmworld.models.zoo.conversation import pictures, row, vocabulary, words
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

LANGUAGES: dict[str, type[nn.Module]] = {"opt": OPT, "llama": Llama, "t5": T5}


@config
class Blip2Config:
    """What config.json says under these names, beside those of its parts."""

    model_type: Literal["blip-2"]
    text_config: dict[str, Any]
    vision_config: dict[str, Any]
    qformer_config: dict[str, Any]
    num_query_tokens: Width = 32
    image_token_index: int | None = None

    @property
    def place(self) -> int | None:
        """The id that stands for a token of a picture."""
        return self.image_token_index


@config
class Blip2MatchConfig:
    """What config.json says under these names, beside those of its parts."""

    model_type: Literal["blip-2"]
    vision_config: dict[str, Any]
    qformer_config: dict[str, Any]
    num_query_tokens: Width = 32
    image_text_hidden_size: Width = 256


def blip2(source: Mapping[str, Any]) -> BLIP2 | BLIP2Match:
    """The model of the architecture that config.json names.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """
    return architecture(source, ARCHITECTURES)(source)


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
        self.config = c
        self.vision = BlipVision(c.vision_config, Blip2VisionConfig)
        self.qformer, self.language = qformer, _language(c.text_config)
        self.project = nn.Linear(qformer.config.hidden_size, self.language.embedding.embedding_dim)

    def start(self, text: str, seen: Tensor | None) -> tuple[KVState, Tensor]:
        """The beginning of what follows tokens of pictures [P, n, D] and a text."""
        x = self.language.embedding(row(self, vocabulary(self).encode(text)))
        if seen is not None:
            x = torch.cat((seen.flatten(0, 1)[None].to(x.dtype), x), dim=1)
        begun: tuple[KVState, Tensor] = self.language.start(x)
        return begun

    def placed(self, ids: Tensor, seen: Tensor | None) -> Tensor:
        """Ids [B, T], and tokens of pictures [P, n, D] in the places of the id that stands for them, to [B, T, D].

        Raises:
            ValueError: the pictures do not fill those places, or overfill them, or config.json names no such id.
        """
        words: Tensor = self.language.embedding(ids)
        if seen is None:
            return words
        if (place := self.config.place) is None:
            raise ValueError("config.json names no id that stands for pictures, so they have no place among ids")
        return put(seen.flatten(0, 1), words, ids == place)

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


def _language(source: Mapping[str, Any]) -> nn.Module:
    """The language model of a config; one that does not say what it is, is an OPT."""
    kind = source.get("model_type", "opt")
    if kind not in LANGUAGES:
        raise ConfigError(f"config.json: text_config: model_type: {kind!r} is none of {', '.join(LANGUAGES)}")
    return LANGUAGES[kind]({"model_type": kind, **source})


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

    def begin(self, messages: Sequence[Message]) -> tuple[KVState, Tensor]:
        """Look at the pictures, and read the words after them: a question as the model was trained on them (section
        4.3), and how the answer begins."""
        pixels = pictures(self, messages)
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

        Raises:
            ValueError: the pictures do not fill their places, config.json names no id for them, or T5 has no answer so
                far.
        """
        return self.scores(self.placed(ids, None if pixels is None else self.see(pixels)), state, answer)


class BLIP2Match(Late):
    """Whether a text is about a picture: each pair is judged by the Q-Former's questions, which look at the one and
    read the other (figure 2). Both also have directions in one space, a picture one for each question.

    Args:
        source: what config.json says, of `Blip2ForImageTextRetrieval`.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    takes, alone = Takes(("image",)), True

    def __init__(self, source: Mapping[str, Any]) -> None:
        super().__init__()
        self.source, c = dict(source), pick(Blip2MatchConfig, source, where="config.json")
        self.vision = BlipVision(c.vision_config, Blip2VisionConfig)
        self.qformer = Instructed(c.qformer_config, c.num_query_tokens, MatchingConfig)
        dim = self.qformer.config.hidden_size
        self.picture_project, self.text_project = (nn.Linear(dim, c.image_text_hidden_size) for _ in range(2))
        self.fits = nn.Linear(dim, 2)

    def embed(self, x: Tensor) -> Tensor:
        """There is no direction of a picture as a whole: UsageError."""
        raise UsageError("BLIP-2 has many directions for a picture and none for all of it", hint="match compares them")

    def directions(self, pixels: Tensor) -> Tensor:
        """Normalised pictures [B, 3, H, W] to directions [B, n, E] of length 1."""
        nothing = torch.zeros(len(pixels), 0, dtype=torch.long, device=pixels.device)
        return F.normalize(self.picture_project(self.qformer(self.vision(pixels), nothing)), dim=-1)

    def embed_texts(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """The ids of each text, the first of which stands for it, to directions [B, E] of length 1.

        Raises:
            ValueError: a text is empty, or longer than the places that were learned.
        """
        ids, lengths = pack(texts, self.fits.weight.device)
        return F.normalize(self.text_project(self.qformer.read(ids, lengths)[0, firsts(lengths)]), dim=-1)

    def compare(self, seen: Tensor, told: Tensor) -> Tensor:
        """Directions [pictures, n, E] and [texts, E] to the cosines of the nearest ones [pictures, texts]."""
        return (seen @ told.T).amax(1)

    def forward(self, x: Tensor, texts: Sequence[Sequence[int]]) -> Tensor:
        """Pictures and texts to the logits of each text being about each picture [pictures, texts]."""
        seen = self.vision(x)
        rows = [torch.tensor([list(t)] * len(seen), device=seen.device) for t in texts]
        fits = torch.stack([self.fits(self.qformer(seen, ids)).mean(1) for ids in rows], dim=1)
        return fits[..., 1] - fits[..., 0]

    @property
    def keymap(self) -> KeyMap:
        """Of `Blip2ForImageTextRetrieval`'s names."""
        heads = {"picture_project.*": "vision_projection.*", "text_project.*": "text_projection.*"}
        own = KeyMap({**heads, "fits.*": "itm_head.*"}, unused=("embeddings.position_ids",))
        parts = self.qformer.keymap.within("qformer.", ""), self.vision.keymap.within("vision.", "vision_model.")
        return own | parts[0] | parts[1]


ARCHITECTURES: dict[str, type[BLIP2] | type[BLIP2Match]] = {
    "Blip2ForConditionalGeneration": BLIP2,
    "Blip2ForImageTextRetrieval": BLIP2Match,
}
