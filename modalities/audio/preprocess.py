"""Sounds as a borrowed model was trained on them, as its preprocessor_config.json says."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from mmworld.config import config, pick
from mmworld.modalities.audio.features import whisper_log_mel


@config
class WhisperFeatures:
    """Log-mel frames of so many seconds, as `WhisperFeatureExtractor` says under these names.

    A shorter sound is followed by silence, of a longer one the beginning is taken.
    """

    feature_size: Annotated[int, Field(gt=0, le=512)] = 80
    chunk_length: Annotated[int, Field(gt=0, le=3600)] = 30
    sampling_rate: Literal[16_000] = 16_000
    hop_length: Literal[160] = 160
    n_fft: Literal[400] = 400
    padding_value: float = 0.0
    dither: float = 0.0

    def __post_init__(self) -> None:
        for name, value in (("padding_value", self.padding_value), ("dither", self.dither)):
            if value:
                raise ValueError(f"{name} {value} is not supported, only 0")

    @classmethod
    def read(cls, said: dict[str, Any], where: str) -> WhisperFeatures:
        """What a file says under these names; ConfigError if it means another."""
        return pick(cls, said, where=where)

    @property
    def n_samples(self) -> int:
        return self.chunk_length * self.sampling_rate

    def __call__(self, sound: Tensor) -> Tensor:
        """Samples float32 [S] or [S, C], channels averaged, to frames [T, M] of a hundredth of a second."""
        mono = sound.mean(1) if sound.ndim > 1 else sound
        mono = mono[: self.n_samples]
        return whisper_log_mel(F.pad(mono, (0, self.n_samples - len(mono))), n_mels=self.feature_size)
