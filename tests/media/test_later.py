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
from mmworld.media.later import repaired
from mmworld.media.pictures import Frame, Pictures
from mmworld.media.read import read
from mmworld.media.sound import WARM, Samples, Sound

SECONDS, FPS, GOP = 12.0, 25, 15
FILM = {"options": {"g": str(GOP), "bf": "2", "preset": "ultrafast"}, "fps": FPS}
OPEN = {"options": {"g": str(GOP), "bf": "3", "x264-params": "open-gop=1:b-adapt=0"}, "fps": FPS}
OTHERS = {
    "libx265": {"g": str(GOP), "preset": "ultrafast", "x265-params": "log-level=none:open-gop=1"},
    "libvpx-vp9": {"g": str(GOP), "deadline": "realtime", "cpu-used": "8"},
    "libsvtav1": {"g": str(GOP), "preset": "12"},
}


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
        case (("mp4" | "matroska"), ["h264", "open"]):
            return clip(n, container=kind, **OPEN)
        case (("mp4" | "matroska"), [codec]) if codec in OTHERS:
            return clip(n, container=kind, codec=codec, options=OTHERS[codec], fps=FPS)
        case (("mp4" | "matroska" | "mpegts"), ["h264", codec, *late]):
            sound = {"sound": noise(48_000, 1), "sound_rate": 48_000, "sound_codec": codec}
            return clip(n, container=kind, sound_start=sum(map(float, late)), **sound, **FILM)
        case _, [codec, rate]:
            return sound_file(noise(int(rate)), int(rate), codec=codec, container=kind)
    raise LookupError(name)


SOUGHT = ["mp4 h264", "matroska h264", "wav pcm_s16le 48000", "wav pcm_s16le 44100", "flac flac 44100"]
SOUGHT += ["matroska h264 open", "mp4 libx265", "matroska libvpx-vp9", "mp4 libsvtav1"]
SOUGHT += ["aiff pcm_s16be 22050", "w64 pcm_s24le 48000"]
HALF = ["mp4 h264 aac", "matroska h264 aac", "mp4 h264 aac 0.7"]
"""Whose sound is decoded from its beginning, and their pictures are not."""
WHOLE = ["mpegts h264 aac", "mp3 libmp3lame 44100", "ogg libopus 48000", "mp4 aac 44100", "matroska flac 44100"]


def pieces(media: Media, fps: float, since: float | None, start: float, end: float | None) -> Iterator[Any]:
    video = Pictures(fps, 32) if media.has_video else None
    audio = Sound(16_000, mono=True) if media.has_audio else None
    return read(media, video=video, audio=audio, start=start, end=end, since=since)


Found = tuple[list[Frame], float, Tensor]


def after(found: Iterator[Frame | Samples], since: float) -> Found:
    """The pictures from a time on, and the samples, with the time of the first."""
    both = list(found)
    sound = [p for p in both if isinstance(p, Samples)]
    frames = [f for f in both if isinstance(f, Frame) and f.time >= since - 1e-6]
    if not sound:
        return frames, 0.0, torch.zeros(0)
    x = torch.cat([s.data for s in sound])
    skip = max(0, int(np.ceil((since - sound[0].time) * 16_000 - 1e-3)))
    return frames, sound[0].time + skip / 16_000, x[skip:]


def same(want: Found, got: Found) -> None:
    (frames, time, sound), (shown, later, heard) = want, got
    assert [f.time for f in shown] == [f.time for f in frames]
    assert all(torch.equal(a.data, b.data) for a, b in zip(shown, frames, strict=True))
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
    media, since = open_media(made(name)), max(since, start)
    end = None if length is None else since + length
    want = after(pieces(media, fps, None, start, end), since)
    assert not repaired(media)
    same(want, after(pieces(media, fps, since, start, end), since))


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
        assert counts["audio"] <= (WARM + 1) * media.audio.rate / 1024


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
    """Of those in which something had to be repaired (one is cut, one is broken) this cannot be promised."""
    kinds, sound = (".mp4", ".mov", ".mkv", ".avi"), (".wav", ".flac", ".mp3", ".ogg")
    files = [p for p in sorted((shared_data / "media").rglob("*")) if p.suffix in kinds]
    files += [p for p in sorted((shared_data / "media").rglob("*")) if p.suffix in sound][:20]
    compared = 0
    for file in files:
        media = open_media(file)
        if (media.duration or 0) < since + 1:
            continue
        want = after(pieces(media, 4.0, None, 0.0, since + 1), since)
        if not repaired(media):
            same(want, after(pieces(media, 4.0, since, 0.0, since + 1), since))
            compared += 1
    assert compared > 5
