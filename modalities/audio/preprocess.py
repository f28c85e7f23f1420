"""Sounds as a borrowed model was trained on them, as its preprocessor_config.json says."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from mmworld.config import config, pick
from mmworld.modalities.audio.features import fbank, mel_filters, mel_spectrum, whisper_log_mel


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
        x = mono(sound)[: self.n_samples]
        return whisper_log_mel(F.pad(x, (0, self.n_samples - len(x))), n_mels=self.feature_size)


@config
class SpeechT5Features:
    """Samples as SpeechT5 hears them, and log-mel frames as it speaks, as `SpeechT5FeatureExtractor` says under these
    names."""

    do_normalize: bool = False
    sampling_rate: Literal[16_000] = 16_000
    num_mel_bins: Annotated[int, Field(gt=0, le=512)] = 80
    hop_length: Annotated[int, Field(gt=0, le=1000)] = 16
    win_length: Annotated[int, Field(gt=0, le=1000)] = 64
    win_function: Literal["hann_window"] = "hann_window"
    fmin: Annotated[float, Field(ge=0)] = 80.0
    fmax: Annotated[float, Field(gt=0)] = 7600.0
    mel_floor: Annotated[float, Field(gt=0)] = 1e-10

    @classmethod
    def read(cls, said: dict[str, Any], where: str) -> SpeechT5Features:
        """What a file says under these names; ConfigError if it means another."""
        return pick(cls, said, where=where)

    def __call__(self, sound: Tensor) -> Tensor:
        """Samples float32 [S] or [S, C], channels averaged, to [S]: of mean 0 and variance 1 if so it was trained."""
        x = mono(sound)
        if not self.do_normalize:
            return x
        wide = x.double()
        return ((wide - wide.mean()) / (wide.var(correction=0) + 1e-7).sqrt()).float()

    def frames(self, sound: Tensor) -> Tensor:
        """Samples float32 [S] or [S, C] to the log-mel frames [T, M] that one who says so speaks."""
        window, hop = (ms * self.sampling_rate // 1000 for ms in (self.win_length, self.hop_length))
        n_fft = 1 << (window - 1).bit_length()
        filters = mel_filters(n_fft, self.sampling_rate, self.num_mel_bins, "slaney", self.fmin, self.fmax)
        mel = mel_spectrum(mono(sound), window, hop, filters, exponent=1)
        return mel.clamp(min=self.mel_floor).log10().float()


@config
class ASTFeatures:
    """Kaldi's filter bank, as `ASTFeatureExtractor` says under these names.

    A shorter sound is followed by frames of zeros, of a longer one the beginning is taken.
    """

    sampling_rate: Literal[16_000] = 16_000
    num_mel_bins: Annotated[int, Field(gt=0, le=512)] = 128
    max_length: Annotated[int, Field(gt=0, le=1 << 16)] = 1024
    do_normalize: bool = True
    mean: float = -4.2677393
    std: Annotated[float, Field(gt=0)] = 4.5689974

    @classmethod
    def read(cls, said: dict[str, Any], where: str) -> ASTFeatures:
        """What a file says under these names; ConfigError if it means another."""
        return pick(cls, said, where=where)

    def __call__(self, sound: Tensor) -> Tensor:
        """Samples float32 [S] or [S, C], channels averaged, to frames [T, M] of a hundredth of a second."""
        x = mono(sound)[: 400 + 160 * (self.max_length - 1)]
        frames = fbank(x, n_mels=self.num_mel_bins, shape=1.0) if len(x) >= 400 else x.new_zeros(0, self.num_mel_bins)
        frames = F.pad(frames, (0, 0, 0, self.max_length - len(frames)))
        return (frames - self.mean) / (2 * self.std) if self.do_normalize else frames


def mono(sound: Tensor) -> Tensor:
    """Samples [S] or [S, C] to [S], channels averaged."""
    return sound.mean(1) if sound.ndim > 1 else sound
