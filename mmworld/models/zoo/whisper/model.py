"""Whisper (Radford et al. 2022): thirty seconds of sound to text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmworld.attention import CAUSAL
from mmworld.config import pick
from mmworld.modalities.audio.whisper import WhisperConfig, WhisperEncoder, names
from mmworld.modalities.audio.windows import Windows
from mmworld.models.message import Message
from mmworld.models.zoo.conversation import begun, heard, like, processor, row, vocabulary
from mmworld.models.zoo.whisper.marks import Marks, Said
from mmworld.nn.attention import CrossAttention, Pass
from mmworld.nn.layer import Layer
from mmworld.nn.position import Learned
from mmworld.nn.state import KVState
from mmworld.nn.transformer import Transformer
from mmworld.types import Caption, Takes
from mmworld.weights.keymap import Fuse, KeyMap, Place

if TYPE_CHECKING:
    from mmworld.models.zoo.whisper.decoding import Decoding
    from mmworld.models.zoo.whisper.longform import Quiet


@dataclass
class Watched(KVState):
    """A state that also keeps the queries [B, T, H, D] with which each layer last looked at its context."""

    queries: dict[int, Tensor] = field(default_factory=dict)


class Looking(CrossAttention):
    """Cross-attention that can be watched."""

    def forward(self, x: Tensor, run: Pass, layer: int) -> Tensor:
        """x [B, T, D] to [B, T, D]; ValueError if there is no context, given or held."""
        if isinstance(run.state, Watched):
            run.state.queries[layer] = self.q(x).unflatten(-1, (-1, self.head_dim))
        return super().forward(x, run, layer)


class Whisper(nn.Module):
    """An encoder of log-mel frames and a decoder of text that looks at it (figure 1).

    Args:
        source: what config.json says.

    Attributes:
        generation: what generation_config.json says.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    takes: ClassVar[Takes] = Takes(("audio",), seconds=30.0)
    generation: Mapping[str, Any] = MappingProxyType({})
    tokenizer: Any = None

    def __init__(self, source: Mapping[str, Any]) -> None:
        super().__init__()
        self.source, c = dict(source), pick(WhisperConfig, source, where="config.json")
        self.config = c
        self.encoder = WhisperEncoder(c)
        self.words = nn.Embedding(c.vocab_size, c.d_model)
        self.told = Learned(c.max_target_positions, c.d_model)
        up = c.decoder
        self.decoder = Transformer(up, layer=lambda _: Layer(up, cross=Looking(up)))

    def encode(self, mel: Tensor) -> Tensor:
        """Log-mel frames [B, T, M] to [B, T / 2, D], see `WhisperEncoder`."""
        return self.encoder(mel)

    @cached_property
    def said(self) -> Said:
        """What the checkpoint says of decoding."""
        return Said.read(self.source, self.generation)

    @cached_property
    def marks(self) -> Marks:
        """The ids that are no words; UsageError if the checkpoint does not say enough of them."""
        return Marks.read(self.said, vocabulary(self))

    def begin(self, messages: Sequence[Message]) -> tuple[KVState, Tensor]:
        """Hear the last sound, in the language that is spoken; an assistant's words are how the transcript begins.

        Raises:
            UsageError: there is no sound, or there is a question: this model writes down what it hears.
        """
        context = self.encode(like(self, processor(self, "audio")(heard(messages)))[None])
        spoken = self.languages(context)
        ids = self.marks.begin(next(iter(spoken), None), "transcribe", times=False)
        if text := begun(messages):
            ids += vocabulary(self).encode(f" {text}", whole=False)
        state = KVState()
        logits = self.sayable(self(row(self, ids), context, state)[:, -1])
        logits[:, list(self.marks.first)] = -torch.inf
        return state, logits

    def transcribe(
        self,
        sound: Iterable[Tensor],
        how: Decoding | None = None,
        *,
        quiet: Quiet | None = None,
        start: float = 0.0,
        source: str = "",
    ) -> Iterator[Caption]:
        """What is said in samples [S] at 16 kHz, however many, see `longform.transcribe`."""
        from mmworld.models.zoo.whisper import decoding, longform

        return longform.transcribe(
            self, self._windows(sound), how or decoding.DECODING, quiet=quiet, start=start, source=source
        )

    @torch.no_grad()
    def spoken(self, sound: Iterable[Tensor]) -> dict[str, float]:
        """How likely each language is spoken at the beginning of a sound, samples [S] at 16 kHz, see `languages`."""
        mel, _ = self._windows(sound).window(0)
        return self.languages(self.encode(like(self, mel)[None]))

    def _windows(self, sound: Iterable[Tensor]) -> Windows:
        return Windows(sound, self.config.num_mel_bins, 2 * self.config.max_source_positions)

    def languages(self, heard: Tensor) -> dict[str, float]:
        """How likely each language is spoken in what `encode` made of a sound [1, N, D], by its code, the likeliest
        first; empty of a model of English alone.
        """
        known = self.marks.languages
        if not known:
            return {}
        logits = self(row(self, [self.marks.start]), heard)[0, -1]
        p = logits[list(known.values())].float().softmax(-1).tolist()
        return dict(sorted(zip(known, p, strict=True), key=lambda pair: -pair[1]))

    def following(self, ids: Sequence[int], state: KVState) -> Tensor:
        """How the heads that follow the sound look at each of its places while they read ids [T], a text from its
        beginning: weights [H, T, N]. `state` holds the sound, of one row, and stays as it is.
        """
        watched = Watched(context=dict(state.context))
        self._hidden(row(self, ids), None, watched)
        above = range(self.config.decoder_layers // 2, self.config.decoder_layers)
        every = ((layer, head) for layer in above for head in range(self.config.decoder_attention_heads))
        heads = self.said.alignment_heads or tuple(every)
        return torch.stack([_weights(watched, layer, head) for layer, head in heads])

    def forward(self, ids: Tensor, context: Tensor | None = None, state: KVState | None = None) -> Tensor:
        """Ids of the text so far [B, T] to the scores of those that follow [B, T, V].

        Args:
            context: what `encode` made of the sound [B, N, D]; a state holds it, so it is given once.
            state: of the text that the ids go on with; None is a fresh one.
        """
        return self._logits(self._hidden(ids, context, state))

    def read(self, ids: Tensor, state: KVState) -> Tensor:
        """Append ids [B, n] to the state's rows, which hold a context; logits [B, V] of the id that comes next,
        without those that are never said.
        """
        return self.sayable(self._logits(self._hidden(ids, None, state)[:, -1]))

    def _hidden(self, ids: Tensor, context: Tensor | None, state: KVState | None) -> Tensor:
        at = torch.arange(ids.shape[1], device=ids.device) + (len(state) if state is not None else 0)
        return self.decoder(self.words(ids) + self.told(at), CAUSAL, state, context)

    def sayable(self, logits: Tensor) -> Tensor:
        """Logits [B, V], -inf in place where a model with a vocabulary never says an id."""
        if self.tokenizer is not None:
            logits[:, list(self.marks.never)] = -torch.inf
        return logits

    def _logits(self, x: Tensor) -> Tensor:
        return F.linear(x, self.words.weight)

    @property
    def keymap(self) -> KeyMap:
        """Of `WhisperForConditionalGeneration`'s names."""
        at, cross, dim = "decoder.layers.{i}", "model.decoder.layers.{i}.encoder_attn", self.config.d_model
        table: dict[str, Place] = {
            "words.weight": "model.decoder.embed_tokens.weight",
            "told.table.weight": "model.decoder.embed_positions.weight",
            **names("decoder.", "model.decoder.", dim),
            f"{at}.cross.q.*": f"{cross}.q_proj.*",
            f"{at}.cross.kv.weight": Fuse((f"{cross}.k_proj.weight", f"{cross}.v_proj.weight"), (dim,) * 2),
            f"{at}.cross.kv.bias": Fuse((None, f"{cross}.v_proj.bias"), (dim,) * 2),
            f"{at}.cross.out.*": f"{cross}.out_proj.*",
            f"{at}.norm_cross.*": "model.decoder.layers.{i}.encoder_attn_layer_norm.*",
        }
        return KeyMap(table, unused=("proj_out.weight",)) | self.encoder.keymap.within("encoder.", "model.encoder.")


def _weights(state: Watched, layer: int, head: int) -> Tensor:
    """Of one head [T, N]."""
    q, k = state.queries[layer][0, :, head], state.context[layer][0][0, :, head]
    return (q @ k.mT * q.shape[-1] ** -0.5).float().softmax(-1)
