"""Laws of reading: a grid shows what is on screen, sound is seamless, one pass equals two, what is held is bounded."""

from __future__ import annotations

import gc
import io
import math
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from clips import clip, number, rotated, sound_file, tone
from hypothesis import given
from hypothesis import strategies as st

from mmworld.errors import MediaError, UsageError
from mmworld.media import demux
from mmworld.media.audio import samples
from mmworld.media.gate import open_media
from mmworld.media.pictures import Frame, Grid, Pictures, Times, cover
from mmworld.media.read import read
from mmworld.media.resample import Resampler
from mmworld.media.sound import Samples, Sound
from mmworld.media.video import frames, frames_at, uniform

PTS = np.cumsum(np.random.default_rng(3).integers(200, 3000, 120))
SHOWN = (PTS - PTS[0]) / 30_000
VFR = clip(120, pts=PTS.tolist(), options={"bf": "3", "g": "24"}, container="matroska")
MS = 2e-3  # Matroska rounds to milliseconds


def shown_at(time: float) -> set[int]:
    """The pictures that may be on screen at `time`, given the rounding of the container."""
    first = np.searchsorted(SHOWN, time - MS, side="right") - 1
    last = np.searchsorted(SHOWN, time + MS, side="right") - 1
    return set(range(max(int(first), 0), max(int(last), 0) + 1))


@given(st.floats(0.3, 120), st.floats(0, 5), st.floats(0.01, 4))
def test_a_grid_shows_what_is_on_screen(fps, start, length):
    found = list(frames(open_media(VFR), fps=fps, start=start, end=start + length))
    end = min(start + length, float(SHOWN[-1]))
    expected = [start + i / fps for i in range(math.ceil(length * fps)) if start + i / fps < end - MS]
    assert [f.time for f in found][: len(expected)] == expected
    assert len(found) <= len(expected) + max(1, fps * 0.2)
    for frame in found:
        assert number(frame.data) in shown_at(frame.time)


@given(st.lists(st.floats(-1, 8), min_size=1, max_size=8))
def test_single_frames_are_what_is_on_screen(times):
    found = frames_at(open_media(VFR), times)
    assert [f.time for f in found] == times
    for frame in found:
        assert number(frame.data) in shown_at(frame.time)


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg2video", "libvpx-vp9"])
def test_leaving_pictures_out_changes_none(codec, monkeypatch):
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    media = open_media(clip(90, codec=codec, container="matroska", options=options))
    with_skips = list(frames(media, fps=7.3))
    monkeypatch.setattr(demux, "LOOKAHEAD", 0)
    without = list(frames(media, fps=7.3))
    assert [f.time for f in with_skips] == [f.time for f in without]
    assert all(torch.equal(a.data, b.data) for a, b in zip(with_skips, without, strict=True))


@pytest.mark.parametrize(
    ("container", "codec"),
    [
        ("mp4", "libx264"),
        ("matroska", "libx264"),
        ("mpegts", "libx264"),
        ("avi", "mpeg4"),
        ("webm", "libvpx-vp9"),
        ("flv", "libx264"),
    ],
)
def test_starting_later_gives_the_same_pictures(container, codec):
    media = open_media(clip(200, codec=codec, container=container, options={"g": "45"}))
    whole = {round(f.time, 4): number(f.data) for f in frames(media)}
    for start in (0.03, 1.5, 2.99, 6.0):
        late = {round(f.time, 4): number(f.data) for f in frames(media, start=start)}
        assert late == {t: i for t, i in whole.items() if t >= start - 1e-6}
    times = [6.5, 0.5, 3.0, 0.0]
    assert [number(f.data) for f in frames_at(media, times)] == [
        max(i for t, i in whole.items() if t <= max(at, min(whole)) + 1e-6) for at in times
    ]


def test_decoded_frames_are_let_go():
    """None waits for the garbage collector: at 1080p each is 3 MB."""
    gc.collect()
    gc.disable()
    try:
        found = sum(1 for _ in frames(open_media(rotated(clip(90), 1)), size=16))
        alive = sum(isinstance(o, av.VideoFrame) for o in gc.get_objects())
    finally:
        gc.enable()
    assert found == 90
    assert alive < 10


def test_uniform_frames():
    media = open_media(clip(100, fps=25))
    assert [number(f.data) for f in uniform(media, 4)] == [12, 37, 62, 87]
    with pytest.raises(UsageError):
        uniform(media, 0)
    assert frames_at(media, []) == []
    for bad in ([math.nan], [math.inf]):
        with pytest.raises(UsageError):
            frames_at(media, bad)
    with pytest.raises(UsageError, match="known: av, decord"):
        frames_at(media, [0.0], backend="torchcodec")  # type: ignore[arg-type]


def test_decord_agrees(tmp_path):
    pytest.importorskip("decord")
    path = tmp_path / "v.mp4"
    path.write_bytes(clip(100, options={"bf": "3"}))
    media = open_media(path)
    times = [3.0, 0.0, 1.234, 9.9, 0.033]
    ours, theirs = frames_at(media, times, size=32), frames_at(media, times, size=32, backend="decord")
    assert [number(f.data) for f in ours] == [number(f.data) for f in theirs] == [90, 0, 37, 99, 0]
    with pytest.raises(MediaError, match="files only"):
        frames_at(open_media(clip(3)), [0.0], backend="decord")


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 512))
def test_a_cover_covers_and_keeps_the_aspect(width, height, size):
    w, h = cover((width, height), (size, size))
    assert min(w, h) == size
    assert max(w, h) <= 16 * size
    if max(width, height) <= 16 * min(width, height):
        assert abs(max(w, h) - size * max(width, height) / min(width, height)) <= 0.5


@given(st.floats(-100, 100), st.floats(0.1, 240), st.integers(0, 10_000))
def test_a_grid_is_its_own_inverse(start, fps, i):
    grid = Grid(start, fps)
    assert grid.index(grid.at(i)) == i
    assert Times([0.0, 1.0, 2.0]).index(0.5) == 1


RATES = st.sampled_from([8000, 11025, 16000, 22050, 44100, 48000])


@given(RATES, RATES, st.integers(1, 3), st.integers(1, 9000), st.lists(st.integers(1, 700), min_size=1, max_size=6))
def test_resampling_has_no_seams(rate_in, rate_out, channels, length, cuts):
    x = np.random.default_rng(length).standard_normal((length, channels)).astype(np.float32)
    whole, parts = Resampler(rate_in, rate_out), Resampler(rate_in, rate_out)
    expected = np.concatenate([whole.feed(x), whole.flush()])
    found, i, k = [], 0, 0
    while i < length:
        found.append(parts.feed(x[i : i + cuts[k % len(cuts)]]))
        i, k = i + cuts[k % len(cuts)], k + 1
    assert np.array_equal(np.concatenate([*found, parts.flush()]), expected)
    assert len(expected) == round(Fraction(length * rate_out, rate_in))


@given(RATES, RATES)
def test_resampling_keeps_the_tone_and_its_place(rate_in, rate_out):
    x, y = tone(0.5, rate_in), tone(0.5, rate_out)
    resampler = Resampler(rate_in, rate_out)
    found = np.concatenate([resampler.feed(x), resampler.flush()])
    n = min(len(found), len(y))
    assert np.abs(found[:n] - y[:n])[200:-200].max() < 2e-3


SOUND = tone(3.0, 16_000, channels=2)
WAV = sound_file(SOUND, 16_000)


@given(st.floats(0, 3.2), st.floats(0, 3))
def test_a_stretch_of_sound_is_a_slice_of_the_whole(start, length):
    pieces = list(samples(open_media(WAV), start=start, end=start + length))
    found = np.concatenate([p.data.numpy() for p in pieces]) if pieces else np.zeros((0, 2), np.float32)
    first, last = math.ceil(start * 16_000 - 1e-3), math.ceil((start + length) * 16_000 - 1e-3)
    assert np.abs(found - SOUND[first:last]).max(initial=0) < 1e-4
    assert len(found) == len(SOUND[first:last])
    if pieces:
        assert pieces[0].time == pytest.approx(first / 16_000, abs=1e-9)


BOTH = clip(90, sound=tone(3.0), options={"g": "30"})


@pytest.mark.parametrize("fps", [None, 5.0, 60.0])
@pytest.mark.parametrize(("start", "end"), [(0.0, None), (0.0, 1.0), (1.1, 2.0)])
def test_one_pass_equals_two_and_is_in_time_order(fps, start, end):
    together = list(read(open_media(BOTH), video=Pictures(fps), audio=Sound(16_000), start=start, end=end))
    assert [p.time for p in together] == sorted(p.time for p in together)
    pictures = [p for p in together if isinstance(p, Frame)]
    sound = torch.cat([p.data for p in together if isinstance(p, Samples)])
    alone = list(frames(open_media(BOTH), fps=fps, start=start, end=end))
    assert [p.time for p in pictures] == [p.time for p in alone]
    assert all(torch.equal(a.data, b.data) for a, b in zip(pictures, alone, strict=True))
    assert torch.equal(sound, torch.cat([p.data for p in samples(open_media(BOTH), rate=16_000, start=start, end=end)]))


def test_streams_that_lie_apart_are_bounded_and_said(monkeypatch):
    monkeypatch.setattr("mmworld.media.read.HELD_BYTES", 100_000)
    media = open_media(clip(90, sound=tone(0.5), sound_start=2.5, container="matroska", sound_codec="flac"))
    found = list(read(media, video=Pictures(), audio=Sound()))
    assert sum(isinstance(p, Frame) for p in found) == 90
    assert "streams far apart" in media.warnings


def test_the_first_piece_comes_long_before_the_end():
    class Counting(io.BytesIO):
        taken = 0

        def seekable(self) -> bool:
            return False

        def read(self, size: int | None = -1) -> bytes:
            data = super().read(size)
            self.taken += len(data)
            return data

        read1 = read

    noise = np.random.default_rng(0).integers(0, 255, (300, 64, 64, 3), np.uint8)
    whole = clip(300, pictures=noise, container="matroska", options={"crf": "5"})
    source = Counting(whole)
    media = open_media(source)
    next(frames(media))
    assert source.taken < len(whole) / 2


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: Pictures(fps=0), UsageError),
        (lambda: Pictures(size=10**6), UsageError),
        (lambda: Sound(rate=1), UsageError),
    ],
)
def test_requests_out_of_range(make, error):
    with pytest.raises(error):
        make()


def test_missing_streams_are_named():
    with pytest.raises(MediaError, match="no audio; has video"):
        list(samples(open_media(clip(3))))
    with pytest.raises(MediaError, match="no audio; is"):
        list(samples(open_media(b"ply\nformat ascii 1.0\n")))
