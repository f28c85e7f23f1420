"""Chance changes that leave the caption true. Pure: a numpy Generator and an array in, an array out."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Array = NDArray[Any]


def speed(rng: Generator, wave: Array, most: float) -> Array:
    """Played faster or slower by up to the factor `most`: tempo, pitch and formants change together."""
    factor = most ** rng.uniform(-1, 1)
    at = np.arange(0, len(wave) - 1, factor, dtype=np.float32)
    return np.interp(at, np.arange(len(wave), dtype=np.float32), wave).astype(np.float32)


def colour(rng: Generator, wave: Array, decibels: float) -> Array:
    """Through a random smooth equaliser of up to +-`decibels`, half the time with a band left out."""
    spectrum = np.fft.rfft(wave)
    n = len(spectrum)
    gain = np.interp(np.linspace(0, 1, n), np.linspace(0, 1, 7) ** 2, rng.uniform(-decibels, decibels, 7))
    response = 10 ** (gain / 20)
    if rng.random() < 0.5:
        low = rng.uniform(0.02, 0.8)
        response[int(low * n) : int(low * n * rng.uniform(1.1, 1.6))] *= 0.05
    return np.fft.irfft(spectrum * response, len(wave)).astype(np.float32)


def narrow(wave: Array, rate: int, highest: float) -> Array:
    """With nothing above `highest` Hz: a telephone, an old recording."""
    spectrum = np.fft.rfft(wave)
    spectrum[int(highest * len(wave) / rate) + 1 :] = 0
    return np.fft.irfft(spectrum, len(wave)).astype(np.float32)


def room(rng: Generator, wave: Array, rate: int) -> Array:
    """With the echo of a small room: a decaying noise tail."""
    decay = rng.uniform(0.02, 0.12)
    tail = rng.standard_normal(int(4 * decay * rate)) * np.exp(-np.arange(int(4 * decay * rate)) / (decay * rate))
    tail[0] = 0
    tail *= rng.uniform(0.1, 0.7) / (np.linalg.norm(tail) + 1e-9)
    n = 1 << int(np.ceil(np.log2(len(wave) + len(tail))))
    wet = np.fft.irfft(np.fft.rfft(wave, n) * np.fft.rfft(tail, n), n)[: len(wave)]
    return (wave + wet).astype(np.float32)


def noise(rng: Generator, wave: Array, quietest: float, loudest: float) -> Array:
    """With white to brown noise that lies between `quietest` and `loudest` decibels of the wave's own level."""
    hiss = rng.standard_normal(len(wave)).astype(np.float32)
    if rng.random() < 0.5:
        hiss = np.cumsum(hiss) - np.linspace(0, hiss.sum(), len(hiss))
    level = np.sqrt(np.mean(wave**2)) * 10 ** (rng.uniform(quietest, loudest) / 20)
    return (wave + hiss * level / (np.sqrt(np.mean(hiss**2)) + 1e-9)).astype(np.float32)


def level(rng: Generator, wave: Array, quietest: float = -24.0, loudest: float = -1.0) -> Array:
    """Scaled so that its peak lies between these decibels of full scale; the sign at random."""
    gain = 10 ** (rng.uniform(quietest, loudest) / 20) / (np.abs(wave).max() + 1e-6)
    return (wave * gain * rng.choice((-1, 1))).astype(np.float32)


def excerpt(rng: Generator, wave: Array, length: int) -> Array:
    """A stretch of at most `length` samples that is not much quieter than the whole."""
    if len(wave) <= length:
        return wave
    energy = np.concatenate(([0.0], np.cumsum(wave.astype(np.float64) ** 2)))
    starts = rng.integers(0, len(wave) - length + 1, 8)
    held = energy[starts + length] - energy[starts]
    good = np.flatnonzero(held >= 0.5 * energy[-1] * length / len(wave))
    start = starts[good[0]] if len(good) else starts[held.argmax()]
    return wave[start : start + length]


def surround(rng: Generator, wave: Array, before: int, after: int) -> Array:
    """Silence of up to so many samples added on either side."""
    pads = int(rng.integers(0, before + 1)), int(rng.integers(0, after + 1))
    return np.pad(wave, pads)


def view(rng: Generator, picture: Array, least: float = 0.7) -> Array:
    """A crop of at least the share `least` of each side, at the original size (nearest pixel of a twofold grid)."""
    _, height, width = picture.shape
    h, w = (int(s * rng.uniform(least, 1)) for s in (height, width))
    top, left = int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))
    return zoom(picture, top, left, h, w)


def zoom(picture: Array, top: float, left: float, height: float, width: float) -> Array:
    """The rectangle of a picture [C, H, W], in fractions of pixels, stretched over the whole; bilinear."""
    _, h, w = picture.shape
    y = np.clip(top + (np.arange(h) + 0.5) * height / h - 0.5, 0, h - 1).astype(np.float32)
    x = np.clip(left + (np.arange(w) + 0.5) * width / w - 0.5, 0, w - 1).astype(np.float32)
    y0, x0 = np.minimum(y.astype(int), h - 2), np.minimum(x.astype(int), w - 2)
    fy, fx = (y - y0)[:, None], x - x0
    rows = picture[:, y0] * (1 - fy) + picture[:, y0 + 1] * fy
    return (rows[:, :, x0] * (1 - fx) + rows[:, :, x0 + 1] * fx).astype(picture.dtype)


def jitter(rng: Generator, picture: Array) -> Array:
    """Brightness, contrast and the balance of colours changed a little; uint8 [..., 3, H, W]."""
    gain = rng.uniform(0.75, 1.25) * rng.uniform(0.93, 1.07, (3, 1, 1))
    shift = rng.uniform(-20, 20)
    table = np.arange(256, dtype=np.float32)
    tables = ((table - 128) * gain.reshape(3, 1) + 128 + shift).clip(0, 255).astype(np.uint8)
    return np.stack([tables[c][picture[..., c, :, :]] for c in range(3)], axis=-3)


def mirror(picture: Array, *captions: str) -> tuple[Any, ...]:
    """The picture flipped from left to right, and each of its captions with the two words swapped."""
    swapped = (re.sub(r"\b(left|right)\b", lambda m: "right" if m[0] == "left" else "left", c) for c in captions)
    return np.ascontiguousarray(picture[..., ::-1]), *swapped


def turn(rng: Generator, points: Array, degrees: float = 12.0) -> Array:
    """Points [P, 3 + F] turned a little about the vertical, mirrored half the time, scaled, shifted and thinned."""
    angle = np.radians(rng.uniform(-degrees, degrees))
    c, s = np.cos(angle) * rng.uniform(0.9, 1.1), np.sin(angle)
    keep = rng.random(len(points)) > rng.uniform(0, 0.35)
    out = points[keep].copy()
    x, y = out[:, 0].copy(), out[:, 1].copy()
    flip = rng.choice((-1, 1))
    out[:, 0], out[:, 1] = c * x - s * y, flip * (s * x + c * y)
    out[:, :3] += rng.normal(0, (0.1, 0.1, 0.05)) + rng.normal(0, 0.01, (len(out), 3))
    return out.astype(np.float32)
