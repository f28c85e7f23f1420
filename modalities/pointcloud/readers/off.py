"""OFF meshes (Geomview), as ModelNet stores them; colours (COFF) and normals (NOFF) of vertices are kept."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from mmworld.errors import LimitError
from mmworld.media.npy import bytes_left
from mmworld.media.text import Lines, rows
from mmworld.modalities.pointcloud.readers import polygons
from mmworld.modalities.pointcloud.readers.scan import Block, Scan, malformed, truncated, whole_number


def parse(file: BinaryIO, name: str) -> Scan:
    faces: list[NDArray[np.int64]] = []
    return Scan(_blocks(file, name, faces), faces)


def _blocks(file: BinaryIO, name: str, faces: list[NDArray[np.int64]]) -> Iterator[Block]:
    left = bytes_left(file)
    lines = Lines(file, name)
    kind, n_points, n_faces = _header(lines, name)
    if 6 * n_points + 4 * n_faces > left:  # "0 0 0" and "0 0", each with the end of its line
        raise truncated(name, f"{n_points} points and {n_faces} faces do not fit in {left} bytes")
    if n_faces > polygons.MAX_FACES:
        raise LimitError("limit", f"{name}: {n_faces} faces, the limit is {polygons.MAX_FACES}")
    read = 0
    for numbers, piece in lines.take(n_points):
        read += len(piece)
        yield _columns(rows(piece, numbers, name), kind, name)
    found = 0
    for numbers, piece in lines.take(n_faces):
        found += len(piece)
        faces.extend(polygons.from_text(piece, numbers, name))
    if next(lines.take(1), None):
        raise malformed(name, f"more rows than {n_points} points and {n_faces} faces")
    if read < n_points or found < n_faces:
        raise truncated(name, f"{read} of {n_points} points and {found} of {n_faces} faces are there")


def _header(lines: Lines, name: str) -> tuple[str, int, int]:
    first = _next(lines, name)
    match = re.fullmatch(r"(C|N)?OFF\s*(.*)", first)
    if not match:
        raise malformed(name, f"OFF header {first[:40]!r}", "binary and four-dimensional OFF are not read")
    counts = (match[2] or _next(lines, name)).split()  # ModelNet has some files with both on one line
    if len(counts) != 3:
        raise malformed(name, f"OFF counts {' '.join(counts)[:40]!r}")
    n_points, n_faces = (whole_number(c, name, "an OFF count") for c in counts[:2])
    return match[1] or "", n_points, n_faces


def _next(lines: Lines, name: str) -> str:
    for _, piece in lines.take(1):
        return piece[0].decode("ascii", "replace")
    raise truncated(name, "the OFF header is cut off")


def _columns(table: NDArray[np.float64], kind: str, name: str) -> Block:
    width = table.shape[1]
    if width < {"": 3, "C": 6, "N": 6}[kind]:
        raise malformed(name, f"{kind}OFF vertices of {width} columns")
    block: Block = dict(zip("xyz", table.T, strict=False))
    if kind == "C":
        scale = 255 if (table[:, 3:6] > 1).any() else 1
        block |= dict(zip("rgb", np.clip(table[:, 3:6].T / scale, 0, 1), strict=True))
    elif kind == "N":
        block |= dict(zip(("nx", "ny", "nz"), table[:, 3:6].T, strict=True))
    return block
