"""A text as speech: `samples, rate = mmworld.speak(text, model=…, voice=…, vocoder=…)`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mmworld.errors import UsageError
from mmworld.models.zoo import load
from mmworld.models.zoo.conversation import like, row, vocabulary
from mmworld.verbs.model import able, loaded
from mmworld.verbs.voice import checked, read_voice

MAX_CHARACTERS = 1 << 20
_SENTENCE = re.compile(r"(?<=[.!?…。！？])\s+|\s*\n\s*")
NEEDED = "a speaker embedding in a .npy or .safetensors file, such as the x-vectors of Matthijs/cmu-arctic-xvectors"


class Spoken(NamedTuple):
    """Speech: samples float32 [S] in [-1, 1], and how many of them are a second."""

    samples: Tensor
    rate: int


def speak(
    text: str,
    *,
    model: Any,
    vocoder: Any,
    voice: str | os.PathLike[str] | Tensor | None = None,
    device: str = "cpu",
    seed: int = 0,
) -> Spoken:
    """A text as speech, see `Reader`; `Reader(…).stream(text)` gives it sentence by sentence, while it is made.

    Raises:
        CheckpointError: there is no such model.
        MediaError: the file of the voice holds none.
        UsageError: the model does not speak, the vocoder or the voice does not fit it, or there is nothing to say.
    """
    reader = Reader(model, vocoder, voice, device=device, seed=seed)
    return Spoken(torch.cat(list(reader.stream(text))), reader.rate)


class Reader:
    """Reads texts aloud, sentence by sentence; one that is longer than the model reads at once, in parts.

    Args:
        model: a folder or a name on the hub, or a model: a SpeechT5 that speaks text.
        vocoder: makes its spectrograms sound, named alike: a HiFi-GAN.
        voice: speaker embedding [E], or its file.
        seed: of what is drawn while it speaks, for each sentence anew: the same text gives the same speech.

    Attributes:
        rate: samples a second.
    """

    def __init__(
        self,
        model: Any,
        vocoder: Any,
        voice: str | os.PathLike[str] | Tensor | None = None,
        *,
        device: str = "cpu",
        seed: int = 0,
    ) -> None:
        self.model, self.seed = able(loaded(model, device), "speak", "speak", "speak"), seed
        if not self.model.reads:
            raise UsageError("this model speaks what it hears, not what it reads", hint="SpeechT5ForTextToSpeech does")
        vocoder = load(vocoder, device) if isinstance(vocoder, str | os.PathLike) else vocoder
        self.vocoder = able(vocoder, "rate", "make a spectrogram sound", "sound of a spectrogram")
        bins = self.vocoder.config.model_in_dim, self.model.config.num_mel_bins
        if bins[0] != bins[1]:
            raise UsageError(f"the vocoder takes {bins[0]} frequencies, the model says {bins[1]}")
        self.rate: int = self.vocoder.rate
        self.voice = like(self.model, _voice(voice, self.model.config.speaker_embedding_dim))

    @torch.no_grad()
    def stream(self, text: str) -> Iterator[Tensor]:
        """Samples float32 [S] of each sentence, one after the other.

        Raises:
            UsageError: there is nothing to say, or more than MAX_CHARACTERS characters.
        """
        if len(text) > MAX_CHARACTERS:
            raise UsageError(f"a text of {len(text)} characters, the limit is {MAX_CHARACTERS}")
        said = [part for sentence in _SENTENCE.split(text.strip()) if sentence for part in self._parts(sentence)]
        if not said:
            raise UsageError("there is nothing to say")
        for part in said:
            mel = self.model.speak(row(self.model, self._ids(part)), self.voice, self.seed)
            yield self.vocoder(like(self.vocoder, mel)[None])[0].float().cpu()

    def _ids(self, text: str) -> list[int]:
        return vocabulary(self.model).encode(text)

    def _parts(self, text: str) -> Iterator[str]:
        """A sentence in parts that the model reads at once: halved between words until they are short enough."""
        if len(self._ids(text)) <= self.model.config.max_text_positions:
            yield text
            return
        if len(text) < 2:
            raise UsageError(f"{text!r} alone is more than the model reads at once")
        spaces = [m.start() for m in re.finditer(r"\s", text)]
        middle = min(spaces, key=lambda i: abs(i - len(text) // 2), default=len(text) // 2)
        for half in filter(None, (text[:middle].strip(), text[middle:].strip())):
            yield from self._parts(half)


def _voice(voice: str | os.PathLike[str] | Tensor | None, size: int) -> Tensor:
    if voice is None:
        raise UsageError(f"whose voice? the model speaks in one of {size} floats", hint=f"give {NEEDED}")
    if isinstance(voice, Tensor):
        return checked(voice, size, "voice")
    return read_voice(Path(voice), size)
