"""What training draws from: each source is a function from a numpy Generator to media and their caption."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray

from mmworld.render import Rendered, mixed, scenes, series, shapes, sounds
from mmworld.render.words import THEN, join, split
from mmworld.train import augment, real, speech
from mmworld.train.real import RATE
from mmworld.train.store import Store
from mmworld.types import Chunk

Draw = Callable[[Generator], Rendered]
Wave = NDArray[np.float32]
FPS = 4.0
RADAR_SECONDS = 2.0


def build(names: Sequence[str], data: Path, folds: Sequence[int], speakers: Sequence[str]) -> dict[str, Draw]:
    """The sources named, over the real sets in the folder `data`; `folds` and `speakers` are those trained on."""
    makers: dict[str, Callable[[], Draw]] = {
        "scenes": lambda: scenes.clip,
        "moments": lambda: scenes.moment,
        "stills": lambda: still,
        "sounds": lambda: sounds.clip,
        "sounding_scenes": lambda: sounding,
        "films": lambda: mixed.clip,
        "shapes": lambda: shapes.cloud,
        "series": lambda: series.clip,
        "flickr8k": lambda: photographs(real.flickr8k(data)),
        "flickr8k_video": lambda: pans(real.flickr8k(data)),
        "captions": lambda: captions(real.flickr8k(data)),
        "esc10": lambda: environmental(real.esc10(data, folds)),
        "fsdd": lambda: digits([s for s in (real.fsdd(data, speakers), speech.synthetic_digits()) if s]),
        "radhar": lambda: radar(real.radhar(data)),
        "pairs": lambda: pairs(data, folds, speakers),
    }
    return {name: makers[name]() for name in names}


def still(rng: Generator) -> Rendered:
    """A rendered picture, half the time held as a short video: the cheapest way to learn what shapes are."""
    drawn = scenes.still(rng)
    if rng.random() < 0.5:
        return drawn
    frames = int(rng.integers(1, 7))
    video = Chunk(drawn.chunks[0].data.repeat(frames, 1, 1, 1), 0.0, frames / FPS, "video", last=True)
    return Rendered((video,), drawn.caption)


def sounding(rng: Generator) -> Rendered:
    """A scene that sounds, at times without its sound or its pictures: either sense is to do alone."""
    drawn = mixed.clip(rng)
    kept = int(rng.integers(0, 5))
    if kept > 1:
        return drawn
    return Rendered((drawn.chunks[kept],), split(drawn.caption)[kept])


def photographs(store: Store) -> Draw:
    """Photographs, cropped, mirrored and tinted, each with all its captions: it is perceived once for the five."""

    def draw(rng: Generator) -> Rendered:
        picture, said = _photograph(rng, store)
        picture = augment.view(rng, picture)
        return Rendered((Chunk(torch.from_numpy(picture[None]), 0.0, 0.0, "image", last=True),), said[0], said[1:])

    return draw


def pans(store: Store) -> Draw:
    """Photographs as video: a camera that pans and zooms over one for 1 to 5 seconds."""

    def draw(rng: Generator) -> Rendered:
        picture, said = _photograph(rng, store)
        frames = int(rng.integers(4, 21))
        a, b = rng.uniform(0.7, 1.0, 2)
        path = np.linspace((a, *rng.uniform(0, 1 - a, 2)), (b, *rng.uniform(0, 1 - b, 2)), frames) * real.SIDE
        video = np.stack([augment.zoom(picture, top, left, side, side) for side, top, left in path])
        return Rendered((Chunk(torch.from_numpy(video), 0.0, frames / FPS, "video", last=True),), said[0], said[1:])

    return draw


def captions(store: Store) -> Draw:
    """Captions of nothing: what is likely to be said, whatever is seen."""
    return lambda rng: Rendered((), str(rng.choice(store.captions[int(rng.integers(len(store)))])))


def _photograph(rng: Generator, store: Store) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """A picture and its captions, in any order."""
    i = int(rng.integers(len(store)))
    picture, said = store[i][0], [str(c) for c in rng.permutation(store.captions[i])]
    if rng.random() < 0.5:
        picture, *said = augment.mirror(picture, *said)
    return augment.jitter(rng, picture), tuple(said)


def environmental(store: Store) -> Draw:
    """Environmental sounds: excerpts, at times two of one kind laid over each other, at times two kinds in turn."""
    alike = {c: store.of(c) for (c,) in store.captions}
    kinds = sorted(alike)

    def one(rng: Generator, caption: str, longest: float) -> Wave:
        wave = _excerpt(rng, store[int(rng.choice(alike[caption]))], longest)
        if rng.random() < 0.4:
            other = _excerpt(rng, store[int(rng.choice(alike[caption]))], longest)
            at = int(rng.integers(0, len(wave)))
            n = min(len(other), len(wave) - at)
            wave[at : at + n] += other[:n]
        return wave

    def draw(rng: Generator) -> Rendered:
        in_turn = rng.random() < 0.15
        captions = [str(c) for c in rng.choice(kinds, 2 if in_turn else 1, replace=False)]
        waves = [one(rng, c, 2.5 if in_turn else 5.0) for c in captions]
        wave = augment.surround(rng, np.concatenate(waves), RATE // 4, RATE // 4)
        if rng.random() < 0.5:
            wave = augment.noise(rng, wave, -45, -15)
        return Rendered((_audio(augment.level(rng, wave)),), THEN.join(captions))

    return draw


def _excerpt(rng: Generator, wave: Wave, longest: float) -> Wave:
    """A stretch of 1.5 s up to `longest`, or all of it half the time if that fits; retuned and tinted, level 1."""
    whole = longest * RATE >= len(wave) and rng.random() < 0.5
    wave = wave if whole else augment.excerpt(rng, wave, int(rng.uniform(1.5, longest) * RATE))
    wave = augment.speed(rng, wave, 1.25)
    if rng.random() < 0.7:
        wave = augment.colour(rng, wave, 8)
    return augment.level(rng, wave, -10, 0)


def digits(stores: list[Store]) -> Draw:
    """Spoken digits of real and synthetic speakers in equal parts, at times two in turn."""

    def one(rng: Generator) -> tuple[Wave, str]:
        store = stores[int(rng.integers(len(stores)))]
        i = int(rng.integers(len(store)))
        wave = augment.colour(rng, augment.speed(rng, store[i], 1.25), 8)
        if rng.random() < 0.7:
            wave = augment.narrow(wave, RATE, rng.uniform(3300, 4200))
        if rng.random() < 0.4:
            wave = augment.room(rng, wave, RATE)
        return augment.level(rng, wave, -8, 0), store.captions[i][0]

    def draw(rng: Generator) -> Rendered:
        said = [one(rng) for _ in range(2 if rng.random() < 0.2 else 1)]
        waves = [augment.surround(rng, w, RATE // 2, RATE // 2) for w, _ in said]
        wave = augment.noise(rng, augment.level(rng, np.concatenate(waves)), -50, -12)
        return Rendered((_audio(wave.clip(-1, 1)),), THEN.join(caption for _, caption in said))

    return draw


def radar(store: Store) -> Draw:
    """Two-second windows of radar recordings, played a little faster or slower, turned, mirrored and thinned."""

    def draw(rng: Generator) -> Rendered:
        i = int(rng.integers(len(store)))
        rate = rng.uniform(0.85, 1.15)
        rows = store[i]
        start = rng.uniform(0, max(rows[-1, 0] - RADAR_SECONDS * rate, 0))
        return Rendered((sweeps(augment_radar(rng, rows, start, rate)),), store.captions[i][0])

    return draw


def augment_radar(rng: Generator, rows: NDArray[np.float32], start: float, rate: float) -> NDArray[np.float32]:
    """Rows of [start, start + 2 s * rate), augmented, their clock running from 0 to 2 s."""
    rows = window(rows, start, RADAR_SECONDS * rate)
    moved = augment.turn(rng, np.column_stack((rows[:, 1:], rows[:, 0] / rate)))
    return np.column_stack((moved[:, -1], moved[:, :-1]))


def window(rows: NDArray[np.float32], start: float, seconds: float) -> NDArray[np.float32]:
    """The rows of [start, start + seconds), their clock starting at 0."""
    first, last = np.searchsorted(rows[:, 0], (start, start + seconds))
    out = rows[first:last].copy()
    out[:, 0] -= start
    return out


def sweeps(rows: NDArray[np.float32], seconds: float = RADAR_SECONDS) -> Chunk:
    """Radar rows (seconds, x, y, z, velocity, intensity) as one chunk of points [P, 12], the last column seconds."""
    data = np.zeros((len(rows), 12), np.float32)
    data[:, :3], data[:, 9:11], data[:, 11] = rows[:, 1:4], rows[:, 4:6], rows[:, 0]
    return Chunk(torch.from_numpy(data), 0.0, seconds, "points", last=True)


def pairs(data: Path, folds: Sequence[int], speakers: Sequence[str]) -> Draw:
    """Something seen with something unrelated heard."""
    seen = list(build(["scenes", "stills", "flickr8k", "flickr8k_video", "radhar", "shapes"], data, [], []).values())
    heard = list(build(["sounds", "esc10", "fsdd"], data, folds, speakers).values())

    def draw(rng: Generator) -> Rendered:
        a, b = seen[int(rng.integers(len(seen)))](rng), heard[int(rng.integers(len(heard)))](rng)
        return Rendered((*a.chunks, *b.chunks), join((a.caption, b.caption)))

    return draw


def _audio(wave: Wave) -> Chunk:
    return Chunk(torch.from_numpy(wave[:, None].astype(np.float32)), 0.0, len(wave) / RATE, "audio", last=True)
