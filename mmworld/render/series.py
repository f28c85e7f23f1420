"""Sensor channels that rise, fall, swing, step and spike, one or two at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray

from mmworld.render.words import NUMBERS, THEN, TIMES, Rendered
from mmworld.types import Chunk

Array = NDArray[np.floating[Any]]
VERBS = ("rises", "falls", "oscillates", "steps up", "steps down", "spikes")


def clip(rng: Generator, *, rate: float = 16.0) -> Rendered:
    """[T, C] of one or two channels, each with one or two events in order, or flat: "channel one rises, then falls"."""
    channels = int(rng.integers(1, 3))
    duration = float(rng.uniform(3.0, 6.0))
    n = int(duration * rate)
    columns, sentences = [], []
    for c in range(channels):
        verbs = [_counted(rng, str(v)) for v in rng.choice(VERBS, int(rng.integers(0, 3)), replace=False)]
        columns.append(channel(rng, verbs, n))
        sentences.append(f"channel {NUMBERS[c + 1]} {THEN.join(verbs) if verbs else 'is flat'}")
    data = torch.from_numpy(np.stack(columns, 1).astype(np.float32))
    return Rendered((Chunk(data, 0.0, n / rate, "sensor", last=True),), " and ".join(sentences))


def _counted(rng: Generator, verb: str) -> str:
    return f"spikes {TIMES[rng.integers(1, 4)]}" if verb == "spikes" else verb


def channel(rng: Generator, verbs: list[str], n: int) -> Array:
    """n samples in which the verbs happen in turn, about 1 in height, over a little noise."""
    value = float(rng.uniform(-0.5, 0.5))
    pieces: list[Array] = []
    for piece in np.array_split(np.zeros(n), max(len(verbs), 1)):
        shape = _shape(rng, verbs[len(pieces)] if verbs else "", len(piece))
        pieces.append(value + shape)
        value += shape[-1]
    return np.concatenate(pieces) + rng.normal(0, rng.uniform(0.005, 0.05), n)


def _shape(rng: Generator, verb: str, n: int) -> Array:
    """One verb over n samples, from 0, its event between 15% and 85% of them."""
    u = (np.linspace(0, 1, n) - 0.15) / 0.7
    height = rng.uniform(0.8, 1.6)
    sign = -1.0 if verb in ("falls", "steps down") else 1.0
    if verb in ("rises", "falls"):
        return sign * height * u.clip(0, 1)
    if verb.startswith("steps"):
        return sign * height * (u > rng.uniform(0.3, 0.7))
    inside = (u > 0) & (u < 1)
    if verb == "oscillates":
        return 0.6 * height * inside * np.sin(2 * np.pi * int(rng.integers(2, 5)) * u)
    if verb.startswith("spikes"):
        count = TIMES.index(verb.removeprefix("spikes "))
        centres = (np.arange(count) + 0.5 + rng.uniform(-0.2, 0.2, count)) / count
        return 1.2 * height * np.exp(-(((u[:, None] - centres) / 0.04) ** 2)).sum(1)
    return np.zeros(n)
