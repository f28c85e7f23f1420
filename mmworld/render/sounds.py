"""Beeps, sweeps, bursts and clicks, in order, at any sample rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray

from mmworld.render.words import THEN, Rendered, noun
from mmworld.types import Chunk

Array = NDArray[np.floating[Any]]
COUNTED = ("low beep", "high beep", "click", "burst of noise")
LONG = ("rising tone", "falling tone", "trembling tone")


@dataclass(frozen=True)
class Sound:
    """`count` pulses of `length` seconds, one each `step` seconds, from `start` on.

    Attributes:
        low, high: Hz at the start and at the end of a tone.
        gain: peak amplitude.
        seed: of its noise and phase.
    """

    name: str
    count: int
    start: float
    length: float
    step: float
    low: float
    high: float
    gain: float
    seed: int

    @property
    def end(self) -> float:
        return self.start + (self.count - 1) * self.step + self.length

    @property
    def phrase(self) -> str:
        if self.name == "burst of noise" and self.count > 1:
            return noun("burst", self.count) + " of noise"
        return noun(self.name, self.count)


def clip(rng: Generator, *, rate: int = 16_000) -> Rendered:
    """One to three sounds in order, or now and then silence (faint noise at most)."""
    sounds = draw_all(rng, int(rng.integers(1, 4))) if rng.random() > 0.06 else []
    duration = (sounds[-1].end if sounds else float(rng.uniform(0.8, 4.0))) + float(rng.uniform(0.2, 0.6))
    return Rendered((audio(rng, sounds, duration, rate),), caption(sounds))


def caption(sounds: Sequence[Sound]) -> str:
    return THEN.join(s.phrase for s in sounds) or "silence"


def draw_all(rng: Generator, n: int) -> list[Sound]:
    """n sounds, one after the other, with 0.35 to 0.7 s between; neighbours differ in kind."""
    sounds: list[Sound] = []
    clock = float(rng.uniform(0.1, 0.5))
    for _ in range(n):
        sounds.append(draw(rng, clock, unlike=sounds[-1].name if sounds else ""))
        clock = sounds[-1].end + float(rng.uniform(0.35, 0.7))
    return sounds


def draw(rng: Generator, start: float, unlike: str = "") -> Sound:
    """One sound of random kind (but not `unlike`), count, pitch and loudness."""
    name = str(rng.choice([n for n in COUNTED + LONG if n != unlike]))
    count = int(rng.integers(1, 4)) if name in COUNTED else 1
    length = float(rng.uniform(0.1, 0.2)) if name in COUNTED else float(rng.uniform(0.7, 1.2))
    if name == "click":
        length = 0.02
    step = length + float(rng.uniform(0.1, 0.18))
    low, high = _pitch(rng, name)
    return Sound(name, count, start, length, step, low, high, float(rng.uniform(0.15, 0.8)), int(rng.integers(1 << 31)))


def audio(rng: Generator, sounds: Sequence[Sound], duration: float, rate: int = 16_000) -> Chunk:
    """The sounds over faint noise as one chunk [S, 1]."""
    n = round(duration * rate)
    wave = rng.standard_normal(n, np.float32) * np.float32(10 ** rng.uniform(-4.5, -2.6))
    for sound in sounds:
        _add(wave, sound, rate)
    return Chunk(torch.from_numpy(wave.clip(-1, 1)[:, None]), 0.0, n / rate, "audio", last=True)


def _pitch(rng: Generator, name: str) -> tuple[float, float]:
    if name == "low beep":
        return (float(rng.uniform(220, 420)),) * 2
    if name == "high beep":
        return (float(rng.uniform(1300, 2600)),) * 2
    if name in ("rising tone", "falling tone"):
        low = float(rng.uniform(250, 600))
        high = low * float(rng.uniform(2.2, 4.5))
        return (low, high) if name == "rising tone" else (high, low)
    return (float(rng.uniform(400, 1200)),) * 2


def _add(wave: Array, sound: Sound, rate: int) -> None:
    rng = np.random.default_rng(sound.seed)
    pulse = _pulse(rng, sound, max(round(sound.length * rate), 1), rate)
    for i in range(sound.count):
        at = round((sound.start + i * sound.step) * rate)
        wave[at : at + len(pulse)] += pulse[: max(len(wave) - at, 0)]


def _pulse(rng: Generator, sound: Sound, n: int, rate: int) -> Array:
    t = np.arange(n, dtype=np.float32) / rate
    fade = np.minimum(np.minimum(t, sound.length - t) / 0.008, 1).clip(0)
    if sound.name == "click":
        wave = rng.standard_normal(n, np.float32) * np.exp(-t / 0.003)
        return sound.gain * wave / np.abs(wave).max()
    if sound.name == "burst of noise":
        return sound.gain * 0.4 * fade * rng.standard_normal(n, np.float32)
    sweep = (sound.high - sound.low) / sound.length
    phase = 2 * np.pi * (sound.low * t + 0.5 * sweep * t * t + rng.random())
    wave = np.sin(phase) + np.float32(rng.uniform(0, 0.4)) * np.sin(2 * phase)
    if sound.name == "trembling tone":
        wave *= 0.5 + 0.5 * np.sin(2 * np.pi * rng.uniform(5, 9) * t)
    return (sound.gain * 0.7 * fade * wave).astype(np.float32)
