"""Bare float32 records: KITTI (x y z reflectance), nuScenes (and ring), SUN RGB-D (x y z r g b); nothing says which."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from mmworld.media.npy import bytes_left
from mmworld.modalities.pointcloud.readers.scan import BLOCK, Block, Scan, malformed, read_exactly

_COLUMNS = {
    4: ("x", "y", "z", "intensity"),
    5: ("x", "y", "z", "intensity"),
    6: ("x", "y", "z", "r", "g", "b"),
}
_ORDER = ((4, 1), (6, 1), (5, 255), (4, 255))  # width of a record, and the most its extra numbers can be
_MOST = 0.98  # of the records must make sense


def parse(file: BinaryIO, name: str) -> Scan:
    size = bytes_left(file)
    head = np.frombuffer(file.read(1 << 16), np.uint8)
    file.seek(0)
    width = next((w for w, top in _ORDER if size % (4 * w) == 0 and _fits(head, w, top)), None)
    if width is None:
        what = f"{size} bytes are not whole records of KITTI, nuScenes or SUN RGB-D"
        raise malformed(name, what, "cut off, or not a cloud?")
    return Scan(_blocks(file, name, size // (4 * width), width))


def _fits(head: NDArray[np.uint8], width: int, top: float) -> bool:
    """Whether the first records make sense: places within 10 km, then reflectance, a laser's number, or colours."""
    record = head[: len(head) // (4 * width) * 4 * width].view("<f4").reshape(-1, width)
    record = record[np.isfinite(record).all(1)]
    place, extra = np.abs(record[:, :3]) < 1e4, record[:, 3:]
    good = place.all(1) & ((extra >= 0) & (extra <= top)).all(1)
    if width == 5:
        good &= extra[:, 1] == np.floor(extra[:, 1])
    return len(record) > 0 and bool(good.mean() >= _MOST)


def _blocks(file: BinaryIO, name: str, count: int, width: int) -> Iterator[Block]:
    for i in range(0, count, BLOCK):
        data = read_exactly(file, min(BLOCK, count - i) * 4 * width, name)
        record = np.frombuffer(data, "<f4").reshape(-1, width)
        yield dict(zip(_COLUMNS[width], record.T, strict=False))
