"""SpeechT5 that writes what it hears."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmworld.attention import CAUSAL
from mmworld.config import pick
from mmworld.errors import UsageError
from mmworld.generate.beam import Beam
from mmworld.generate.decode import decode
from mmworld.generate.samplers import GREEDY
from mmworld.generate.stop import Stop
from mmworld.models.message import RATE, Message
from mmworld.models.zoo.conversation import begun, heard, like, processor, row, vocabulary
from mmworld.models.zoo.speecht5.parts import Encoder, SpeechT5Config, Waves, decoder, decoder_names
from mmworld.models.zoo.speecht5.stretches import cut
from mmworld.models.zoo.whisper.decoding import DECODING, Decoding
from mmworld.models.zoo.whisper.longform import Quiet
from mmworld.nn.position import sinusoids
from mmworld.nn.state import KVState
from mmworld.types import Caption, Takes
from mmworld.weights.keymap import KeyMap

SECONDS = 30.0
"""Of a sound that is heard at once: attention costs the square of it, and speech is cut so in training."""


class Listener(nn.Module):
    """Speech to text.

    Args:
        source: what config.json says, of `SpeechT5ForSpeechToText`.

    Attributes:
        shortest: samples of the shortest sound that can be heard.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    takes: ClassVar[Takes] = Takes(("audio",), seconds=SECONDS)
    tokenizer: Any = None

    def __init__(self, source: Mapping[str, Any]) -> None:
        super().__init__()
        self.source, c = dict(source), pick(SpeechT5Config, source, where="config.json")
        self.config = c
        front = Waves(c)
        self.encoder, self.shortest = Encoder(c, front), front.convs.shortest
        self.words = nn.Embedding(c.vocab_size, c.hidden_size)
        self.backbone = decoder(c)

    def encode(self, samples: Tensor) -> Tensor:
        """Normalised samples [B, S] of 16 kHz to what the decoder looks at [B, N, D].

        Raises:
            ValueError: there are fewer than one step has.
        """
        return self.encoder(samples)

    def forward(self, ids: Tensor, context: Tensor | None = None, state: KVState | None = None) -> Tensor:
        """Ids of the text so far [B, T] to the scores of those that follow [B, T, V].

        Args:
            context: what `encode` made of the sound [B, N, D]; a state holds it, so it is given once.
            state: of the text that the ids go on with; None is a fresh one.
        """
        return self._logits(self._hidden(ids, context, state))

    def begin(self, messages: Sequence[Message]) -> tuple[KVState, Tensor]:
        """Hear the last sound; an assistant's words are how the transcript begins.

        Raises:
            UsageError: there is no sound, or there is a question: this model writes down what it hears.
        """
        return self._begin(heard(messages), begun(messages))

    def _begin(self, sound: Tensor, text: str = "") -> tuple[KVState, Tensor]:
        ids = vocabulary(self).encode(text, whole=False) if text else []
        context, state = self.encode(like(self, processor(self, "audio")(sound))[None]), KVState()
        return state, self(row(self, [self.config.decoder_start_token_id, *ids]), context, state)[:, -1]

    @torch.no_grad()
    def transcribe(
        self,
        sound: Iterable[Tensor],
        how: Decoding = DECODING,
        *,
        quiet: Quiet | None = None,
        start: float = 0.0,
        source: str = "",
    ) -> Iterator[Caption]:
        """What is said in samples [S] at 16 kHz, however many, stretch by stretch; of `how` the width counts.

        Args:
            quiet: what is not listened to at the beginning of a stretch.
            start: seconds at which the sound begins.
            source: name that each segment bears.

        Raises:
            UsageError: it is asked for what a Whisper does: to translate, or for the times of words.
        """
        if how.task != "transcribe" or how.words:
            raise UsageError("a SpeechT5 does not translate or tell the times of words", hint="a Whisper does")
        sampler, at = Beam(how.width) if how.width > 1 else GREEDY, 0
        for x in cut(sound, int(SECONDS * RATE)):
            end = at + len(x)
            skipped = int(quiet(at / RATE, end / RATE) * RATE) if quiet else 0
            if len(x) - skipped >= self.shortest:
                made = decode(self, *self._begin(x[skipped:]), sampler, Stop(self.config.max_text_positions))[0]
                if text := made.text.strip():
                    yield Caption(text, start + (at + skipped) / RATE, start + end / RATE, made.score, source)
            at = end

    def read(self, ids: Tensor, state: KVState) -> Tensor:
        """Append ids [B, n] to the state's rows, which hold a context; logits [B, V] of the id that comes next."""
        return self._logits(self._hidden(ids, None, state)[:, -1])

    def _hidden(self, ids: Tensor, context: Tensor | None, state: KVState | None) -> Tensor:
        at = torch.arange(ids.shape[1], device=ids.device) + (len(state) if state is not None else 0)
        x = self.words(ids)
        return self.backbone(x + sinusoids(at, x), CAUSAL, state, context)

    def _logits(self, x: Tensor) -> Tensor:
        return F.linear(x, self.words.weight)

    @property
    def keymap(self) -> KeyMap:
        """Of `SpeechT5ForSpeechToText`'s names."""
        prenet = "speecht5.decoder.prenet"
        own = KeyMap(
            {"words.weight": f"{prenet}.embed_tokens.weight"},
            unused=("text_decoder_postnet.lm_head.weight", f"{prenet}.embed_positions.weights"),
        )
        return own | decoder_names(self.config.hidden_size) | self.encoder.keymap.within("encoder.", "")
