"""Frames of a stream, window by window, are those of the whole sound."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from clips import sound_of
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from mmworld.modalities.audio.features import levelled, log10_mel
from mmworld.modalities.audio.preprocess import WhisperFeatures
from mmworld.modalities.audio.windows import Windows


def wave(n: int) -> torch.Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(n)) * 0.1


@given(data=st.data(), n=st.integers(300, 20_000))
def test_windows_are_those_of_the_whole(data: st.DataObject, n: int) -> None:
    x, length = wave(n), 30
    cuts = sorted(data.draw(st.lists(st.integers(0, n), max_size=8)))
    whole = log10_mel(F.pad(torch.cat((x[1:201].flip(0), x)), (0, 200 + 160 * 2 * length)))
    windows, at = Windows(x.tensor_split(cuts), length=length), 0
    while at <= n // 160:
        mel, real = windows.window(at)
        assert real == min(length, n // 160 - at)
        torch.testing.assert_close(mel, levelled(whole[at : at + length]), atol=1e-4, rtol=0)
        at += data.draw(st.integers(1, 2 * length))
    assert windows.window(at)[1] == 0


@pytest.mark.parametrize("n_mels", [80, 128])
def test_a_real_sound_is_prepared_as_by_the_processor(n_mels: int, shared_data: Path) -> None:
    pieces = sound_of(shared_data / "media" / "audio" / "jfk.flac").split(4096)
    mel, real = Windows(pieces, n_mels).window(0)
    assert real == sum(map(len, pieces)) // 160
    torch.testing.assert_close(mel, WhisperFeatures(n_mels)(torch.cat(pieces)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("n", [0, 1, 159, 160, 200, 201])
def test_hardly_any_sound(n: int) -> None:
    mel, real = Windows([wave(n)], length=10).window(0)
    assert mel.shape == (10, 80)
    assert mel.isfinite().all()
    assert real == n // 160


def test_what_is_held_is_a_window() -> None:
    """Hours of sound would come as these minutes do."""
    windows = Windows((wave(3200) for _ in range(600)), length=100)
    for at in range(0, 11_000, 250):
        assert windows.window(at)[1] == 100
        assert len(windows._held) <= 100 + 3200 // 160
