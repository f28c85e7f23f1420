"""What a reader makes of a file: a scan (blocks of named columns), collected into a cloud of eleven columns."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmworld.errors import LimitError, MediaError
from mmworld.media.text import Lines
from mmworld.modalities.pointcloud.sampling import VoxelGrid

COLUMNS = ("x", "y", "z", "r", "g", "b", "nx", "ny", "nz", "velocity", "intensity")
MAX_HEADER = 1 << 16
MAX_POINTS = 2_000_000  # held at once; a larger cloud is thinned as it is read
MAX_TOTAL = 1_000_000_000
HUGE = 1e8  # metres: beyond any map projection, and float32 is 8 m coarse there
BLOCK = 1 << 18  # points of one block

_ALIASES = {
    "r": ("red", "diffuse_red"),
    "g": ("green", "diffuse_green"),
    "b": ("blue", "diffuse_blue"),
    "nx": ("normal_x",),
    "ny": ("normal_y",),
    "nz": ("normal_z",),
    "velocity": ("vel", "doppler", "radial_velocity"),
    "intensity": ("i", "reflectance", "reflectivity", "scalar_intensity"),
}
_COLUMN = {name: name for name in COLUMNS} | {a: c for c, aliases in _ALIASES.items() for a in aliases}

Block = dict[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Cloud:
    """A point cloud in metres as its file stores them.

    Attributes:
        points: float32 [P, 11] finite, the columns COLUMNS; a column the file lacks is zero. Colours are in [0, 1].
        present: the columns the file has.
        dropped: points left out because a coordinate was NaN, infinite or beyond 1e8.
        faces: int64 [F, 3] triangles of a mesh, rows of `points`; None for a bare cloud.
        voxel: edge of the voxel grid that thinned a cloud too large to hold; None if every point is here.
    """

    points: Tensor
    present: frozenset[str]
    dropped: int = 0
    faces: Tensor | None = None
    voxel: float | None = None


@dataclass
class Scan:
    """A file being read.

    Attributes:
        blocks: in file order, columns by name, each an array [p]; colours already in [0, 1].
        faces: triangles int64 [f, 3], complete once `blocks` is drained.
    """

    blocks: Iterator[Block]
    faces: list[NDArray[np.int64]] = field(default_factory=list)


def column(name: str) -> str | None:
    """The column of COLUMNS that a file's field of this name holds, or None."""
    return _COLUMN.get(name.lower())


def truncated(name: str, what: str) -> MediaError:
    return MediaError("truncated", f"{name}: {what}")


def malformed(name: str, what: str, hint: str = "") -> MediaError:
    return MediaError("format", f"{name}: {what}", hint=hint)


def header_lines(file: BinaryIO, name: str, last: str) -> list[list[str]]:
    """The words of each header line, up to the line that begins with `last`; at most 64 KB."""
    lines: list[list[str]] = []
    used = 0
    while True:
        line = file.readline(MAX_HEADER + 1 - used)
        used += len(line)
        if used > MAX_HEADER:
            raise LimitError("limit", f"{name}: the header is longer than {MAX_HEADER} bytes")
        if not line.endswith(b"\n"):
            raise truncated(name, f"the header ends before {last!r}")
        words = line.decode("ascii", "replace").split()
        if words:
            lines.append(words)
            if words[0] == last:
                return lines


def lines_after_header(file: BinaryIO, name: str) -> Lines:
    """The lines from here on, numbered as they are in the whole file."""
    here = file.tell()
    file.seek(0)
    return Lines(file, name, first=file.read(here).count(b"\n") + 1)


def read_exactly(file: BinaryIO, n: int, name: str) -> bytes:
    data = file.read(n)
    if len(data) < n:
        raise truncated(name, f"{n - len(data)} bytes short")
    return data


def whole_number(word: str, name: str, what: str) -> int:
    """A count from a header: decimal digits only."""
    if not (word.isascii() and word.isdigit() and len(word) < 20):
        raise malformed(name, f"{what} {word[:24]!r} is not a whole number")
    return int(word)


def colour(values: NDArray[Any]) -> NDArray[np.float32]:
    """Stored colours to [0, 1]: integers by their type's maximum, floats as they are."""
    scale = np.iinfo(values.dtype).max if values.dtype.kind == "u" else 255 if values.dtype.kind == "i" else 1
    return np.clip(values / np.float32(scale), 0, 1).astype(np.float32)


def fan(polygons: NDArray[np.int64]) -> NDArray[np.int64]:
    """Polygons [f, n] as triangles [f * (n - 2), 3] around their first corner."""
    n = polygons.shape[1]
    corners = [polygons[:, [0, i, i + 1]] for i in range(1, n - 1)]
    return np.stack(corners, 1).reshape(-1, 3) if corners else np.zeros((0, 3), np.int64)


def collect(scan: Scan, name: str, max_points: int = MAX_POINTS) -> Cloud:
    """Drain a scan. Past `max_points` the cloud goes through a voxel grid whose edge doubles until it fits."""
    present: set[str] = set()
    held: list[NDArray[np.float32]] = []
    good: list[NDArray[np.bool_]] = []
    total = kept = 0
    grid: VoxelGrid | None = None
    for block in scan.blocks:
        points, finite = canvas(block)
        present.update(block)
        good.append(finite)
        total, kept = total + len(finite), kept + len(points)
        if total > MAX_TOTAL:
            raise LimitError("limit", f"{name}: more than {MAX_TOTAL} points")
        if grid is None:
            held.append(points)
            if kept > max_points:
                grid = VoxelGrid(_fine_edge(np.concatenate(held), max_points), max_points)
                for points in held:
                    grid.add(points)
                held = []
        else:
            grid.add(points)
    array = grid.points() if grid else np.concatenate(held) if held else np.zeros((0, len(COLUMNS)), np.float32)
    faces = None if grid or not scan.faces else _faces(scan.faces, np.concatenate(good), name)
    voxel = grid.size if grid else None
    return Cloud(torch.from_numpy(array), frozenset(present), total - kept, faces, voxel)


def canvas(block: Block) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The eleven columns of the block's usable points, and which points those are."""
    canvas = np.zeros((len(block["x"]), len(COLUMNS)), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for key, values in block.items():
            canvas[:, COLUMNS.index(key)] = values
    good = np.all(np.abs(canvas[:, :3]) < HUGE, axis=1)  # False for NaN too
    if not good.all():
        canvas = canvas[good]
    extras = canvas[:, 3:]
    extras[~(np.abs(extras) < HUGE)] = 0
    return canvas, good


def _fine_edge(points: NDArray[np.float32], max_points: int) -> float:
    """An edge to begin with: somewhat finer than fits a surface of the cloud's typical width (a median)."""
    xyz = points[:, :3].astype(np.float64)
    return float(np.median(np.abs(xyz - np.median(xyz, 0)), 0).max()) / math.sqrt(max_points) or 1e-3


def _faces(pieces: list[NDArray[np.int64]], good: NDArray[np.bool_], name: str) -> Tensor | None:
    """Triangles over the kept points; those that touch a dropped one go with it."""
    faces = np.concatenate(pieces)
    if len(faces) and (faces.min() < 0 or faces.max() >= len(good)):
        bad = faces.max() if faces.max() >= len(good) else faces.min()
        raise MediaError("index", f"{name}: a face names point {bad}, the file has {len(good)}")
    if not good.all():
        faces = (np.cumsum(good) - 1)[faces[good[faces].all(1)]]
    return torch.from_numpy(np.ascontiguousarray(faces, np.int64)) if len(faces) else None
