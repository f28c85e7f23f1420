"""What is read from later on is what lies there when all of the file is read, to the last bit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clips import clip, sound_file
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from mmworld.media.demux import Demuxer
from mmworld.media.gate import Media, open_media
from mmworld.media.later import SETTLE, repaired
from mmworld.media.pictures import Frame, Pictures
from mmworld.media.read import read
from mmworld.media.sound import Samples, Sound

SECONDS, FPS, GOP = 12.0, 25, 15
FILM = {"options": {"g": str(GOP), "bf": "2", "preset": "ultrafast"}, "fps": FPS}


def noise(rate: int, channels: int = 2) -> np.ndarray:
    x = np.random.default_rng(rate).standard_normal((round(SECONDS * rate), channels)) * 0.1
    return x.astype(np.float32)


@lru_cache
def made(name: str) -> bytes:
    kind, _, rest = name.partition(" ")
    n = round(SECONDS * FPS)
    match kind, rest.split():
        case (("mp4" | "matroska" | "mpegts"), ["h264"]):
            return clip(n, container=kind, **FILM)
        case (("mp4" | "matroska" | "mpegts"), ["h264", codec]):
            return clip(n, container=kind, sound=noise(48_000, 1), sound_rate=48_000, sound_codec=codec, **FILM)
        case _, [codec, rate]:
            return sound_file(noise(int(rate)), int(rate), codec=codec, container=kind)
    raise LookupError(name)


SOUGHT = ["mp4 h264", "matroska h264", "wav pcm_s16le 48000", "wav pcm_s16le 44100", "flac flac 44100"]
SOUGHT += ["aiff pcm_s16be 22050", "w64 pcm_s24le 48000"]
HALF = ["mp4 h264 aac", "matroska h264 aac"]
"""Whose sound is decoded from its beginning, and their pictures are not."""
WHOLE = ["mpegts h264 aac", "mp3 libmp3lame 44100", "ogg libopus 48000", "mp4 aac 44100", "matroska flac 44100"]


def pieces(media: Media, fps: float, since: float | None, start: float, end: float | None) -> Iterator[Any]:
    video = Pictures(fps, 32) if media.has_video else None
    audio = Sound(16_000, mono=True) if media.has_audio else None
    return read(media, video=video, audio=audio, start=start, end=end, since=since)


def after(found: Iterator[Frame | Samples], since: float) -> tuple[list[Frame], float, Tensor]:
    """The pictures from a time on, and the samples, with the time of the first."""
    both = list(found)
    sound = [p for p in both if isinstance(p, Samples)]
    frames = [f for f in both if isinstance(f, Frame) and f.time >= since - 1e-6]
    if not sound:
        return frames, 0.0, torch.zeros(0)
    x = torch.cat([s.data for s in sound])
    skip = max(0, int(np.ceil((since - sound[0].time) * 16_000 - 1e-3)))
    return frames, sound[0].time + skip / 16_000, x[skip:]


def check(media: Media, since: float, fps: float = 4.0, start: float = 0.0, end: float | None = None) -> None:
    want, time, sound = after(pieces(media, fps, None, start, end), since)
    assert not repaired(media)
    got, later, heard = after(pieces(media, fps, since, start, end), since)
    assert [f.time for f in got] == [f.time for f in want]
    assert all(torch.equal(a.data, b.data) for a, b in zip(got, want, strict=True))
    assert later == pytest.approx(time, abs=1e-9)
    assert torch.equal(heard, sound)


@pytest.mark.parametrize("name", SOUGHT + HALF + WHOLE)
@given(
    since=st.floats(0, SECONDS),
    fps=st.sampled_from([4.0, 2.0, 7.0]),
    start=st.sampled_from([0.0, 1.3]),
    length=st.none() | st.floats(0.1, 2),
)
@example(since=SECONDS - 0.01, fps=4.0, start=0.0, length=None)
def test_from_any_time_on_it_is_the_same(
    name: str, since: float, fps: float, start: float, length: float | None
) -> None:
    since = max(since, start)
    check(open_media(made(name)), since, fps, start, None if length is None else since + length)


def decoded(monkeypatch: pytest.MonkeyPatch, media: Media, since: float) -> Counter[str]:
    """Packets of each kind that are decoded until the first piece after a time is there."""
    counts: Counter[str] = Counter()
    decode = Demuxer._decode

    def counted(self: Demuxer, packet: Any) -> Iterator[Any]:
        counts[packet.stream.type] += 1
        return decode(self, packet)

    with monkeypatch.context() as patch:
        patch.setattr(Demuxer, "_decode", counted)
        next(p for p in pieces(media, 4.0, since, 0.0, None) if p.time >= since)
    return counts


@pytest.mark.parametrize("since", [4.0, 7.1, 11.0])
@pytest.mark.parametrize("name", SOUGHT + HALF)
def test_what_is_decoded_does_not_grow_with_the_time(monkeypatch: pytest.MonkeyPatch, name: str, since: float) -> None:
    media = open_media(made(name))
    counts = decoded(monkeypatch, media, since)
    assert counts["video"] <= 2 * GOP + FPS
    if name in SOUGHT and media.audio is not None:
        assert counts["audio"] <= (SETTLE + 1) * media.audio.rate / 1024


def test_what_was_repaired_is_told() -> None:
    media = open_media(made("mp4 h264"))
    list(pieces(media, 4.0, None, 0.0, None))
    assert not repaired(media)
    media.counts["interlaced frames"] += 1
    assert not repaired(media)
    media.counts["discontinuity"] += 1
    assert repaired(media)


@pytest.mark.slow
@pytest.mark.parametrize("since", [0.7, 3.3, 6.0])
def test_of_real_files(shared_data: Path, since: float) -> None:
    files = [
        p for p in sorted(shared_data.rglob("*")) if p.suffix in (".mp4", ".mkv", ".webm", ".wav", ".flac", ".mp3")
    ]
    for file in files[:: max(len(files) // 24, 1)]:
        media = open_media(file)
        if (media.duration or 0) > since + 1:
            check(media, since, end=since + 1)
