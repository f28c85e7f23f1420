"""Faces as their files list them: polygons of any size, cut into triangles."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from mmworld.errors import LimitError
from mmworld.media.npy import bytes_left
from mmworld.media.text import shown
from mmworld.modalities.pointcloud.readers.scan import fan, malformed, truncated

MAX_FACES = 10_000_000
MAX_CORNERS = 1024
_MAX_BYTES = 512 << 20


def walk(
    file: BinaryIO, name: str, count: int, fields: Sequence[tuple[str | None, str]], order: str, corners: int | None
) -> list[NDArray[np.int64]]:
    """Read `count` binary records of values and lists; the triangles of list number `corners`, if any.

    Args:
        fields: for each property its list's length type (None for a single value) and its type, as numpy codes.
        order: "<" or ">".
    """
    if count > MAX_FACES:
        raise LimitError("limit", f"{name}: {count} faces, the limit is {MAX_FACES}")
    start = file.tell()
    data = file.read(min(bytes_left(file), _MAX_BYTES))
    endian: Literal["big", "little"] = "big" if order == ">" else "little"
    steps = [
        (int(c[1]) if c else 0, bool(c and c[0] == "i"), int(t[1]), i == corners) for i, (c, t) in enumerate(fields)
    ]
    starts, lengths, here = [], [], 0
    for row in range(count):
        for length_size, signed, size, wanted in steps:
            n = 1
            if length_size:
                n = int.from_bytes(data[here : here + length_size], endian, signed=signed)
                here += length_size
                if not 0 <= n <= MAX_CORNERS:
                    raise malformed(name, f"record {row + 1} lists {n} values, the limit is {MAX_CORNERS}")
                if wanted:
                    starts.append(here)
                    lengths.append(n)
            here += n * size
        if here > len(data):
            raise truncated(name, f"the file ends in record {row + 1} of {count}")
    file.seek(start + here)
    if corners is None:
        return []
    return _gather(data, np.array(starts, np.int64), np.array(lengths, np.int64), np.dtype(order + fields[corners][1]))


def _gather(
    data: bytes, starts: NDArray[np.int64], lengths: NDArray[np.int64], dtype: np.dtype[np.integer]
) -> list[NDArray[np.int64]]:
    raw = np.frombuffer(data, np.uint8)
    found = []
    for n in np.unique(lengths[lengths >= 3]):
        places = starts[lengths == n, None] + np.arange(n * dtype.itemsize)
        found.append(fan(raw[places].view(dtype).astype(np.int64)))
    return found


def from_text(lines: list[bytes], numbers: Sequence[int], name: str, skip: int = 0) -> list[NDArray[np.int64]]:
    """Triangles of lines `[skip words] n i1 … in [anything]`."""
    polygons = []
    for line, number in zip(lines, numbers, strict=True):
        words = line.split()[skip:]
        if not words or not words[0].isdigit() or int(words[0][:9]) > MAX_CORNERS:
            raise malformed(name, f"row {number}: {shown(line)} does not begin with a number of corners")
        n = int(words[0])
        corners = words[1 : 1 + n]
        if len(corners) < n or not all(w.isdigit() and len(w) < 19 for w in corners):
            raise malformed(name, f"row {number}: {shown(line)} does not list {n} points")
        polygons.append([int(w) for w in corners])
    return triangles(polygons)


def triangles(polygons: Iterable[Sequence[int]]) -> list[NDArray[np.int64]]:
    """Polygons cut into triangles, those of one size together; two corners or fewer have no area."""
    by_size: dict[int, list[Sequence[int]]] = {}
    for polygon in polygons:
        by_size.setdefault(len(polygon), []).append(polygon)
    return [fan(np.array(p, np.int64)) for n, p in by_size.items() if n >= 3]
