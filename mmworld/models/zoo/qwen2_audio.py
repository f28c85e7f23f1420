"""Qwen2-Audio (Chu et al. 2024): Whisper's encoder, a projection, a language model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from mmworld.attention import Mask
from mmworld.config import config, pick
from mmworld.fusion.projection import put
from mmworld.modalities.audio.whisper import WhisperEncoder
from mmworld.models.message import Message
from mmworld.models.zoo.conversation import like, processor, read, row, shown, spread
from mmworld.nn.position import positions
from mmworld.nn.state import KVState
from mmworld.text.decoder import Told
from mmworld.text.llama import Llama
from mmworld.types import Chunk, Takes
from mmworld.weights.keymap import KeyMap
from mmworld.weights.sizes import Depth, Width

TEMPLATE = """{%- set sounds = namespace(n=0) -%}
{%- for message in messages -%}
{%- if loop.first and message.role != 'system' -%}
{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
{%- endif -%}
{{ '<|im_start|>' + message.role + '\\n' }}
{%- for part in message.content -%}
{%- if part.type == 'audio' -%}
{%- set sounds.n = sounds.n + 1 -%}
{{ 'Audio ' ~ sounds.n ~ ': <|audio_bos|><|AUDIO|><|audio_eos|>\\n' }}
{%- else -%}
{{ part.text }}
{%- endif -%}
{%- endfor -%}
{{ '<|im_end|>\\n' }}
{%- endfor -%}
{{ '<|im_start|>assistant\\n' }}"""
"""How its processor writes a conversation; the vocabulary of its checkpoints brings a template that knows of words."""


@config
class Qwen2AudioConfig:
    """What config.json says under these names, beside those of its parts."""

    model_type: Literal["qwen2_audio"]
    audio_config: dict[str, Any]
    text_config: dict[str, Any]
    audio_token_index: int = 151_646


@config
class Qwen2AudioEncoderConfig:
    """What config.json says under these names."""

    d_model: Width = 1280
    encoder_layers: Depth = 32
    encoder_attention_heads: Width = 20
    encoder_ffn_dim: Width = 5120
    num_mel_bins: Width = 128
    max_source_positions: Width = 1500
    activation_function: Literal["gelu"] = "gelu"
    scale_embedding: Literal[False] = False


class Sound(NamedTuple):
    """Log-mel frames [T, M], of which the first `n` are of the sound and the others of what is after it, silence."""

    mel: Tensor
    n: int


class Qwen2Audio(Told):
    """A sound is so many tokens in the text of a language model, 25 a second.

    Args:
        source: what config.json says.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    takes: ClassVar[Takes] = Takes(("audio",), seconds=30.0)

    def __init__(self, source: Mapping[str, Any]) -> None:
        super().__init__()
        self.source, c = dict(source), pick(Qwen2AudioConfig, source, where="config.json")
        self.config = c
        hears = pick(Qwen2AudioEncoderConfig, c.audio_config, where="config.json: audio_config")
        self.encoder = WhisperEncoder(hears)
        self.language = Llama(c.text_config)
        self.projector = nn.Linear(hears.d_model, self.language.config.hidden_size)

    def hear(self, sounds: Sequence[Sound]) -> tuple[Tensor, ...]:
        """Tokens of the language model [N, D] of each sound, packed: pairs of the encoder's steps.

        Raises:
            ValueError: a sound has more frames than the places that were learned.
        """
        # A step sees two frames beyond its own, so what is further behind the sound is left out.
        parts = [self.encoder.steps(s.mel[None, : s.n + 2])[0, : (s.n + 1) // 2] for s in sounds]
        lengths = [len(p) for p in parts]
        mask = Mask(lengths=tuple(lengths))
        places = self.encoder.places(positions(mask, sum(lengths), parts[0].device))
        backbone = self.encoder.backbone
        steps = backbone((torch.cat(parts) + places)[None], mask, depth=backbone.config.depth)[0]
        pairs = [x[: len(x) // 2 * 2].unflatten(0, (len(x) // 2, 2)).mean(1) for x in steps.split(lengths)]
        heard = self.projector(backbone.norm(torch.cat(pairs)))
        return heard.split([len(p) for p in pairs])

    def begin(self, messages: Sequence[Message]) -> tuple[KVState, Tensor]:
        """Read a conversation, see `mmworld.models.message.Assistant.begin`."""
        ids, sounds = self.conversation(messages)
        return self.language.start(self.embed(ids, sounds))

    def conversation(self, messages: Sequence[Message]) -> tuple[Tensor, list[Sound]]:
        """A conversation as ids [1, T], and the sounds in it; raises as `begin` does."""
        sounds = [self._sound(c) for c in shown(messages, "audio")]
        counts = [(s.n + 1) // 2 // 2 for s in sounds]
        return row(self, spread(read(self, messages, TEMPLATE), self.config.audio_token_index, counts)), sounds

    def _sound(self, chunk: Chunk) -> Sound:
        prepare = processor(self, "audio")
        mel = like(self, prepare(chunk.data))
        return Sound(mel, min(-(-len(chunk.data) // prepare.hop_length), len(mel)))

    def embed(self, ids: Tensor, sounds: Sequence[Sound] = ()) -> Tensor:
        words = self.language.embed(ids)
        return put(torch.cat(self.hear(sounds)), words, ids == self.config.audio_token_index) if sounds else words

    @property
    def keymap(self) -> KeyMap:
        """Of `Qwen2AudioForConditionalGeneration`'s names, as they were released; later ones are read too."""
        own = KeyMap(
            {"projector.*": "multi_modal_projector.linear.*"},
            aliases={
                "model.language_model.": "language_model.model.",
                "model.audio_tower.": "audio_tower.",
                "model.multi_modal_projector.": "multi_modal_projector.",
                "lm_head.": "language_model.lm_head.",
            },
        )
        language = self.language.keymap.within("language.", "language_model.")
        return own | language | self.encoder.keymap.within("encoder.", "audio_tower.")
