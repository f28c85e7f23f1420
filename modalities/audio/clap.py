"""Sounds as CLAP was trained on them, as its preprocessor_config.json says."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from mmworld.config import config, pick
from mmworld.modalities.audio.features import mel_filters, mel_spectrum
from mmworld.modalities.audio.preprocess import mono

Length = Annotated[int, Field(gt=0, le=1 << 16)]


@config
class ClapFeatures:
    """Log-mel frames of so many seconds, as `ClapFeatureExtractor` says under these names.

    A shorter sound is repeated or followed by silence. Of a longer one it is drawn what is heard: one crop
    ("rand_trunc"), or three crops beside the whole, shrunk ("fusion"). The same seed gives the same crops: those that
    the reference draws once numpy has that seed.
    """

    feature_size: Annotated[int, Field(gt=0, le=512)] = 64
    sampling_rate: Literal[48_000] = 48_000
    hop_length: Length = 480
    max_length_s: Annotated[int, Field(gt=0, le=3600)] = 10
    fft_window_size: Annotated[Length, Field(multiple_of=2)] = 1024
    frequency_min: Annotated[float, Field(ge=0)] = 0.0
    frequency_max: Annotated[float, Field(gt=0)] = 14_000.0
    truncation: Literal["fusion", "rand_trunc"] = "fusion"
    padding: Literal["repeatpad", "repeat", "pad"] = "repeatpad"
    top_db: None = None

    def __post_init__(self) -> None:
        if self.truncation == "fusion" and self.feature_size != 64:
            raise ValueError(f"feature_size {self.feature_size}: what is shrunk has 64")

    @classmethod
    def read(cls, said: dict[str, Any], where: str) -> ClapFeatures:
        """What a file says under these names; ConfigError if it means another."""
        return pick(cls, said, where=where)

    @property
    def n_samples(self) -> int:
        return self.max_length_s * self.sampling_rate

    def __call__(self, sound: Tensor, seed: int = 0) -> Tensor:
        """Samples float32 [S] or [S, C] of 48 kHz, channels averaged, to frames [C, T, M]: of the whole and
        three crops with "fusion", otherwise of one.

        Args:
            seed: of what is drawn of a longer sound.
        """
        x, drawn = mono(sound), np.random.RandomState(seed)
        if self.truncation == "rand_trunc":
            at = drawn.randint(0, len(x) - self.n_samples + 1) if len(x) > self.n_samples else 0
            return self._frames(self._filled(x[at : at + self.n_samples]))[None]
        mel, n = self._frames(self._filled(x)), self.n_samples // self.hop_length + 1
        return mel.expand(4, -1, -1) if len(mel) <= n else _fused(mel, n, drawn)

    def _filled(self, x: Tensor) -> Tensor:
        """At least as long as the model hears."""
        if not 0 < len(x) < self.n_samples:
            return x if len(x) else x.new_zeros(self.n_samples)
        if self.padding != "pad":
            x = x.repeat(self.n_samples // len(x) + (self.padding == "repeat"))[: self.n_samples]
        return F.pad(x, (0, self.n_samples - len(x)))

    def _frames(self, x: Tensor) -> Tensor:
        """Decibels [T, M]."""
        scale = "htk" if self.truncation == "fusion" else "slaney"
        sizes = self.fft_window_size, self.sampling_rate, self.feature_size
        filters = mel_filters(*sizes, scale, self.frequency_min, self.frequency_max)
        mel = mel_spectrum(x, self.fft_window_size, self.hop_length, filters)
        return (10 * mel.clamp(min=1e-10).log10()).float()


def _fused(mel: Tensor, n: int, drawn: np.random.RandomState) -> Tensor:
    """All frames [T, M] shrunk to n, and n that begin in each third of where they can: [4, n, M]."""
    thirds = np.array_split(np.arange(len(mel) - n + 1), 3)
    starts = [int(drawn.choice(third if len(third) else [0])) for third in thirds]
    whole = F.interpolate(mel[None, None], (n, mel.shape[1]), mode="bilinear", align_corners=False)[0, 0]
    return torch.stack([whole, *(mel[i : i + n] for i in starts)])
