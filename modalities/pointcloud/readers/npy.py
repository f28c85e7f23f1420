"""Clouds in NPY (rows of columns, or a structure with fields x, y, z) and in NPZ (xyz or points, and the rest)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mmworld.media.npy import Npy, bytes_left, read_header, read_npz, record_blocks
from mmworld.modalities.pointcloud.readers.plain import Layout, check_width
from mmworld.modalities.pointcloud.readers.scan import BLOCK, Block, Scan, colour, column, malformed

_PLACES = ("xyz", "points", "pos")
_TRIPLES = {"rgb": "rgb", "colors": "rgb", "colours": "rgb", "normals": ("nx", "ny", "nz")}
_SINGLES = ("velocity", "intensity")


def parse(file: BinaryIO, name: str) -> Scan:
    header = read_header(file, name, bytes_left(file))
    if header.dtype.names:
        if len(header.shape) != 1 or not {"x", "y", "z"} <= set(header.dtype.names):
            raise malformed(name, f"an array {header.shape} of fields {header.dtype.names}"[:120], "x, y, z are needed")
        return Scan(_structured(file, name, header))
    if len(header.shape) != 2:
        raise malformed(name, f"an array of shape {header.shape}", "a cloud is [points, columns]")
    check_width(header.shape[1], name)
    return Scan(_plain(file, name, header))


def _structured(file: BinaryIO, name: str, header: Npy) -> Iterator[Block]:
    keys = {field: key for field in header.dtype.names or () if (key := column(field))}
    for record in record_blocks(file, name, header, BLOCK):
        yield {k: colour(record[f]) if k in "rgb" else record[f] for f, k in keys.items()}


def _plain(file: BinaryIO, name: str, header: Npy) -> Iterator[Block]:
    layout = None
    for values in record_blocks(file, name, header, BLOCK):
        layout = layout or Layout(values, name)
        yield layout.columns(values)


def parse_npz(file: BinaryIO, name: str) -> Scan:
    return Scan(iter([npz_columns(read_npz(file, name), name)]))


def npz_columns(arrays: dict[str, NDArray[Any]], name: str) -> Block:
    """The columns of a cloud kept as named arrays with a row for each point."""
    places = next((arrays[k] for k in _PLACES if k in arrays), None)
    if places is None:
        raise malformed(name, f"NPZ of {', '.join(arrays)[:60]!r}", f"one of {', '.join(_PLACES)} is needed")
    block = Layout(_rows(places, len(places) if places.ndim else 0, 2, name), name).columns(places)
    for key, names in _TRIPLES.items():
        if key in arrays:
            values = _rows(arrays[key], len(places), 2, name)
            if values.shape[1] != 3:
                raise malformed(name, f"{key} of shape {values.shape}")
            block |= {n: colour(v) if key != "normals" else v for n, v in zip(names, values.T, strict=True)}
    return block | {key: _rows(arrays[key], len(places), 1, name) for key in _SINGLES if key in arrays}


def _rows(array: NDArray[Any], n: int, ndim: int, name: str) -> NDArray[Any]:
    if array.ndim != ndim or len(array) != n or array.dtype.names:
        raise malformed(name, f"an array of shape {array.shape} beside {n} points")
    return np.asarray(array)
