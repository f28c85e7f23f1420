"""Log-mel frames as Whisper's own processor makes them, from drawn sounds and real ones."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clips import sound_of
from hypothesis import given
from hypothesis import strategies as st

from mmworld.errors import ConfigError
from mmworld.modalities.audio.features import by_pieces, levelled, log10_mel, mel_filters
from mmworld.models.zoo import processors

hf = pytest.importorskip("transformers", reason="the extra 'dev' is not installed")
SOUNDS = "jfk.flac", "languagebind_0.wav", "ljspeech/LJ001-0001.mp3", "speechbrain/spk1_snt1.wav"


def sound(folder: Path, name: str) -> torch.Tensor:
    """[S] at 16 kHz."""
    return sound_of(folder / "media" / "audio" / name)


@lru_cache(maxsize=4)
def both(n_mels: int, seconds: int, folder: Path) -> tuple[Any, Any]:
    theirs = hf.WhisperFeatureExtractor(feature_size=n_mels, chunk_length=seconds)
    theirs.save_pretrained(folder)
    return processors.read(folder)["audio"], theirs


def check(ours: Any, theirs: Any, x: torch.Tensor) -> None:
    told = theirs(x.numpy(), sampling_rate=16_000, return_tensors="pt")["input_features"][0].mT
    got = ours(x)
    assert got.shape == told.shape
    assert float((got - told).abs().max()) <= 1e-3


@pytest.mark.parametrize("n_mels", [80, 128])
@pytest.mark.parametrize("name", SOUNDS)
def test_real_sounds(name: str, n_mels: int, shared_data: Path, tmp_path: Path) -> None:
    check(*both(n_mels, 30, tmp_path), sound(shared_data, name))


@given(n=st.integers(1, 40_000), seed=st.integers(0, 99), loudness=st.sampled_from([0.0, 1e-4, 0.1, 1.0]))
def test_sounds_of_any_length(n: int, seed: int, loudness: float, tmp_path_factory: pytest.TempPathFactory) -> None:
    noise = torch.randn(n, generator=torch.Generator().manual_seed(seed)).clamp(-1, 1) * loudness
    check(*both(80, 2, tmp_path_factory.getbasetemp()), noise)


def test_channels_are_averaged(tmp_path: Path) -> None:
    ours, _ = both(80, 1, tmp_path)
    two = torch.randn(9000, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ours(two), ours(two.mean(1)))


@pytest.mark.parametrize("n_mels", [80, 128])
def test_filters_are_those_that_were_released(n_mels: int, shared_data: Path) -> None:
    with np.load(shared_data / "tokenizers" / "whisper" / "mel_filters.npz") as file:
        torch.testing.assert_close(
            mel_filters(400, 16_000, n_mels, "slaney").mT, torch.from_numpy(file[f"mel_{n_mels}"])
        )


@given(data=st.data(), n=st.integers(400, 3000))
def test_frames_come_piece_by_piece(data: st.DataObject, n: int) -> None:
    x = torch.randn(n, generator=torch.Generator().manual_seed(n))
    pieces = x.tensor_split(sorted(data.draw(st.lists(st.integers(0, n), max_size=8))))
    torch.testing.assert_close(torch.cat(list(by_pieces(log10_mel, pieces))), log10_mel(x), atol=1e-4, rtol=1e-5)


def test_silence_is_even() -> None:
    assert len(levelled(log10_mel(torch.zeros(1600))).unique()) == 1


def test_what_is_not_built_is_refused(tmp_path: Path) -> None:
    hf.WhisperFeatureExtractor(dither=0.1).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"dither 0\.1 is not supported"):
        processors.read(tmp_path)
