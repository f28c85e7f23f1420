"""Wavefront OBJ: vertices (with colours, if any) and faces. Materials are never opened."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from mmworld.errors import LimitError
from mmworld.media.text import Lines, rows, shown
from mmworld.modalities.pointcloud.readers import polygons
from mmworld.modalities.pointcloud.readers.scan import Block, Scan, malformed

_IGNORED = frozenset(
    b"vn vt vp g o s l p mg usemtl mtllib usemap maplib shadow_obj trace_obj lod bevel c_interp d_interp".split()
)
_MAX_DIGITS = 18


def parse(file: BinaryIO, name: str) -> Scan:
    faces: list[NDArray[np.int64]] = []
    return Scan(_blocks(file, name, faces), faces)


def _blocks(file: BinaryIO, name: str, faces: list[NDArray[np.int64]]) -> Iterator[Block]:
    n_points = n_faces = width = 0
    for numbers, lines in Lines(file, name).take():
        vertices: list[bytes] = []
        vertex_numbers: list[int] = []
        found: list[list[int]] = []
        for number, line in zip(numbers, lines, strict=True):
            word, _, rest = line.replace(b"\t", b" ").partition(b" ")
            if word == b"v" and rest:
                vertices.append(rest)
                vertex_numbers.append(number)
            elif word == b"f":
                found.append(_corners(rest.split(), n_points + len(vertices), number, name))
            elif word not in _IGNORED:
                raise malformed(name, f"row {number}: {shown(line)} is not OBJ")
        if vertices:
            table = rows(vertices, vertex_numbers, name, width=width or None)
            width = table.shape[1]
            n_points += len(table)
            yield _columns(table, name)
        n_faces += len(found)
        if n_faces > polygons.MAX_FACES:
            raise LimitError("limit", f"{name}: more than {polygons.MAX_FACES} faces")
        faces.extend(polygons.triangles(found))
    if not n_points:
        raise malformed(name, "an OBJ without vertices")


def _corners(words: Sequence[bytes], n_points: int, number: int, name: str) -> list[int]:
    """Points of a face `v`, `v/vt`, `v//vn` or `v/vt/vn`, from 1, or from the last one backwards if negative."""
    corners = []
    for word in words:
        digits = word.partition(b"/")[0]
        if not digits.removeprefix(b"-").isdigit() or len(digits) > _MAX_DIGITS:
            raise malformed(name, f"row {number}: {shown(word)} does not name a point")
        corner = int(digits)
        if corner == 0 or corner < -n_points:
            raise malformed(name, f"row {number}: there is no point {corner}")
        corners.append(corner - 1 if corner > 0 else n_points + corner)
    if len(corners) > polygons.MAX_CORNERS:
        raise malformed(name, f"row {number}: a face of {len(corners)} corners, the limit is {polygons.MAX_CORNERS}")
    return corners


def _columns(table: NDArray[np.float64], name: str) -> Block:
    width = table.shape[1]
    if width not in (3, 4, 6, 7):
        raise malformed(name, f"OBJ vertices of {width} numbers", "x y z, then w, or r g b")
    block: Block = dict(zip("xyz", table.T, strict=False))
    if width >= 6:
        block |= dict(zip("rgb", np.clip(table[:, 3:6].T, 0, 1), strict=True))
    return block
