"""Log-mel spectra and filter banks of waveforms.

`log_mel`, `fbank` and `log10_mel` take whole frames only (frame j is samples [j * hop, j * hop + window)), so
`by_pieces` gives piece by piece what they give of the whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Scale = Literal["htk", "slaney"]


def hz_to_mel(hz: Tensor, scale: Scale = "htk") -> Tensor:
    """Hz to mel; the "slaney" scale is linear below 1 kHz and logarithmic above (Slaney 1998, Auditory Toolbox)."""
    if scale == "htk":
        return 2595.0 * torch.log10(1.0 + hz / 700.0)
    return torch.where(hz < 1000, hz * 3 / 200, 15 + 27 * torch.log(hz.clamp(min=1) / 1000) / math.log(6.4))


def mel_to_hz(mel: Tensor, scale: Scale = "htk") -> Tensor:
    """The inverse of `hz_to_mel`."""
    if scale == "htk":
        return 700.0 * (10 ** (mel / 2595.0) - 1.0)
    return torch.where(mel < 15, mel * 200 / 3, 1000 * torch.exp((mel - 15) * math.log(6.4) / 27))


def _triangles(x: Tensor, corners: Tensor) -> Tensor:
    """Filter i rises from corner i to i + 1 and falls to i + 2 [len(x), len(corners) - 2]."""
    width = corners.diff()
    up = (x[:, None] - corners[:-2]) / width[:-1]
    down = (corners[2:] - x[:, None]) / width[1:]
    return torch.minimum(up, down).clamp(min=0)


def _corners(n_mels: int, low: float, high: float, scale: Scale) -> Tensor:
    """n_mels + 2 mels, evenly spaced from low to high Hz."""
    ends = hz_to_mel(torch.tensor([low, high], dtype=torch.float64), scale)
    return torch.linspace(float(ends[0]), float(ends[1]), n_mels + 2, dtype=torch.float64)


@lru_cache(maxsize=16)
def mel_filters(
    n_fft: int, rate: int, n_mels: int, scale: Scale = "htk", low: float = 0.0, high: float | None = None
) -> Tensor:
    """Triangular filters from `low` to `high` Hz [n_fft // 2 + 1, n_mels], None being half the rate; those of the
    "slaney" scale have equal area."""
    hz = torch.linspace(0, rate / 2, n_fft // 2 + 1, dtype=torch.float64)
    corners = mel_to_hz(_corners(n_mels, low, rate / 2 if high is None else high, scale), scale)
    filters = _triangles(hz, corners)
    return (filters * 2 / (corners[2:] - corners[:-2]) if scale == "slaney" else filters).float()


@lru_cache(maxsize=16)
def kaldi_filters(n_fft: int, rate: int, n_mels: int, low: float) -> Tensor:
    """Kaldi's filters, triangles over mel rather than Hz [n_fft // 2 + 1, n_mels]."""
    hz = torch.linspace(0, rate / 2, n_fft // 2 + 1, dtype=torch.float64)
    filters = _triangles(hz_to_mel(hz), _corners(n_mels, low, rate / 2, "htk"))
    filters[-1] = 0
    return filters.float()


@lru_cache(maxsize=16)
def _hann(window: int, device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.hann_window(window, dtype=dtype, device=device)


def power(frames: Tensor, n_fft: int) -> Tensor:
    """Power spectrum of windowed frames [..., window], zero-padded to n_fft: [..., n_fft // 2 + 1]."""
    spectrum = torch.fft.rfft(frames, n=n_fft)
    return spectrum.real.square() + spectrum.imag.square()


def log_mel(
    samples: Tensor, *, rate: int = 16_000, n_fft: int = 512, window: int = 400, hop: int = 160, n_mels: int = 64
) -> Tensor:
    """log(mel + 1e-6) of a Hann-windowed power spectrum, HTK mel.

    Args:
        samples: float32 [..., S] in [-1, 1].

    Returns:
        [..., 1 + (S - window) // hop, n_mels].
    """
    frames = samples.unfold(-1, window, hop) * _hann(window, samples.device)
    return (power(frames, n_fft) @ mel_filters(n_fft, rate, n_mels).to(samples.device) + 1e-6).log()


def fbank(
    samples: Tensor,
    *,
    rate: int = 16_000,
    n_fft: int = 512,
    window: int = 400,
    hop: int = 160,
    n_mels: int = 80,
    shape: float = 0.85,
) -> Tensor:
    """Kaldi's log filter bank without dither: each frame less its mean, pre-emphasised by 0.97, windowed.

    Args:
        samples: float32 [..., S], in whatever scale the model was trained on (Kaldi's own is +-32768).
        shape: power of Hann's window: 0.85 is Povey's, 1 his own.

    Returns:
        [..., 1 + (S - window) // hop, n_mels].
    """
    frames = samples.unfold(-1, window, hop)
    frames = frames - frames.mean(-1, keepdim=True)
    frames = frames - 0.97 * torch.cat((frames[..., :1], frames[..., :-1]), dim=-1)
    shaped = torch.hann_window(window, periodic=False, device=samples.device) ** shape
    mel = power(frames * shaped, n_fft) @ kaldi_filters(n_fft, rate, n_mels, 20.0).to(samples.device)
    return mel.clamp(min=torch.finfo(torch.float32).eps).log()


def whisper_log_mel(samples: Tensor, *, n_mels: int = 80) -> Tensor:
    """Whisper's log-mel (Radford et al. 2022, section 2.2): 16 kHz samples [..., S] to [..., S // 160, n_mels].

    It is clipped at 8 below the loudest value and its frames are centred, so it is of a whole segment, never of pieces.
    """
    padded = F.pad(samples[None], (200, 200), mode="reflect")[0]
    return levelled(log10_mel(padded, n_mels=n_mels)[..., : samples.shape[-1] // 160, :])


def log10_mel(samples: Tensor, *, n_mels: int = 80) -> Tensor:
    """log10 of Whisper's mel power, of whole frames: 16 kHz samples [..., S] to [..., 1 + (S - 400) // 160, n_mels]."""
    frames = samples.unfold(-1, 400, 160)
    filters = mel_filters(400, 16_000, n_mels, "slaney").to(samples.device)
    return (power(frames * _hann(400, samples.device), 400) @ filters).clamp(min=SILENCE).log10()


SILENCE = 1e-10
"""The power of what is silent, to `log10_mel`."""


def levelled(log: Tensor) -> Tensor:
    """What `log10_mel` made of a segment [..., T, n_mels] as Whisper hears it: relative to the loudest value of all."""
    return (torch.maximum(log, log.amax((-2, -1), keepdim=True) - 8) + 4) / 4


def mel_spectrum(samples: Tensor, window: int, hop: int, filters: Tensor, *, exponent: int = 2) -> Tensor:
    """Mel power, or with an exponent of 1 magnitude, of Hann-windowed frames around every `hop`-th sample: [S] to
    float64 [1 + S // hop, n_mels]. Beyond its ends the sound is mirrored.

    Args:
        filters: [n_fft // 2 + 1, n_mels].
    """
    n, n_fft = len(samples), 2 * (len(filters) - 1)
    at = torch.arange(-(window // 2), n + window // 2, device=samples.device) % max(2 * n - 2, 1)
    mirrored = samples[torch.where(at < n, at, 2 * n - 2 - at)]
    hann, filters = _hann(window, samples.device, torch.float64), filters.to(samples.device, torch.float64)
    parts = mirrored.unfold(0, window, hop).split(PART)
    return torch.cat([power(part * hann, n_fft) ** (exponent / 2) @ filters for part in parts])


PART = 4096
"""Frames of a long sound whose spectra are held at once."""


def by_pieces(
    feature: Callable[[Tensor], Tensor], pieces: Iterable[Tensor], *, window: int = 400, hop: int = 160
) -> Iterator[Tensor]:
    """`feature` (one of those) of a stream in pieces [S]: pieces [T, n_mels] of what it gives of the whole."""
    held: Tensor | None = None
    for piece in pieces:
        held = piece if held is None else torch.cat((held, piece))
        n = 1 + (len(held) - window) // hop if len(held) >= window else 0
        if n:
            yield feature(held)
            held = held[n * hop :].clone()
