"""Coloured solids on a floor as one point cloud, with the name and the box of each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from mmworld.render.shapes import Array, surface
from mmworld.render.words import COLOURS, SOLIDS

THINGS = tuple(s for s in SOLIDS if s != "plane")
FLOOR = (120, 116, 110)


@dataclass(frozen=True)
class Room:
    """
    Attributes:
        points: float32 [P, 6]: x y z (metres), r g b (0 to 1).
        names: of the things: "red cube"; no two alike.
        boxes: float32 [K, 7], see `mmworld.modalities.pointcloud.boxes`.
    """

    points: Tensor
    names: tuple[str, ...]
    boxes: Tensor


def room(rng: Generator, *, things: int = 3, points: int = 1024, half: float = 2.0) -> Room:
    """So many things on a floor of 2 half x 2 half metres, none over another, by so many points.

    Raises:
        ValueError: there are not so many names or no place for them.
    """
    names = rng.choice(len(THINGS) * len(COLOURS), things, replace=False)
    share = points // (things + 1)
    parts, boxes, told = [_floor(rng, points - things * share, half)], list[Array](), list[str]()
    for name in names:
        solid, colour = THINGS[name % len(THINGS)], list(COLOURS)[name // len(THINGS)]
        xyz, box = _thing(rng, solid, share)
        box[:2] = _free(rng, boxes, box, half)
        xyz[:, :2] += box[:2]
        parts.append(_painted(rng, xyz, COLOURS[colour]))
        boxes.append(box)
        told.append(f"{colour} {solid}")
    data = rng.permutation(np.concatenate(parts)).astype(np.float32)
    return Room(torch.from_numpy(data), tuple(told), torch.from_numpy(np.array(boxes, np.float32).reshape(-1, 7)))


def _thing(rng: Generator, solid: str, n: int) -> tuple[Array, Array]:
    """Points on a solid that stands at the origin, longer than wide, and its box."""
    xyz = surface(rng, solid, n)[0] * (
        rng.uniform(0.25, 0.45) * np.array([rng.uniform(1.3, 2.0), 1, rng.uniform(0.8, 1.4)])
    )
    low, high = xyz.min(0), xyz.max(0)
    size, yaw = high - low, rng.uniform(-np.pi / 2, np.pi / 2)
    xyz = xyz - (low + high) / 2 + [0, 0, size[2] / 2]
    cos, sin = np.cos(yaw), np.sin(yaw)
    xyz = xyz @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
    return xyz, np.array([0, 0, size[2] / 2, *size, yaw])


def _free(rng: Generator, boxes: list[Array], box: Array, half: float) -> Array:
    """A place on the floor where the box touches no other."""
    for _ in range(1000):
        xy = rng.uniform(-half, half, 2)
        if all(np.hypot(*(xy - b[:2])) > (np.hypot(*b[3:5]) + np.hypot(*box[3:5])) / 2 for b in boxes):
            return xy
    raise ValueError(f"no place for one more than {len(boxes)} things")


def _painted(rng: Generator, xyz: Array, colour: tuple[int, int, int]) -> Array:
    tone = np.asarray(colour) / 255 + rng.uniform(-0.05, 0.05, 3) + rng.normal(0, 0.03, (len(xyz), 3))
    return np.column_stack((xyz + rng.normal(0, 0.005, xyz.shape), tone.clip(0, 1)))


def _floor(rng: Generator, n: int, half: float) -> Array:
    return _painted(rng, np.column_stack((rng.uniform(-half, half, (n, 2)) * 1.2, np.zeros(n))), FLOOR)
