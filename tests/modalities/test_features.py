"""Spectra against torchaudio, Kaldi's recipe and Whisper's, whole and piece by piece."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmworld.modalities.audio.features import by_pieces, fbank, kaldi_filters, log_mel, mel_filters, whisper_log_mel

torchaudio = pytest.importorskip("torchaudio")


def wave(n: int, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    t = torch.arange(n) / 16_000
    return 0.3 * torch.sin(2 * torch.pi * (200 + 900 * t) * t) + 0.05 * torch.randn(n, generator=g)


@pytest.mark.parametrize(("scale", "norm"), [("htk", None), ("slaney", "slaney")])
@pytest.mark.parametrize(("n_fft", "n_mels"), [(512, 64), (400, 80), (400, 128)])
def test_filters_are_torchaudios(scale: str, norm: str | None, n_fft: int, n_mels: int) -> None:
    theirs = torchaudio.functional.melscale_fbanks(
        n_fft // 2 + 1, 0.0, 8000.0, n_mels, 16_000, norm=norm, mel_scale=scale
    )
    torch.testing.assert_close(mel_filters(n_fft, 16_000, n_mels, scale), theirs, atol=2e-5, rtol=0)


def test_log_mel_is_torchaudios() -> None:
    x = wave(8000)
    transform = torchaudio.transforms.MelSpectrogram(16_000, 512, 400, 160, n_mels=64, center=False)
    # torchaudio puts the window in the middle of the 512 samples of a frame
    theirs = (transform(torch.nn.functional.pad(x, (56, 56))).T + 1e-6).log()
    ours = log_mel(x)
    assert ours.shape == (1 + (8000 - 400) // 160, 64)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_fbank_is_kaldis() -> None:
    x = wave(8000) * 32768
    theirs = torchaudio.compliance.kaldi.fbank(x[None], num_mel_bins=80, dither=0.0, sample_frequency=16_000)
    torch.testing.assert_close(fbank(x), theirs, atol=1e-3, rtol=1e-4)
    banks, _ = torchaudio.compliance.kaldi.get_mel_banks(80, 512, 16_000.0, 20.0, 0.0, 100.0, -500.0, 1.0)
    torch.testing.assert_close(kaldi_filters(512, 16_000, 80, 20.0)[:256].T, banks, atol=2e-4, rtol=0)


@pytest.mark.parametrize("n_mels", [80, 128])
def test_whisper_log_mel_is_whispers(n_mels: int) -> None:
    transformers = pytest.importorskip("transformers")
    x = wave(160 * 300)
    extractor = transformers.WhisperFeatureExtractor(feature_size=n_mels, chunk_length=3)
    theirs = extractor(x.numpy(), sampling_rate=16_000, return_tensors="np")["input_features"][0].T
    np.testing.assert_allclose(whisper_log_mel(x, n_mels=n_mels).numpy(), theirs, atol=1e-4)


@pytest.mark.parametrize("feature", [log_mel, fbank])
@given(data=st.data(), n=st.integers(1, 3000))
def test_piece_by_piece_equals_the_whole(feature: object, data: st.DataObject, n: int) -> None:
    assert callable(feature)
    x = wave(n)
    cuts = sorted(data.draw(st.lists(st.integers(0, n), max_size=8)))
    pieces = list(by_pieces(feature, x.tensor_split(cuts)))
    if n < 400:
        assert not pieces
    else:
        torch.testing.assert_close(torch.cat(pieces), feature(x), atol=1e-4, rtol=1e-5)
