"""Samples and frames as SpeechT5's own processor makes them, from drawn sounds and real ones."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from clips import sound_of
from hypothesis import given
from hypothesis import strategies as st

from mmworld.errors import ConfigError
from mmworld.models.zoo import processors

hf = pytest.importorskip("transformers", reason="the extra 'dev' is not installed")
SOUNDS = "jfk.flac", "languagebind_0.wav", "ljspeech/LJ001-0001.mp3", "speechbrain/spk1_snt1.wav"


@lru_cache(maxsize=4)
def both(folder: Path, **said: Any) -> tuple[Any, Any]:
    theirs = hf.SpeechT5FeatureExtractor(**said)
    theirs.save_pretrained(folder)
    return processors.read(folder)["audio"], theirs


def check(ours: Any, theirs: Any, x: torch.Tensor) -> None:
    told = theirs(audio=x.numpy(), audio_target=x.numpy(), sampling_rate=16_000, return_tensors="pt")
    for got, want in ((ours(x), told["input_values"][0]), (ours.frames(x), told["labels"][0])):
        assert got.shape == want.shape
        assert float((got - want).abs().max()) <= 1e-3


@pytest.mark.parametrize("name", SOUNDS)
def test_real_sounds(name: str, shared_data: Path, tmp_path: Path) -> None:
    check(*both(tmp_path, do_normalize=True), sound_of(shared_data / "media" / "audio" / name))


@given(
    n=st.integers(1, 20_000),
    seed=st.integers(0, 99),
    loudness=st.sampled_from([0.0, 1e-4, 0.1, 1.0]),
    normal=st.booleans(),
)
def test_sounds_of_any_length(
    n: int, seed: int, loudness: float, normal: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    x = torch.randn(n, generator=torch.Generator().manual_seed(seed)).clamp(-1, 1) * loudness
    check(*both(tmp_path_factory.getbasetemp(), do_normalize=normal, win_length=20, fmin=0, fmax=8000), x)


def test_what_is_not_built_is_refused(tmp_path: Path) -> None:
    hf.SpeechT5FeatureExtractor(win_function="hamming_window").save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="win_function"):
        processors.read(tmp_path)
