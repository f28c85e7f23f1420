"""Voice activity: the released detector on real sounds, in any pieces; hysteresis as a pattern of chunks."""

from __future__ import annotations

import re
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from clips import sound_file, sound_of, tone
from hypothesis import given
from hypothesis import strategies as st

from mmworld.errors import CheckpointError, MediaError
from mmworld.modalities.audio.speech import Heard, Hysteresis, Spans, speech_segments
from mmworld.modalities.audio.vad import SileroVAD, VADState
from mmworld.models.zoo.parity.equations.silero_vad import probabilities, tiny

FIGURES = {
    "audio/jfk.flac": 0.68,
    "audio/ljspeech/LJ001-0001.wav": 0.91,
    "aligned_imagebind/dog_audio.wav": 0.02,
    "aligned_imagebind/bird_audio.wav": 0.0,
    "aligned_imagebind/car_audio.wav": 0.0,
}
"""Share of chunks in which somebody speaks, as published beside the weights."""


@pytest.fixture(scope="module")
def released(shared_data: Path) -> Path:
    pytest.importorskip("google.protobuf", reason="the extra 'onnx' is not installed")
    return shared_data / "weights" / "silero_vad" / "silero_vad.onnx"


@pytest.mark.parametrize("rate", [16_000, 8_000])
@pytest.mark.parametrize("name", FIGURES)
def test_speech_in_real_sounds(name: str, rate: int, released: Path, shared_data: Path) -> None:
    p = SileroVAD.load(released, rate)(sound_of(shared_data / "media" / name, rate), VADState())
    assert float((p > 0.5).float().mean()) == pytest.approx(FIGURES[name], abs=0.01)


@pytest.mark.parametrize("rate", [16_000, 8_000])
def test_the_released_weights_give_what_the_equations_give(rate: int, released: Path, shared_data: Path) -> None:
    vad = SileroVAD.load(released, rate).double()
    x = sound_of(shared_data / "media" / "audio" / "jfk.flac", rate)[: 2 * rate].double()
    torch.testing.assert_close(vad(x, VADState()), probabilities(vad, x), atol=1e-9, rtol=0)


@given(data=st.data(), n=st.integers(0, 3000), rate=st.sampled_from([16_000, 8_000]))
def test_pieces_are_as_the_whole(data: st.DataObject, n: int, rate: int) -> None:
    vad, state = tiny(rate), VADState()
    x = torch.randn(n, dtype=torch.float64, generator=torch.Generator().manual_seed(n))
    whole = vad(x, VADState())
    assert len(whole) == n // vad.chunk
    got = []
    for piece in x.tensor_split(sorted(data.draw(st.lists(st.integers(0, n), max_size=6)))):
        fork = state.fork()
        got.append(vad(piece, state))
        assert torch.equal(vad(piece, fork), got[-1])
    torch.testing.assert_close(torch.cat(got), whole)


RULE = Hysteresis(begin=0.5, end=0.3, silence=3.0, least=2.0)


@given(levels=st.text("HML", max_size=40))
def test_hysteresis_is_a_pattern(levels: str) -> None:
    """Of chunks of a second that are high, low or in the middle: speech begins high, and ends at the first low one that
    is not followed by a high one within three.
    """
    spans = Spans(RULE, 1.0)
    for level in levels:
        spans.add({"H": 0.8, "M": 0.4, "L": 0.1}[level])
    spans.close()
    found = [m.span() for m in re.finditer(r"H([HM]|L[ML]{0,1}(?=H)|L[ML]?$)*", levels)]
    assert list(spans.over) == [(a, b) for a, b in found if b - a >= 2]


def test_segments_of_a_speech(released: Path, shared_data: Path) -> None:
    vad, path = SileroVAD.load(released), shared_data / "media" / "audio" / "jfk.flac"
    found = list(speech_segments(path, vad))
    p = vad(sound_of(path, 16_000), VADState())
    spoken = torch.zeros(len(p))
    step = vad.chunk / vad.rate
    for start, end in found:
        spoken[int(start / step) : int(end / step)] = 1
    assert float(((p > 0.5) == spoken.bool()).float().mean()) > 0.9
    assert all(a < b for a, b in found)
    assert all(a[1] <= b[0] for a, b in pairwise(found))
    late = list(speech_segments(path, vad, start=3.0, end=8.0))
    assert all(3.0 <= a < b <= 8.0 for a, b in late)
    assert list(speech_segments(shared_data / "media" / "aligned_imagebind" / "car_audio.wav", vad)) == []


def test_where_nobody_speaks_in_what_passes_by(released: Path, shared_data: Path) -> None:
    vad, rule = SileroVAD.load(released), Hysteresis(margin=0.2)
    path = shared_data / "media" / "audio" / "jfk.flac"
    x = torch.cat((torch.zeros(32_000), sound_of(path, 16_000)))
    heard = Heard(x.split(1600), vad, rule)
    assert torch.equal(torch.cat(list(heard)), x)
    first = next(speech_segments(path, vad, rule))[0]
    assert heard.quiet(0.0, 30.0) == pytest.approx(2.0 + first, abs=0.25)
    assert heard.quiet(0.0, 1.0) == 1.0
    assert heard.quiet(2.0 + first + 0.5, 30.0) == 0.0


def test_files_that_hold_no_detector(released: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="rate must be one of 16000, 8000, is 44100"):
        SileroVAD.load(released, 44_100)
    (tmp_path / "cut.onnx").write_bytes(released.read_bytes()[:-100_000])
    with pytest.raises(CheckpointError, match=r"cut\.onnx"):
        SileroVAD.load(tmp_path / "cut.onnx")


def test_sounds_that_are_none() -> None:
    vad = tiny(16_000).float()
    assert list(speech_segments(BytesIO(sound_file(tone(0.01, 16_000), 16_000)), vad)) == []
    with pytest.raises(MediaError):
        list(speech_segments(b"no sound", vad))
