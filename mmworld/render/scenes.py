"""Coloured shapes that move, appear, grow and blink, in order, at any size and frame rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray

from mmworld.render.words import COLOURS, NUMBERS, SHAPES, THEN, TIMES, Rendered, noun
from mmworld.types import Chunk

Array = NDArray[np.floating[Any]]
MOVES = {"moves left": (-1, 0), "moves right": (1, 0), "moves up": (0, -1), "moves down": (0, 1)}
ACTIONS = (*MOVES, "appears", "disappears", "grows", "shrinks", "blinks twice", "blinks three times")
BLINK = 0.3
"""Seconds dark, and seconds lit between: longer than a frame at 4 frames a second, so none is missed."""
GROWTH = 1.9


@dataclass(frozen=True)
class Thing:
    """A shape at rest: centre in widths and heights of the picture, radius in its shorter side, colour RGB 0 to 255."""

    name: str
    shape: str
    colour: tuple[float, float, float]
    x: float
    y: float
    radius: float


@dataclass(frozen=True)
class Event:
    """What a thing does during [start, end) seconds; a move spans `distance` of the picture."""

    thing: Thing
    action: str
    start: float
    end: float
    distance: float = 0.0

    def state(self, t: float) -> tuple[float, float, float]:
        """Centre and radius at time t; radius 0 when not there."""
        thing = self.thing
        done = min(max((t - self.start) / (self.end - self.start), 0.0), 1.0)
        x, y, radius = thing.x, thing.y, thing.radius
        if self.action in MOVES:
            dx, dy = MOVES[self.action]
            x, y = x + dx * self.distance * done, y + dy * self.distance * done
        elif self.action == "grows":
            radius *= 1 + (GROWTH - 1) * done
        elif self.action == "shrinks":
            radius *= GROWTH - (GROWTH - 1) * done
        elif self.action == "appears":
            radius *= t >= self.start
        elif self.action == "disappears":
            radius *= t < self.start
        elif self.action.startswith("blinks"):
            radius *= not (self.start <= t < self.end) or int((t - self.start) / BLINK) % 2 == 1
        return x, y, radius

    @property
    def done(self) -> float:
        """Seconds at which all of it has been seen: what comes or goes does so at once."""
        return self.start if self.action in ("appears", "disappears") else self.end

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom of all it covers in its life."""
        (x0, y0, r0), (x1, y1, r1) = self.state(self.start - 1), self.state(self.end + 1)
        r = max(r0, r1)
        return min(x0, x1) - r, min(y0, y1) - r, max(x0, x1) + r, max(y0, y1) + r


@dataclass(frozen=True)
class Background:
    """Smooth RGB field [k, k, 3] stretched over the picture (k = 1 is plain) and the strength of its grain."""

    field: Array
    grain: float
    seed: int

    def paint(self, height: int, width: int) -> Array:
        k = len(self.field)
        rows, columns = _stretch(k, height), _stretch(k, width)
        picture = np.einsum("hi,ijc,wj->hwc", rows, self.field, columns, optimize=True)
        if self.grain:
            picture += self.grain * np.random.default_rng(self.seed).standard_normal((height, width, 1), np.float32)
        return picture


@dataclass(frozen=True)
class Scene:
    events: tuple[Event, ...]
    background: Background
    duration: float

    @property
    def caption(self) -> str:
        return THEN.join(f"{noun(e.thing.name)} {e.action}" for e in self.events)


def clip(rng: Generator, *, size: int = 96, fps: float = 4.0) -> Rendered:
    """A short video of one to three things that each do something, in order."""
    scene = draw(rng, int(rng.integers(1, 4)))
    return Rendered((video(scene, size, size, fps),), scene.caption)


def moment(rng: Generator, *, size: int = 96, fps: float = 4.0) -> Rendered:
    """A short video of one thing that does something: alone, or cut out of a scene whose others stand by."""
    scene = draw(rng, int(rng.integers(1, 4)))
    i = int(rng.integers(len(scene.events)))
    edges = [0.0, *(e.end for e in scene.events[:-1])], [*(e.start for e in scene.events[1:]), scene.duration]
    start, stop = (e[i] for e in edges)
    chunk = _film(scene, size, size, np.arange(start, stop, 1 / fps), fps)
    return Rendered((chunk,), replace(scene, events=scene.events[i : i + 1]).caption)


def still(rng: Generator, *, size: int = 96) -> Rendered:
    """A picture: one thing, several alike, or one above or left of another."""
    things, caption = _arrange(rng)
    scene = Scene(tuple(Event(t, "", 0.0, 1.0) for t in things), _background(rng), 1.0)
    frame = torch.from_numpy(render(scene, size, size, np.zeros(1)))
    return Rendered((Chunk(frame, 0.0, 0.0, "image", last=True),), caption)


def draw(rng: Generator, n: int, room: Sequence[float] = ()) -> Scene:
    """A scene of n events; event i has at least room[i] seconds before the next one starts."""
    clock = float(rng.uniform(0.4, 0.9))
    names = rng.choice(len(COLOURS) * len(SHAPES), n, replace=False)
    events: list[Event] = []
    for i, name in enumerate(names):
        colour, shape = divmod(int(name), len(SHAPES))
        event = _place(rng, list(COLOURS)[colour], SHAPES[shape], clock, events)
        events.append(event)
        clock = max(event.end, event.start + (room[i] if i < len(room) else 0.0)) + float(rng.uniform(0.25, 0.6))
    return Scene(tuple(events), _background(rng), clock + float(rng.uniform(0.1, 0.5)))


def video(scene: Scene, height: int = 96, width: int = 96, fps: float = 4.0) -> Chunk:
    """The scene as one chunk of frames at the times i / fps."""
    return _film(scene, height, width, np.arange(int(scene.duration * fps)) / fps, fps)


def _film(scene: Scene, height: int, width: int, times: NDArray[np.float64], fps: float) -> Chunk:
    """The frames at the given seconds as one chunk whose clock begins at 0."""
    return Chunk(torch.from_numpy(render(scene, height, width, times)), 0.0, len(times) / fps, "video", last=True)


def render(scene: Scene, height: int, width: int, times: NDArray[np.float64]) -> NDArray[np.uint8]:
    """uint8 [T, 3, height, width] at the given seconds, edges anti-aliased."""
    empty = scene.background.paint(height, width)
    frames = np.empty((len(times), 3, height, width), np.uint8)
    seen: dict[tuple[tuple[float, float, float], ...], int] = {}
    for i, t in enumerate(times):
        states = tuple(e.state(float(t)) for e in scene.events)
        if states in seen:
            frames[i] = frames[seen[states]]
            continue
        seen[states] = i
        picture = empty.copy()
        for event, state in zip(scene.events, states, strict=True):
            _paint(picture, event.thing, *state)
        frames[i] = np.clip(picture, 0, 255).transpose(2, 0, 1)
    return frames


def _paint(picture: Array, thing: Thing, x: float, y: float, radius: float) -> None:
    height, width = picture.shape[:2]
    cx, cy, r = x * width, y * height, radius * min(height, width)
    top, bottom = max(int(cy - r) - 1, 0), min(int(cy + r) + 2, height)
    left, right = max(int(cx - r) - 1, 0), min(int(cx + r) + 2, width)
    if radius <= 0 or top >= bottom or left >= right:
        return
    px = np.arange(left, right, dtype=np.float32)[None, :] + 0.5 - cx
    py = np.arange(top, bottom, dtype=np.float32)[:, None] + 0.5 - cy
    cover = np.clip(0.5 - _distance(thing.shape, px, py, r), 0.0, 1.0)[..., None]
    patch = picture[top:bottom, left:right]
    patch += cover * (np.asarray(thing.colour, np.float32) - patch)


def _distance(shape: str, x: Array, y: Array, r: float) -> Array:
    """Signed distance in pixels to the outline (exact at edges, not beyond corners)."""
    if shape == "circle":
        return np.hypot(x, y) - r
    if shape == "square":
        return np.maximum(np.abs(x), np.abs(y)) - 0.8 * r
    n, inner = (3, 0.5) if shape == "triangle" else (5, 0.42)
    return _polygon(x, y, r, n, inner)


def _polygon(x: Array, y: Array, r: float, n: int, inner: float) -> Array:
    """A star of n points whose notches lie at inner * r; folded into half of one point, where it is one edge."""
    half = np.pi / n
    angle = np.abs((np.arctan2(x, -y) + half) % (2 * half) - half)
    length = np.hypot(x, y)
    ex, ey = r * (inner * np.cos(half) - 1), r * inner * np.sin(half)
    norm = float(np.hypot(ex, ey))
    return ((length * np.cos(angle) - r) * ey - length * np.sin(angle) * ex) / norm


def _stretch(k: int, n: int) -> Array:
    """[n, k] weights of linear interpolation from k control points."""
    at = (np.arange(n, dtype=np.float32) + 0.5) / n * (k - 1)
    return np.maximum(1 - np.abs(at[:, None] - np.arange(k, dtype=np.float32)), 0)


def _background(rng: Generator) -> Background:
    k = int(rng.choice((1, 2, 7)))
    grey = rng.uniform(70, 190) + rng.uniform(-28, 28, (k, k, 1)) * (k > 1)
    tint = rng.uniform(-14, 14, 3)
    grain = float(rng.uniform(2, 9)) if rng.random() < 0.5 else 0.0
    return Background((grey + tint).astype(np.float32), grain, int(rng.integers(1 << 31)))


def _thing(rng: Generator, colour: str, shape: str, x: float, y: float, radius: float) -> Thing:
    r, g, b = np.asarray(COLOURS[colour]) + rng.uniform(-12, 12, 3)
    return Thing(f"{colour} {shape}", shape, (float(r), float(g), float(b)), x, y, radius)


def _place(rng: Generator, colour: str, shape: str, start: float, others: Sequence[Event]) -> Event:
    """An event whose path stays in the picture and, if tries enough find room, clear of the others."""
    action = str(rng.choice(ACTIONS))
    length = float(rng.uniform(0.9, 1.5))
    if action.startswith("blinks"):
        length = BLINK * (2 * TIMES.index(action.removeprefix("blinks ")) - 1)
    inside: list[Event] = []
    while len(inside) < 25:
        radius = float(rng.uniform(0.09, 0.15)) / (1.35 if action in ("grows", "shrinks") else 1.0)
        x, y = rng.uniform(0.1, 0.9, 2)
        thing = _thing(rng, colour, shape, float(x), float(y), radius)
        event = Event(thing, action, start, start + length, float(rng.uniform(0.25, 0.5)))
        left, top, right, bottom = event.box
        if min(left, top) >= 0 and max(right, bottom) <= 1:
            inside.append(event)
            if not any(_overlap(event.box, o.box) for o in others):
                break
    return inside[-1]


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _arrange(rng: Generator) -> tuple[list[Thing], str]:
    colour, other = (str(c) for c in rng.choice(list(COLOURS), 2, replace=False))
    shape, second = (str(s) for s in rng.choice(SHAPES, 2))
    kind = rng.choice(("one", "count", "above", "left"))
    if kind == "one":
        x, y = rng.uniform(0.3, 0.7, 2)
        return [_thing(rng, colour, shape, x, y, float(rng.uniform(0.12, 0.26)))], noun(f"{colour} {shape}")
    if kind == "count":
        count = int(rng.integers(2, len(NUMBERS)))
        cells = rng.choice(9, count, replace=False)
        radius = float(rng.uniform(0.08, 0.13))
        places = [(np.array(divmod(int(c), 3)) + 0.5) / 3 + rng.uniform(-0.03, 0.03, 2) for c in cells]
        return [_thing(rng, colour, shape, x, y, radius) for x, y in places], noun(f"{colour} {shape}", count)
    along, across, drift = rng.uniform(0.2, 0.32), rng.uniform(0.3, 0.7), rng.uniform(-0.05, 0.05)
    spots = [(along, across + drift), (1 - along, across - drift)]
    if kind == "above":
        spots = [(y, x) for x, y in spots]
    names = (colour, shape), (other, second)
    things = [
        _thing(rng, c, s, x, y, float(rng.uniform(0.1, 0.17))) for (c, s), (x, y) in zip(names, spots, strict=True)
    ]
    where = "above" if kind == "above" else "left of"
    return things, f"{noun(f'{colour} {shape}')} {where} {noun(f'{other} {second}')}"
