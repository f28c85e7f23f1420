"""A day of a stream, simulated: whatever its clocks do, each piece that is given stands within 20 ms of the truth.

Decoded frames are made up; the media clock and the tracks are those that read files. What a sample or a picture holds
says when it was true.
"""

from __future__ import annotations

import heapq
import math
import random
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from itertools import repeat
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mmworld.media.clock import WRAP, Clock
from mmworld.media.pictures import Frame, Grid, PictureTrack
from mmworld.media.sound import Samples, Sound, SoundTrack

DAY, ERROR = 86_400.0, 0.02
BASE = Fraction(1, 90_000)
JITTER = 0.002
JUMPS = {5 * 3600.0: 40_000.0, 13 * 3600.0: -3_000.0, 21 * 3600.0: 11.0}
"""When the sender's timestamps leap, in true seconds, and by how much."""
BEGIN = float(WRAP * BASE) - 7 * 3600
"""The first timestamp in seconds; the counter starts again in the eighth hour."""
Sent = tuple[float, float, Any]
"""True time, true duration, frame."""


def sound(rate: int, seconds: float, drift: float) -> Iterator[Sent]:
    """Frames whose samples hold the fraction of the true second; the sampling clock is off by `drift`."""
    n, k = round(rate * seconds), 0
    while (begin := k * seconds * (1 + drift)) < DAY:
        values = ((begin + np.arange(n) * (1 + drift) / rate) % 1).astype(np.float32)
        yield begin, seconds, _frame(values, rate)
        k += 1


def _frame(values: np.ndarray, rate: int) -> Any:
    layout, form = SimpleNamespace(nb_channels=1), SimpleNamespace(is_planar=False)
    return SimpleNamespace(
        sample_rate=rate, samples=len(values), layout=layout, format=form, to_ndarray=lambda: values[None]
    )


def pictures(rng: random.Random) -> Iterator[Sent]:
    """Frames at a variable rate that hold when they are shown."""
    at = 0.0
    while at < DAY:
        shown = rng.choice([1 / 30, 1 / 24, 0.5, 3.0, 8.0])
        yield at, shown, at
        at += shown


def received(rng: random.Random, *streams: Iterator[Sent]) -> Iterator[tuple[int, float, float, Any]]:
    """Stream, time on the media clock, duration and frame, after jitter, leaps and 33 bits."""
    clock = Clock(Fraction(round(BEGIN / BASE)) * BASE, 10.0, Counter())
    tagged = [zip(repeat(i), stream, strict=False) for i, stream in enumerate(streams)]
    for i, (begin, duration, frame) in heapq.merge(*tagged, key=lambda sent: sent[1][0]):
        stamp = BEGIN + begin + rng.uniform(0, JITTER) + sum(by for at, by in JUMPS.items() if begin >= at)
        ticks = round(stamp / BASE) % WRAP
        shift = clock.place(i, ticks, BASE, round(duration / BASE))
        yield i, clock.seconds(ticks + shift, BASE), duration, frame


def off(piece: Samples, rate: int) -> float:
    """The largest error of a piece in seconds, read far from where the held fraction leaps, where filters ring."""
    claimed = piece.time + np.arange(len(piece.data)) / rate
    far = np.abs(claimed % 1 - 0.5) < 0.25
    return float(np.abs(piece.data[:, 0].numpy() - claimed % 1)[far].max(initial=0.0))


def track(plan: Grid | None) -> PictureTrack:
    def convert(at: float) -> Tensor:
        return torch.tensor([at], dtype=torch.float64)

    limits: dict[str, Any] = {"max_frames": 1 << 62, "max_seconds": math.inf}
    return PictureTrack(plan, convert, start=0.0, end=math.inf, counts=Counter(), **limits)  # type: ignore[arg-type]


def shown_then(piece: Frame, begins: list[float]) -> bool:
    """Whether a picture was the one to be seen at the time it is given for, or within the error."""
    early, late = (bisect_right(begins, piece.time + by) - 1 for by in (-ERROR, ERROR))
    return begins[max(early, 0)] <= float(piece.data) <= begins[late]


@pytest.mark.parametrize("drift", [50e-6, -50e-6])
@pytest.mark.parametrize(
    ("rate_in", "rate", "seconds"),
    [(3_000, 1_000, 10.0), pytest.param(48_000, 16_000, 1.0, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])],
)
def test_a_day_of_sound_and_pictures(rate_in: int, rate: int, seconds: float, drift: float) -> None:
    """At a sixteenth of both rates, in long frames; the slow one at 48 to 16 kHz."""
    heard = SoundTrack(Sound(rate), 0.0, math.inf, counts := Counter(), math.inf)
    seen, planned = track(None), track(Grid(0.0, 0.5))
    begins = [begin for begin, _, _ in pictures(random.Random(7))]
    worst, n_samples, n_seen, n_planned = 0.0, 0, 0, 0
    streams = sound(rate_in, seconds, drift), pictures(random.Random(7))
    for stream, time, duration, frame in received(random.Random(8), *streams):
        if stream == 0:
            for piece in heard.push(time, duration, frame):
                worst, n_samples = max(worst, off(piece, rate)), n_samples + len(piece.data)
            continue
        for given in seen.push(time, duration, frame):
            worst, n_seen = max(worst, abs(given.time - float(given.data))), n_seen + 1
        for given in planned.push(time, duration, frame):
            assert shown_then(given, begins)
            n_planned += 1
    assert worst <= ERROR
    assert n_samples / rate == pytest.approx(DAY, abs=2 * seconds)
    assert n_seen == len(begins)
    assert n_planned == pytest.approx(DAY / 2, abs=5)
    assert not counts
