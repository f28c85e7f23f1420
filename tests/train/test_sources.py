"""Sources say what they show: captions are true of what is drawn, and a draw is a function of its generator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mmworld.render import Rendered
from mmworld.render.words import THEN
from mmworld.train import augment, real, sources, speech
from mmworld.train.store import Store

RATE = real.RATE
seeds = st.integers(0, 2**32 - 1)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def store(rows: list[NDArray], captions: list[str]) -> Store:
    ends = np.cumsum([len(r) for r in rows])
    return Store(np.concatenate(rows), ends, tuple((c,) for c in captions), tuple(map(str, range(len(rows)))))


def tone(hertz: float, seconds: float) -> NDArray[np.float32]:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE)).astype(np.float32)


HERTZ = {"someone says one": 300.0, "someone says two": 1200.0, "someone says three": 4800.0}
SPOKEN = store([tone(f, 0.4) for f in HERTZ.values()], list(HERTZ))
SOUNDS = store([tone(f, 5.0) for f in HERTZ.values() for _ in range(2)], [c for c in HERTZ for _ in range(2)])


def heard(clip: Rendered) -> list[str]:
    """The names of the tones in a clip, in order: what each half of second is loudest in."""
    (chunk,) = clip.chunks
    wave = chunk.data[:, 0].numpy()
    said: list[str] = []
    for at in range(0, len(wave) - 1600, 800):
        piece = wave[at : at + 1600] * np.hanning(1600)
        spectrum = np.abs(np.fft.rfft(piece))
        if (spectrum**2).sum() < 0.2 * _loudest(wave):
            continue
        log = np.log(spectrum.argmax() * RATE / 1600 + 1)
        name = min(HERTZ, key=lambda c: abs(np.log(HERTZ[c]) - log))
        said += [name] * (not said or said[-1] != name)
    return said


def _loudest(wave: NDArray[np.float32]) -> float:
    return max(
        float((np.abs(np.fft.rfft(wave[i : i + 1600] * np.hanning(1600))) ** 2).sum())
        for i in range(0, max(len(wave) - 1600, 1), 800)
    )


def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the changes of colour that may silence a pure tone."""
    monkeypatch.setattr(augment, "colour", lambda rng, wave, decibels: wave)
    monkeypatch.setattr(augment, "narrow", lambda wave, rate, highest: wave)
    monkeypatch.setattr(augment, "noise", lambda rng, wave, quietest, loudest: wave)
    monkeypatch.setattr(augment, "level", lambda rng, wave, *_: (wave / np.abs(wave).max()).astype(np.float32))


def test_digits_are_said_in_the_order_of_the_caption(monkeypatch: pytest.MonkeyPatch) -> None:
    plain(monkeypatch)
    draw = sources.digits([SPOKEN])
    clips = [draw(rng(i)) for i in range(40)]
    assert any(THEN in c.caption for c in clips)
    for clip in clips:
        told = clip.caption.split(THEN)
        assert heard(clip) == [t for i, t in enumerate(told) if i == 0 or told[i - 1] != t]


def test_environmental_sounds_are_those_of_the_caption(monkeypatch: pytest.MonkeyPatch) -> None:
    plain(monkeypatch)
    draw = sources.environmental(SOUNDS)
    clips = [draw(rng(i)) for i in range(16)]
    assert {c.caption.count(THEN) for c in clips} == {0, 1}
    for clip in clips:
        assert heard(clip) == clip.caption.split(THEN)
        assert clip.chunks[0].end <= 5.0 * 1.25 * 2 + 0.5


@pytest.mark.parametrize("draw", [sources.digits([SPOKEN]), sources.environmental(SOUNDS)])
def test_sounds_are_finite_and_within_full_scale(draw: sources.Draw) -> None:
    for i in range(20):
        (chunk,) = draw(rng(i)).chunks
        assert chunk.last
        assert chunk.data.isfinite().all()
        assert chunk.data.abs().max() <= 1
        assert chunk.end == pytest.approx(len(chunk.data) / RATE)


# --- radar


def recording(seconds: float) -> NDArray[np.float32]:
    """Ten sweeps a second of three points each; x is the time, intensity the number of the sweep."""
    t = np.repeat(np.arange(0, seconds, 0.1), 3)
    return np.column_stack((t, t, np.zeros((len(t), 3)), np.arange(len(t)) // 3)).astype(np.float32)


@given(st.floats(0, 8), st.floats(0.2, 3))
def test_a_window_is_half_open_and_starts_its_own_clock(start: float, seconds: float) -> None:
    rows = recording(12)
    clock = rows[:, 0].astype(np.float64)
    inside = rows[(clock >= start) & (clock < start + seconds)]
    got = sources.window(rows, start, seconds)
    assert got[:, 1:] == pytest.approx(inside[:, 1:])
    assert got[:, 0] == pytest.approx(inside[:, 0] - start, abs=1e-5)
    assert rows[0, 0] == 0  # the store's rows are left as they are


def test_sweeps_put_each_column_where_clouds_have_it() -> None:
    rows = np.array([[0.5, 1, 2, 3, 4, 5]], np.float32)
    chunk = sources.sweeps(rows)
    assert chunk.data.tolist() == [[1, 2, 3, 0, 0, 0, 0, 0, 0, 4, 5, 0.5]]
    assert (chunk.start, chunk.end, chunk.modality, chunk.last) == (0.0, 2.0, "points", True)


@given(seeds, st.sampled_from([1.5, 2.4, 9.0]))
def test_drawn_radar_lasts_two_seconds_in_order(seed: int, seconds: float) -> None:
    draw = sources.radar(store([recording(seconds)], ["a person is walking"]))
    clip = draw(rng(seed))
    (chunk,) = clip.chunks
    times = chunk.data[:, 11]
    assert clip.caption == "a person is walking"
    assert chunk.end == 2.0
    assert len(times)
    assert times.min() >= -1e-5
    assert times.max() <= 2 + 1e-4
    assert (times.diff() >= 0).all()


def test_radar_played_faster_is_more_of_the_recording() -> None:
    for rate in (0.85, 1.0, 1.15):
        rows = sources.augment_radar(rng(), recording(9), 3.0, rate)
        sweeps = rows[:, 5]
        assert sweeps.min() == pytest.approx(30, abs=1)
        assert sweeps.max() == pytest.approx(30 + 20 * rate, abs=2)
        assert rows[:, 0].max() == pytest.approx((sweeps.max() / 10 - 3) / rate, abs=1e-2)


# --- pictures


def photographs() -> Store:
    picture = np.zeros((1, 3, 96, 96), np.uint8)
    picture[..., :48] = 255  # bright on the left
    return store([picture], ["a light on the left"])


def side(frame: NDArray) -> str:
    return "left" if frame[..., :48].mean() > frame[..., 48:].mean() else "right"


def test_photographs_are_mirrored_with_their_words() -> None:
    draw = sources.photographs(photographs())
    seen = set()
    for i in range(30):
        clip = draw(rng(i))
        (chunk,) = clip.chunks
        assert chunk.modality == "image"
        assert clip.caption == f"a light on the {side(chunk.data[0].float().numpy())}"
        seen.add(clip.caption)
    assert len(seen) == 2


def test_pans_are_video_at_four_frames_a_second() -> None:
    clip = sources.pans(photographs())(rng(3))
    (chunk,) = clip.chunks
    assert chunk.modality == "video"
    assert 4 <= len(chunk.data) <= 20
    assert chunk.end == len(chunk.data) / sources.FPS


def test_captions_of_nothing_show_nothing() -> None:
    assert sources.captions(photographs())(rng()) == Rendered((), "a light on the left")


# --- all of them


@pytest.fixture
def sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small made-up sets in place of the real ones."""
    monkeypatch.setattr(real, "flickr8k", lambda data: photographs())
    monkeypatch.setattr(real, "esc10", lambda data, folds: SOUNDS)
    monkeypatch.setattr(real, "fsdd", lambda data, speakers: SPOKEN)
    monkeypatch.setattr(real, "radhar", lambda data: store([recording(9)], ["a person is walking"]))
    monkeypatch.setattr(speech, "synthetic_digits", lambda: None)


NAMES = ("scenes", "moments", "stills", "sounds", "sounding_scenes", "films", "shapes", "series")
REAL = ("flickr8k", "flickr8k_video", "captions", "esc10", "fsdd", "radhar", "pairs")


@pytest.mark.parametrize("name", NAMES + REAL)
def test_a_draw_is_a_function_of_its_generator(name: str, sets: None) -> None:
    draw = sources.build([name], Path(), [1], ["a"])[name]
    a, b, c = draw(rng(5)), draw(rng(5)), draw(rng(6))
    assert a.caption == b.caption
    assert a.caption
    assert all(x.data.equal(y.data) for x, y in zip(a.chunks, b.chunks, strict=True))
    assert all(x.last for x in a.chunks)
    if a.chunks:
        assert (a.caption, [x.data.shape for x in a.chunks]) != (c.caption, [x.data.shape for x in c.chunks]) or any(
            not x.data.equal(y.data) for x, y in zip(a.chunks, c.chunks, strict=True)
        )


def test_a_scene_that_sounds_is_at_times_seen_or_heard_alone() -> None:
    from mmworld.render import mixed

    kinds = set()
    for i in range(30):
        clip, whole = sources.sounding(rng(i)), mixed.clip(rng(i))
        halves = dict(zip(("video", "audio"), whole.caption.split(". "), strict=True))
        assert clip.caption == ". ".join(halves[c.modality] for c in clip.chunks)
        assert all(any(c.data.equal(w.data) for w in whole.chunks) for c in clip.chunks)
        kinds.add(tuple(c.modality for c in clip.chunks))
    assert kinds == {("video",), ("audio",), ("video", "audio")}


def test_pairs_name_what_is_seen_and_what_is_heard(sets: None) -> None:
    draw = sources.pairs(Path(), [1], ["a"])
    for i in range(12):
        clip = draw(rng(i))
        seen, heard = clip.caption.split(". ")
        first, second = clip.chunks
        assert first.modality in ("image", "video", "points")
        assert second.modality == "audio"
        assert all(
            t in HERTZ or "beep" in t or "tone" in t or "click" in t or "burst" in t or t == "silence"
            for t in heard.split(THEN)
        )
        assert not any(t in HERTZ for t in seen.split(THEN))
