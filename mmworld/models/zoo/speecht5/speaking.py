"""SpeechT5 that speaks what it reads or hears, in a voice."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmworld.attention import CAUSAL
from mmworld.config import pick
from mmworld.models.zoo.speecht5.parts import Encoder, Letters, SpeechT5Config, Waves, decoder, decoder_names, turns
from mmworld.nn.state import KVState
from mmworld.weights.keymap import KeyMap, Place
from mmworld.weights.names import batch_norm

STOP = 0.5
"""Probability from which on a frame is the last one."""
LONGEST = 20.0
"""Frames that are spoken for each step of the encoder, at most."""


class Prenet(nn.Module):
    """The frame that was spoken last, before the decoder: much of it is dropped, when it speaks too, so that it
    says what it is to say and does not just go on (Shen et al. 2018, section 2.2).
    """

    def __init__(self, c: SpeechT5Config) -> None:
        super().__init__()
        units = c.speech_decoder_prenet_units
        widths = [c.num_mel_bins, *[units] * (c.speech_decoder_prenet_layers - 1)]
        self.layers = nn.ModuleList(nn.Linear(n, units) for n in widths)
        self.last = nn.Linear(units, c.hidden_size)
        self.places = nn.Parameter(torch.ones(()))
        self.voice = nn.Linear(c.speaker_embedding_dim + c.hidden_size, c.hidden_size)
        self.share = c.speech_decoder_prenet_dropout

    def forward(self, frames: Tensor, voice: Tensor | None, drawn: torch.Generator, start: int = 0) -> Tensor:
        """Frames [B, T, M], the first of them the `start`-th that was spoken, and a voice [E] to [B, T, D].

        What is dropped of all frames so far is drawn anew each time, as the reference does: the same seed of a
        generator on the CPU gives the same speech as there.
        """
        at = torch.arange(start, start + frames.shape[1], device=frames.device)
        x = frames
        for layer in self.layers:
            y = F.relu(layer(x))
            kept = torch.empty(start + x.shape[1], y.shape[-1]).bernoulli_(self.share, generator=drawn)[start:]
            x = torch.where(kept.to(y.device) == 1, y, 0) / (1 - self.share)
        x = self.last(x)
        x = x + self.places * turns(at, x)
        if voice is None:
            return x
        known = F.normalize(voice, dim=-1).expand(*x.shape[:2], -1)
        return F.relu(self.voice(torch.cat((x, known), dim=-1)))


class Postnet(nn.Module):
    """What the decoder says, as frames: some at a time, then mended by convolutions over all (Shen et al. 2018)."""

    def __init__(self, c: SpeechT5Config) -> None:
        super().__init__()
        m, kernel = c.num_mel_bins, c.speech_decoder_postnet_kernel
        widths = [m, *[c.speech_decoder_postnet_units] * (c.speech_decoder_postnet_layers - 1), m]
        sizes = list(pairwise(widths))
        self.frames = nn.Linear(c.hidden_size, m * c.reduction_factor)
        self.ends = nn.Linear(c.hidden_size, c.reduction_factor)
        self.convs = nn.ModuleList(nn.Conv1d(a, b, kernel, padding=(kernel - 1) // 2, bias=False) for a, b in sizes)
        self.norms = nn.ModuleList(nn.BatchNorm1d(b) for _, b in sizes)

    def spoken(self, x: Tensor) -> Tensor:
        """x [B, T, D] to frames [B, T * R, M], not mended."""
        return self.frames(x).unflatten(-1, (self.ends.out_features, -1)).flatten(1, 2)

    def mended(self, frames: Tensor) -> Tensor:
        """All frames of an utterance [B, T, M] as they are to be heard."""
        x = frames.mT
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = norm(conv(x))
            x = x.tanh() if i < len(self.convs) - 1 else x
        return frames + x.mT


class Speaker(nn.Module):
    """Text, or speech, to the frames of speech in a voice.

    Args:
        source: what config.json says, of `SpeechT5ForTextToSpeech` or `SpeechT5ForSpeechToSpeech`.
        front: what stands before the encoder: `Letters` or `Waves`.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    def __init__(self, source: Mapping[str, Any], front: type[Letters | Waves]) -> None:
        super().__init__()
        self.source, c = dict(source), pick(SpeechT5Config, source, where="config.json")
        self.config = c
        self.encoder = Encoder(c, front(c))
        self.prenet, self.postnet = Prenet(c), Postnet(c)
        self.backbone = decoder(c)

    @property
    def reads(self) -> bool:
        """Whether it says what is written, not what it hears."""
        return isinstance(self.encoder.front, Letters)

    def encode(self, x: Tensor) -> Tensor:
        """Ids [B, T], or normalised samples [B, S] of 16 kHz, to what the decoder looks at [B, N, D]."""
        return self.encoder(x)

    def forward(self, frames: Tensor, context: Tensor, voice: Tensor | None, drawn: torch.Generator) -> Tensor:
        """Every R-th frame that was spoken, after one of zeros [B, T, M], to those that follow [B, T * R, M].

        Args:
            context: what `encode` made of what is said [B, N, D].
            voice: speaker embedding [E].
            drawn: from which it is drawn what the prenet drops.
        """
        return self.postnet.mended(
            self.postnet.spoken(self.backbone(self.prenet(frames, voice, drawn), CAUSAL, None, context))
        )

    @torch.no_grad()
    def speak(self, x: Tensor, voice: Tensor, seed: int = 0) -> Tensor:
        """The log-mel frames [T, M] of what is said: ids [1, N], or normalised samples [1, S].

        It ends where the model says so, at the latest after LONGEST frames for each step of the encoder, or when the
        places are used up that were trained.

        Args:
            voice: speaker embedding [E].
        """
        c, context, drawn = self.config, self.encode(x), torch.Generator().manual_seed(seed)
        most = min(int(context.shape[1] * LONGEST / c.reduction_factor), c.max_speech_positions)
        frames, state = [context.new_zeros(1, 1, c.num_mel_bins)], KVState()
        for i in range(max(most, 1)):
            told = self.prenet(frames[-1][:, -1:], voice, drawn, i)
            y = self.backbone(told, CAUSAL, state, None if i else context)
            frames.append(self.postnet.spoken(y))
            if float(self.postnet.ends(y).sigmoid().sum()) >= STOP:
                break
        return self.postnet.mended(torch.cat(frames[1:], dim=1))[0]

    @property
    def keymap(self) -> KeyMap:
        """Of `SpeechT5ForTextToSpeech`'s names."""
        prenet, postnet = "speecht5.decoder.prenet", "speech_decoder_postnet"
        table: dict[str, Place] = {
            "prenet.layers.{i}.*": f"{prenet}.layers.{{i}}.*",
            "prenet.last.*": f"{prenet}.final_layer.*",
            "prenet.places": f"{prenet}.encode_positions.alpha",
            "prenet.voice.*": f"{prenet}.speaker_embeds_layer.*",
            "postnet.frames.*": f"{postnet}.feat_out.*",
            "postnet.ends.*": f"{postnet}.prob_out.*",
            "postnet.convs.{i}.weight": f"{postnet}.layers.{{i}}.conv.weight",
            **batch_norm("postnet.norms.{i}", f"{postnet}.layers.{{i}}.batch_norm"),
        }
        own = KeyMap(table, unused=(f"{prenet}.encode_positions.pe",))
        return own | decoder_names(self.config.hidden_size) | self.encoder.keymap.within("encoder.", "")
