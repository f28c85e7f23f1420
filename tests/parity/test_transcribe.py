"""What is said in files, by a tiny Whisper with random weights: the same as of the sound at once, whatever the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from clips import clip, sound_file, sound_of, tone

import mmworld
from mmworld.errors import MediaError, UsageError
from mmworld.media.audio import samples
from mmworld.media.budget import Budget
from mmworld.media.gate import open_media
from mmworld.modalities.audio.windows import Windows
from mmworld.models.captioner import Failure
from mmworld.models.zoo.whisper import longform
from mmworld.models.zoo.whisper.decoding import Decoding
from mmworld.types import Caption, Chunk
from mmworld.verbs.transcribe import Transcriber, languages

whispers = pytest.importorskip("whispers", reason="the extra 'dev' is not installed")
QUICK: dict[str, Any] = {"temperatures": (0.0,), "compression": None, "log_p": None, "no_speech": None}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whisper")
    whispers.whisper(folder, 7)
    return folder


def times(segments: list[Caption]) -> list[tuple[float, float]]:
    return [(s.start, s.end) for s in segments]


def test_a_speech(folder: Path, shared_data: Path) -> None:
    path, model = shared_data / "media" / "audio" / "jfk.flac", mmworld.load(folder)
    got = list(mmworld.transcribe(path, model=model, words=True, end=4.0, **QUICK))
    windows = Windows([sound_of(path, end=4.0)], length=2 * whispers.PLACES)
    assert got == list(longform.transcribe(model, windows, Decoding(words=True, **QUICK), source=str(path)))
    assert got
    for segment in got:
        assert "".join(w.text for w in segment.words).strip() == segment.text
        assert segment.language in whispers.LANGUAGES
        assert segment.source == str(path)
    assert times(got) == sorted(times(got))


def test_times_are_those_of_the_file(folder: Path) -> None:
    sound = tone(4.0, 16_000, hertz=300.0)
    later = clip(100, fps=25, sound=sound, sound_rate=16_000, sound_start=1.0)
    plain = list(mmworld.transcribe(sound_file(sound, 16_000), model=folder, **QUICK))
    assert all(s.end <= 5.0 for s in plain)
    assert next(mmworld.transcribe(later, model=folder, **QUICK)).start >= 0.9
    cut = list(mmworld.transcribe(sound_file(sound, 16_000), model=folder, start=1.5, end=3.0, **QUICK))
    assert cut
    assert all(1.5 <= s.start <= 4.0 for s in cut)


def test_no_more_is_read_than_a_window_ahead(folder: Path) -> None:
    seen: list[Chunk] = []
    made = mmworld.transcribe(sound_file(tone(60.0, 16_000), 16_000), model=folder, tap=seen.append, **QUICK)
    next(made)
    assert seen[-1].end < 2.0


def test_what_came_before_a_fault_is_given(folder: Path) -> None:
    whole = sound_file(tone(3.0, 16_000), 16_000)
    got: list[Caption] = []
    media = open_media(whole, budget=Budget(seconds=2))
    with pytest.raises(MediaError, match="more than 2 s"):
        got.extend(mmworld.transcribe(media, model=folder, **QUICK))
    assert got
    failure, *rest = Transcriber(mmworld.load(folder), Decoding(**QUICK)).stream_many([clip(5), whole])
    assert isinstance(failure, Failure)
    assert "no audio" in str(failure.error)
    assert rest


def test_where_nobody_speaks_nothing_is_listened_to(folder: Path, shared_data: Path) -> None:
    pytest.importorskip("google.protobuf", reason="the extra 'onnx' is not installed")
    vad, media = shared_data / "weights" / "silero_vad" / "silero_vad.onnx", shared_data / "media"
    speech = [p.data for p in samples(open_media(media / "audio" / "jfk.flac"), rate=16_000, mono=True, end=3.0)]
    late = sound_file(torch.cat([torch.zeros(40_000, 1), *speech]).numpy(), 16_000)
    assert next(mmworld.transcribe(late, model=folder, **QUICK)).start < 1.0
    assert 2.5 < next(mmworld.transcribe(late, model=folder, vad=vad, **QUICK)).start < 4.0
    car = media / "aligned_imagebind" / "car_audio.wav"
    assert list(mmworld.transcribe(car, model=folder, vad=vad, **QUICK)) == []


def test_the_likeliest_language_is_transcribed(folder: Path) -> None:
    sound = sound_file(tone(1.5, 16_000), 16_000)
    found = languages(sound, model=folder)
    assert list(found) == sorted(found, key=lambda code: -found[code])
    assert set(found) == set(whispers.LANGUAGES)
    assert sum(found.values()) == pytest.approx(1)
    assert next(mmworld.transcribe(sound, model=folder, **QUICK)).language == next(iter(found))


def test_nothing_is_said_in_no_sound(folder: Path) -> None:
    assert list(mmworld.transcribe(sound_file(tone(0.005, 16_000), 16_000), model=folder)) == []


def test_a_model_that_cannot(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot write down what is said .*Whisper"):
        mmworld.transcribe(b"", model="nano")
