"""SpeechT5 (Ao et al. 2022): one encoder and decoder, between speech and text.

What stands before the encoder and around the decoder is of speech or of text, as the architecture that config.json
names says (figure 2).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmworld.errors import ConfigError
from mmworld.models.zoo.speecht5.hearing import Listener
from mmworld.models.zoo.speecht5.parts import Letters, Waves
from mmworld.models.zoo.speecht5.speaking import Speaker


def speecht5(source: Mapping[str, Any]) -> Listener | Speaker:
    """The model that config.json asks for; ConfigError if it is none of those that are built here."""
    match next(iter(source.get("architectures") or ()), None):
        case "SpeechT5ForSpeechToText":
            return Listener(source)
        case "SpeechT5ForTextToSpeech":
            return Speaker(source, Letters)
        case "SpeechT5ForSpeechToSpeech":
            return Speaker(source, Waves)
        case other:
            kinds = "SpeechT5ForSpeechToText, SpeechT5ForTextToSpeech, SpeechT5ForSpeechToSpeech"
            raise ConfigError(f"config.json: architectures: {other}, must be one of {kinds}")
