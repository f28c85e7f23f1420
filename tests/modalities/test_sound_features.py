"""Frames as the processors of AST and CLAP make them, from drawn sounds and real ones."""

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
from mmworld.models.zoo import processors

hf = pytest.importorskip("transformers", reason="the extra 'dev' is not installed")
SOUNDS = "jfk.flac", "languagebind_0.wav", "ljspeech/LJ001-0001.mp3", "speechbrain/spk1_snt1.wav"
KINDS = [(t, p) for t in ("fusion", "rand_trunc") for p in ("repeatpad", "repeat", "pad")]


@lru_cache(maxsize=16)
def both(name: str, folder: Path, **said: Any) -> tuple[Any, Any]:
    theirs = getattr(hf, f"{name}FeatureExtractor")(**said)
    theirs.save_pretrained(folder)
    return processors.read(folder)["audio"], theirs


def sound(folder: Path, name: str, rate: int) -> torch.Tensor:
    return sound_of(folder / "media" / "audio" / name, rate)


def noise(n: int, seed: int, loudness: float) -> torch.Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(seed)).clamp(-1, 1) * loudness


def check(got: torch.Tensor, want: torch.Tensor) -> None:
    assert got.shape == want.shape
    assert float((got - want).abs().max()) <= 1e-3


def check_ast(ours: Any, theirs: Any, x: torch.Tensor) -> None:
    check(ours(x), theirs(x.numpy(), sampling_rate=16_000, return_tensors="pt")["input_values"][0])


def check_clap(ours: Any, theirs: Any, x: torch.Tensor, seed: int) -> None:
    state = np.random.get_state()
    np.random.seed(seed)
    told = theirs(x.numpy(), sampling_rate=theirs.sampling_rate, return_tensors="pt")["input_features"][0]
    np.random.set_state(state)
    check(ours(x, seed), told)


@pytest.mark.parametrize("name", SOUNDS)
def test_real_sounds_as_ast_hears_them(name: str, shared_data: Path, tmp_path: Path) -> None:
    check_ast(*both("AST", tmp_path), sound(shared_data, name, 16_000))


@given(n=st.integers(400, 20_000), seed=st.integers(0, 99), loudness=st.sampled_from([0.0, 0.1, 1.0]))
def test_drawn_sounds_as_ast_hears_them(
    n: int, seed: int, loudness: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "ast"
    check_ast(
        *both("AST", folder, max_length=60, num_mel_bins=40, do_normalize=seed % 2 == 0), noise(n, seed, loudness)
    )


def test_what_is_shorter_than_a_frame_is_silence(tmp_path: Path) -> None:
    ours, theirs = both("AST", tmp_path, max_length=9)
    assert ours(torch.ones(399)).shape == (9, 128)
    assert torch.allclose(ours(torch.ones(399)), torch.tensor(-theirs.mean / (2 * theirs.std)))


@pytest.mark.parametrize(("truncation", "seconds"), [("fusion", 10), ("fusion", 3), ("rand_trunc", 2)])
@pytest.mark.parametrize("name", SOUNDS)
def test_real_sounds_as_clap_hears_them(
    name: str, truncation: str, seconds: int, shared_data: Path, tmp_path: Path
) -> None:
    how = {"truncation": truncation, "max_length_s": seconds, "frequency_min": 50}
    check_clap(*both("Clap", tmp_path, **how), sound(shared_data, name, 48_000), 3)


@given(
    kind=st.sampled_from(KINDS),
    n=st.integers(1, 150_000),
    seed=st.integers(0, 99),
    loudness=st.sampled_from([0.0, 1e-4, 0.1, 1.0]),
)
def test_drawn_sounds_as_clap_hears_them(
    kind: tuple[str, str], n: int, seed: int, loudness: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    said = {"truncation": kind[0], "padding": kind[1], "max_length_s": 1}
    folder = tmp_path_factory.getbasetemp() / "clap"
    check_clap(*both("Clap", folder, **said), noise(n, seed, loudness), seed)


def test_the_same_seed_hears_the_same_crops(tmp_path: Path) -> None:
    ours, _ = both("Clap", tmp_path, max_length_s=1)
    x = noise(200_000, 0, 0.1)
    assert torch.equal(ours(x), ours(x))
    assert not torch.equal(ours(x, 1)[1:], ours(x, 2)[1:])
    assert torch.equal(ours(x, 1)[0], ours(x, 2)[0])


@pytest.mark.parametrize(
    ("name", "said"), [("Clap", {"top_db": 80}), ("Clap", {"sampling_rate": 8000}), ("AST", {"sampling_rate": 8000})]
)
def test_what_is_not_built_is_refused(name: str, said: dict[str, Any], tmp_path: Path) -> None:
    getattr(hf, f"{name}FeatureExtractor")(**said).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=next(iter(said))):
        processors.read(tmp_path)
