"""Coloured solids as point clouds: scaled, turned, noisy, seen from one side or whole."""

from __future__ import annotations

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray

from mmworld.render.words import COLOURS, SOLIDS, Rendered, noun
from mmworld.types import Chunk

Array = NDArray[np.float64]
COLUMNS = ("x", "y", "z", "r", "g", "b", "nx", "ny", "nz", "velocity", "intensity")


def cloud(rng: Generator, *, points: int = 512) -> Rendered:
    """One solid as [P, 11] (COLUMNS: metres, colours 0 to 1, unit normals); some lack colour, normals or a side."""
    solid, colour = str(rng.choice(SOLIDS)), str(rng.choice(list(COLOURS)))
    xyz, normals = surface(rng, solid, 2 * points)
    turn = _rotation(rng)
    xyz, normals = xyz @ turn.T, normals @ turn.T
    keep = _visible(rng, xyz, normals, points)
    data = np.zeros((len(keep), len(COLUMNS)), np.float32)
    size = rng.uniform(0.3, 3.0)
    data[:, :3] = (xyz[keep] + rng.normal(0, rng.uniform(0.0, 0.03), (len(keep), 3))) * size + rng.uniform(-2, 2, 3)
    if rng.random() < 0.7:
        data[:, 6:9] = normals[keep]
    name = solid
    if rng.random() < 0.8:
        name = f"{colour} {solid}"
        tone = np.asarray(COLOURS[colour]) / 255 + rng.uniform(-0.05, 0.05, 3)
        data[:, 3:6] = (tone + rng.normal(0, 0.04, (len(keep), 3))).clip(0, 1)
    chunk = Chunk(torch.from_numpy(data), 0.0, 0.0, "points", last=True)
    return Rendered((chunk,), noun(name))


def surface(rng: Generator, solid: str, n: int) -> tuple[Array, Array]:
    """n points, uniform by area, on a solid about 2 across, and their outward unit normals, [n, 3] each."""
    if solid in ("sphere", "torus"):
        return _round(rng, solid, n)
    if solid in ("cylinder", "cone"):
        return _turned(rng, 1.0 if solid == "cylinder" else 0.0, n)
    return _flat(rng, _FACES[solid], n)


def _round(rng: Generator, solid: str, n: int) -> tuple[Array, Array]:
    if solid == "sphere":
        normals = rng.normal(size=(n, 3))
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        return normals, normals
    tube = rng.uniform(0.25, 0.42)
    around = rng.uniform(0, 2 * np.pi, n)
    candidates = rng.uniform(0, 2 * np.pi, (2, 6 * n))
    accepted = candidates[0][candidates[1] < np.pi * 2 * (1 + tube * np.cos(candidates[0])) / (1 + tube)]
    across = np.resize(accepted, n)
    normals = np.stack((np.cos(across) * np.cos(around), np.cos(across) * np.sin(around), np.sin(across)), 1)
    ring = np.stack((np.cos(around), np.sin(around), np.zeros(n)), 1)
    return (ring + tube * normals) / (1 + tube), normals


def _turned(rng: Generator, top: float, n: int) -> tuple[Array, Array]:
    """A cylinder (top 1) or cone (top 0): radius 1 at the foot, `top` at the tip, with its caps."""
    height = rng.uniform(1.6, 2.6)
    slant = np.hypot(height, 1 - top)
    areas = np.array([np.pi * (1 + top) * slant, np.pi, np.pi * top**2])
    part = rng.choice(3, n, p=areas / areas.sum())
    angle = rng.uniform(0, 2 * np.pi, n)
    u = rng.random(n)
    along = u if top == 1 else 1 - np.sqrt(u)
    side = part == 0
    radius = np.where(side, 1 + (top - 1) * along, np.where(part == 1, 1, top) * np.sqrt(u))
    z = height * (np.where(side, along, part == 2) - 0.5)
    flat = np.where(side, height / slant, 0.0)
    up = np.where(side, (1 - top) / slant, np.where(part == 1, -1.0, 1.0))
    direction = np.stack((np.cos(angle), np.sin(angle)), 1)
    xyz = np.column_stack((direction * radius[:, None], z))
    return xyz, np.column_stack((direction * flat[:, None], up))


def _square(axis: int, at: float) -> Array:
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], float)
    return np.insert(corners, axis, at, axis=1)


def _pyramid() -> list[Array]:
    foot, tip = _square(2, -0.7), np.array([0, 0, 1.2])
    return [foot, *(np.stack((foot[i], foot[(i + 1) % 4], tip)) for i in range(4))]


_FACES: dict[str, list[Array]] = {
    "cube": [0.8 * _square(axis, at) for axis in range(3) for at in (-1.0, 1.0)],
    "pyramid": _pyramid(),
    "plane": [_square(2, 0.0)],
}


def _flat(rng: Generator, faces: list[Array], n: int) -> tuple[Array, Array]:
    """Faces of three or four corners (a parallelogram), sampled by area."""
    sides = np.stack([(f[1] - f[0], f[-1] - f[0]) for f in faces])
    crosses = np.cross(sides[:, 0], sides[:, 1])
    areas = np.linalg.norm(crosses, axis=1) / np.array([2 if len(f) == 3 else 1 for f in faces])
    face = rng.choice(len(faces), n, p=areas / areas.sum())
    u, v = rng.random((2, n))
    fold = (u + v > 1) & np.array([len(f) == 3 for f in faces])[face]
    u, v = np.where(fold, 1 - u, u), np.where(fold, 1 - v, v)
    corners = np.stack([f[0] for f in faces])[face]
    xyz = corners + u[:, None] * sides[face, 0] + v[:, None] * sides[face, 1]
    normals = crosses / np.linalg.norm(crosses, axis=1, keepdims=True)
    outward = np.sign((normals * (np.stack([f.mean(0) for f in faces]))).sum(1))
    return xyz, (normals * np.where(outward == 0, 1, outward)[:, None])[face]


def _rotation(rng: Generator) -> Array:
    """Any turn about the vertical, a small tilt about a level axis."""
    a, b = rng.uniform(0, 2 * np.pi), rng.normal(0, 0.3)
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    return tilt @ turn


def _visible(rng: Generator, xyz: Array, normals: Array, points: int) -> NDArray[np.int64]:
    """Indices of what stays: all, or what faces a scanner above the horizon (as a depth camera sees it)."""
    count = int(rng.integers(points // 3, points + 1))
    if rng.random() < 0.6:
        return rng.choice(len(xyz), count, replace=False)
    a, b = rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 1.0)
    eye = 5 * np.array([np.cos(a) * np.cos(b), np.sin(a) * np.cos(b), np.sin(b)])
    facing = np.flatnonzero((normals * (eye - xyz)).sum(1) > 0)
    return rng.permutation(facing)[:count] if len(facing) > 32 else np.arange(count)
