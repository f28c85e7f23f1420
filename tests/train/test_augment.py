"""Chance changes leave captions true: what they may change, and what they may not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmworld.train import augment

RATE = 16_000
seeds = st.integers(0, 2**32 - 1)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def tone(hertz: float, seconds: float = 1.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE)).astype(np.float32)


def pitch(wave: np.ndarray) -> float:
    return float(np.abs(np.fft.rfft(wave)).argmax() * RATE / len(wave))


def test_mirror_swaps_left_and_right_in_picture_and_words() -> None:
    picture = np.zeros((3, 4, 4), np.uint8)
    picture[:, :, 0] = 9
    flipped, caption = augment.mirror(picture, "a dog left of a cat turns right, leftover and bright stay")
    assert caption == "a dog right of a cat turns left, leftover and bright stay"
    assert (flipped[:, :, 3] == 9).all()
    assert (flipped[:, :, :3] == 0).all()


@given(st.lists(st.sampled_from(["left", "right", "a", "dog", "lefty"])).map(" ".join), seeds)
def test_mirroring_twice_changes_nothing(caption: str, seed: int) -> None:
    picture = rng(seed).integers(0, 256, (3, 5, 7), np.uint8)
    again, words = augment.mirror(*augment.mirror(picture, caption))
    assert words == caption
    assert np.array_equal(again, picture)


@given(seeds)
def test_speed_changes_pitch_and_length_alike(seed: int) -> None:
    wave = tone(1000)
    out = augment.speed(rng(seed), wave, 1.25)
    factor = len(wave) / len(out)
    assert 1 / 1.26 <= factor <= 1.26
    assert pitch(out) == pytest.approx(1000 * factor, rel=0.01)


@given(seeds)
def test_colour_keeps_length_and_pitch(seed: int) -> None:
    wave = tone(700)
    out = augment.colour(rng(seed), wave, 8)
    assert (out.dtype, out.shape) == (np.float32, wave.shape)
    gain = 20 * np.log10(np.linalg.norm(out) / np.linalg.norm(wave))
    assert -26.1 - 8 <= gain <= 8.1  # the equaliser, and the band left out
    assert pitch(out) == pytest.approx(700)


@given(seeds, st.floats(-40, -20), st.floats(-19, 0))
def test_noise_is_as_loud_as_asked(seed: int, quietest: float, loudest: float) -> None:
    wave = tone(440)
    added = augment.noise(rng(seed), wave, quietest, loudest) - wave
    level = 20 * np.log10(np.sqrt(np.mean(added**2)) / np.sqrt(np.mean(wave**2)))
    assert quietest - 0.1 <= level <= loudest + 0.1


@given(seeds)
def test_level_puts_the_peak_where_asked(seed: int) -> None:
    out = augment.level(rng(seed), 0.01 * tone(440), -24, -1)
    assert -24.1 <= 20 * np.log10(np.abs(out).max()) <= -0.9


@given(seeds, st.integers(1, 2000))
def test_an_excerpt_is_a_stretch_that_is_not_silent(seed: int, length: int) -> None:
    wave = np.concatenate((np.zeros(3000), np.arange(1, 1001), np.zeros(3000))).astype(np.float32)
    out = augment.excerpt(rng(seed), wave, length)
    assert len(out) == length
    starts = np.flatnonzero([np.array_equal(wave[i : i + length], out) for i in range(len(wave) - length + 1)])
    assert len(starts)


def test_a_loud_part_is_found() -> None:
    wave = np.concatenate((np.zeros(9000), np.ones(9000))).astype(np.float32)
    found = [augment.excerpt(rng(i), wave, 3000).sum() > 0 for i in range(50)]
    assert np.mean(found) > 0.9  # at random it would be 0.6


@given(seeds)
def test_a_room_only_adds_what_comes_after(seed: int) -> None:
    wave = np.zeros(4000, np.float32)
    wave[1000] = 1
    out = augment.room(rng(seed), wave, RATE)
    assert np.abs(out[:1000]).max() < 1e-5
    assert out[1000] == pytest.approx(1, abs=1e-4)
    assert np.abs(out[1001:]).max() > 1e-3


@given(seeds)
def test_surround_pads_with_silence(seed: int) -> None:
    out = augment.surround(rng(seed), np.ones(10, np.float32), 5, 7)
    inside = np.flatnonzero(out)
    assert np.array_equal(inside, np.arange(inside[0], inside[0] + 10))
    assert inside[0] <= 5
    assert len(out) - 10 - inside[0] <= 7


def test_zoom_is_the_rectangle_stretched() -> None:
    across = np.tile(np.arange(0, 96, dtype=np.float32), (3, 96, 1))
    out = augment.zoom(across, 24, 24, 48, 48)
    assert out[0, 10] == pytest.approx(24 + (np.arange(96) + 0.5) / 2 - 0.5, abs=1e-3)
    assert augment.zoom(across, 0, 0, 96, 96) == pytest.approx(across)


@given(seeds)
def test_views_and_jitter_keep_the_shape(seed: int) -> None:
    picture = rng(seed).integers(0, 256, (3, 96, 96), np.uint8)
    for out in (augment.view(rng(seed), picture), augment.jitter(rng(seed), picture)):
        assert (out.shape, out.dtype) == (picture.shape, np.uint8)
    video = np.stack([picture, picture])
    a, b = augment.jitter(rng(seed), video)
    assert np.array_equal(a, b)


def test_jitter_keeps_the_order_of_brightness() -> None:
    ramp = np.tile(np.arange(0, 250, 5, dtype=np.uint8), (3, 1, 1))
    for i in range(20):
        assert (np.diff(augment.jitter(rng(i), ramp).astype(int), axis=2) >= 0).all()


@given(st.integers(2, 4000), st.floats(300, 7000))
def test_narrow_takes_what_lies_above_and_leaves_the_rest(n: int, highest: float) -> None:
    wave = rng(n).standard_normal(n).astype(np.float32)
    before, after = np.fft.rfft(wave), np.fft.rfft(augment.narrow(wave, 16_000, highest))
    low = np.fft.rfftfreq(n, 1 / 16_000) <= highest
    assert np.allclose(after[low], before[low], atol=1e-3 * np.abs(before).max())
    assert np.abs(after[~low]).max(initial=0) < 1e-3 * np.abs(before).max()


@given(seeds)
def test_turned_points_keep_height_and_features(seed: int) -> None:
    points = np.random.default_rng(7).normal(0, 3, (400, 6)).astype(np.float32)
    points[:, 5] = np.arange(400)
    out = augment.turn(rng(seed), points)
    kept = points[out[:, 5].astype(int)]
    assert 0.5 * len(points) < len(out) <= len(points)
    assert np.array_equal(out[:, 3:], kept[:, 3:])
    assert (np.diff(out[:, 5]) > 0).all()
    lift = out[:, 2] - kept[:, 2]
    assert lift == pytest.approx(np.full(len(out), lift.mean()), abs=0.08)
    assert np.linalg.norm(out[:, :2] - out[:, :2].mean(0)) == pytest.approx(
        np.linalg.norm(kept[:, :2] - kept[:, :2].mean(0)), rel=0.13
    )
