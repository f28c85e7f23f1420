"""BLIP (Li et al. 2022): texts that look at a picture in every layer; they caption it, answer, or match it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from mmworld.attention import CAUSAL, FULL, Mask
from mmworld.config import config, pick
from mmworld.errors import ConfigError, UsageError
from mmworld.fusion.cross import BlipText, BlipTextConfig, Looking
from mmworld.fusion.late import Judged
from mmworld.models.message import Message
from mmworld.models.zoo.conversation import asked, begun, pictures, row, vocabulary
from mmworld.nn.state import KVState
from mmworld.text.bert import MaskedHead, told
from mmworld.text.packing import firsts, pack
from mmworld.types import Takes
from mmworld.vision.blip import BlipVision
from mmworld.weights.keymap import KeyMap
from mmworld.weights.sizes import Width


@config
class BlipConfig:
    """What config.json says under these names, beside those of its parts."""

    model_type: Literal["blip"]
    text_config: dict[str, Any]
    vision_config: dict[str, Any]
    image_text_hidden_size: Width = 256


def blip(source: Mapping[str, Any]) -> BLIP | BLIPMatch:
    """The model of the architecture that config.json names.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """
    return ARCHITECTURES[architecture(source, ARCHITECTURES)](source)


def architecture(source: Mapping[str, Any], known: Collection[str]) -> str:
    """The one of the known that config.json names, the first if it names none; ConfigError if it is another."""
    name = str(next(iter(source.get("architectures") or known)))
    if name not in known:
        raise ConfigError(f"config.json: architectures: {name} is none of {', '.join(known)}")
    return name


class BLIP(nn.Module):
    """Captions of pictures: the image-grounded text decoder (figure 2, right).

    Args:
        source: what config.json says, of `BlipForConditionalGeneration`.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    takes: ClassVar[Takes] = Takes(("image",))

    def __init__(self, source: Mapping[str, Any]) -> None:
        super().__init__()
        self.source, whole = dict(source), pick(BlipConfig, source, where="config.json")
        self.vision = BlipVision(whole.vision_config)
        c = self.config = pick(BlipTextConfig, whole.text_config, where="config.json: text_config")
        self.decoder = BlipText(c)
        self.head = MaskedHead(c.vocab_size, c.hidden_size, c.hidden_act, c.layer_norm_eps)

    def see(self, pixels: Tensor) -> Tensor:
        """Normalised pictures [B, 3, H, W] to tokens [B, N, E]."""
        return self.vision(pixels)

    @property
    def ends(self) -> frozenset[int]:
        """Ids after which a caption is over."""
        return frozenset([self.config.sep_token_id])

    def begin(self, messages: Sequence[Message]) -> tuple[KVState, Tensor]:
        """Look at the last picture; an assistant's words are how the caption begins.

        Raises:
            UsageError: there is no picture, or there is a question: this model tells what it sees, and cannot be asked.
        """
        if asked(messages):
            raise UsageError("this model captions pictures: show it one, and ask nothing")
        return self._started(messages, self._last(messages))

    def _last(self, messages: Sequence[Message]) -> Tensor:
        """What is seen of the last picture."""
        if (pixels := pictures(self, messages)) is None:
            raise UsageError("this model speaks of a picture: show it one")
        return self.see(pixels[-1:])

    def _started(self, messages: Sequence[Message], context: Tensor) -> tuple[KVState, Tensor]:
        ids = [self.config.bos_token_id, *vocabulary(self).encode(begun(messages), whole=False)]
        state = KVState()
        return state, self(row(self, ids), context, state)[:, -1]

    def forward(self, ids: Tensor, context: Tensor | None = None, state: KVState | None = None) -> Tensor:
        """Ids of the text so far [B, T] to the scores of those that follow [B, T, V].

        Args:
            context: what the text looks at [B, N, E]: what `see` made of the pictures; a state holds it, so it is given
                once.
            state: of the text that the ids go on with; None is a fresh one.
        """
        return self._scores(self.decoder(ids, CAUSAL, context, state))

    def read(self, ids: Tensor, state: KVState) -> Tensor:
        """Append ids [B, n] to the state's rows, which hold a context; logits [B, V] of the id that comes next."""
        return self._scores(self.decoder(ids, CAUSAL, None, state)[:, -1])

    def _scores(self, x: Tensor) -> Tensor:
        return self.head(x, self.decoder.words.weight)

    @property
    def keymap(self) -> KeyMap:
        """Of `BlipForConditionalGeneration`'s names."""
        own = KeyMap({**told("text_decoder.")}, unused=("text_decoder.cls.predictions.decoder.*",))
        decoder = self.decoder.keymap.within("decoder.", "text_decoder.bert.")
        return own | decoder | self.vision.keymap.within("vision.", "vision_model.")


class BLIPAnswer(BLIP):
    """Answers to questions: an encoder reads the question and looks at the picture, and the decoder looks at what it
    made of them (figure 5, left).

    Args:
        source: what config.json says, of `BlipForQuestionAnswering`.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    def __init__(self, source: Mapping[str, Any]) -> None:
        super().__init__(source)
        self.encoder = BlipText(self.config)

    def ask(self, ids: Tensor, seen: Tensor) -> Tensor:
        """Ids of questions [B, T] about what `see` made of pictures [B, N, E], to what answers look at [B, T, D]."""
        return self.encoder(ids, FULL, seen)

    def begin(self, messages: Sequence[Message]) -> tuple[KVState, Tensor]:
        """Read what is asked about the last picture; an assistant's words are how the answer begins.

        Raises:
            UsageError: there is no picture, or nothing is asked.
        """
        if not (question := asked(messages)):
            raise UsageError("this model answers questions about pictures: ask it something")
        ids = row(self, vocabulary(self).encode(question))
        return self._started(messages, self.ask(ids, self._last(messages)))

    @property
    def keymap(self) -> KeyMap:
        """Of `BlipForQuestionAnswering`'s names."""
        return super().keymap | self.encoder.keymap.within("encoder.", "text_encoder.")


class BLIPMatch(Judged):
    """Whether a text is about a picture: each pair is judged by an encoder that reads the one and looks at the other
    (figure 2, middle). Both also have directions in one space (figure 2, left).

    Args:
        source: what config.json says, of `BlipForImageTextRetrieval`.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    takes = Takes(("image",))

    def __init__(self, source: Mapping[str, Any]) -> None:
        super().__init__()
        self.source, whole = dict(source), pick(BlipConfig, source, where="config.json")
        self.vision = BlipVision(whole.vision_config)
        c = pick(BlipTextConfig, whole.text_config, where="config.json: text_config")
        self.encoder = BlipText(c, Looking)
        self.picture_project = nn.Linear(self.vision.config.hidden_size, whole.image_text_hidden_size)
        self.text_project = nn.Linear(c.hidden_size, whole.image_text_hidden_size)
        self.fits = nn.Linear(c.hidden_size, 2)

    def embed(self, pixels: Tensor) -> Tensor:
        """Normalised pictures [B, 3, H, W] to directions [B, E] of length 1."""
        return F.normalize(self.picture_project(self.vision(pixels)[:, 0]), dim=-1)

    def embed_texts(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """The ids of each text, the first of which stands for it, to directions [B, E] of length 1.

        Raises:
            ValueError: a text is empty, or longer than the places that were learned.
        """
        ids, lengths = pack(texts, self.fits.weight.device)
        told = self.encoder(ids, Mask("full", lengths=lengths))
        return F.normalize(self.text_project(told[0, firsts(lengths)]), dim=-1)

    def compare(self, seen: Tensor, told: Tensor) -> Tensor:
        return seen @ told.T

    def judge(self, seen: Tensor, ids: Tensor) -> Tensor:
        fits: Tensor = self.fits(self.encoder(ids, FULL, seen)[:, 0])
        return fits

    @property
    def keymap(self) -> KeyMap:
        """Of `BlipForImageTextRetrieval`'s names."""
        own = KeyMap({"picture_project.*": "vision_proj.*", "text_project.*": "text_proj.*", "fits.*": "itm_head.*"})
        encoder = self.encoder.keymap.within("encoder.", "text_encoder.")
        return own | encoder | self.vision.keymap.within("vision.", "vision_model.")


ARCHITECTURES: dict[str, type[BLIP] | type[BLIPMatch]] = {
    "BlipForConditionalGeneration": BLIP,
    "BlipForQuestionAnswering": BLIPAnswer,
    "BlipForImageTextRetrieval": BLIPMatch,
}
