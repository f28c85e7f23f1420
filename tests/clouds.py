"""Writers of point clouds, meshes and recordings, for the tests of the readers; a cloud is columns by name."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Columns = Mapping[str, NDArray[Any]]
PLY_TYPES = {"f4": "float", "f8": "double", "u1": "uchar", "i1": "int8", "u2": "ushort", "i4": "int", "u4": "uint32"}


def _words(row: Any) -> str:
    return " ".join(repr(v.item()) for v in row)


def write_ply(columns: Columns, encoding: str, faces: Sequence[Sequence[int]] | None = None, end: str = "\n") -> bytes:
    """PLY with the columns as they are typed. `encoding`: "ascii", "binary_little_endian", "binary_big_endian"."""
    n = len(next(iter(columns.values())))
    lines = ["ply", f"format {encoding} 1.0", "comment made by a test", f"element vertex {n}"]
    lines += [f"property {PLY_TYPES[v.dtype.str[1:]]} {k}" for k, v in columns.items()]
    if faces is not None:
        lines += [f"element face {len(faces)}", "property uchar flags", "property list uchar int vertex_indices"]
    head = "".join(line + end for line in [*lines, "end_header"]).encode()
    if encoding == "ascii":
        rows = [_words(row) for row in zip(*columns.values(), strict=True)]
        rows += [f"0 {len(f)} {' '.join(map(str, f))}" for f in faces or ()]
        return head + "".join(row + end for row in rows).encode()
    order = "<" if "little" in encoding else ">"
    record = np.zeros(n, [(k, order + v.dtype.str[1:]) for k, v in columns.items()])
    for key, values in columns.items():
        record[key] = values
    tail = b"".join(struct.pack(f"{order}BB{len(f)}i", 0, len(f), *f) for f in faces or ())
    return head + record.tobytes() + tail


def pack_rgb(columns: Columns) -> dict[str, NDArray[Any]]:
    """uint8 r, g, b as PCL packs them."""
    rest = {k: v for k, v in columns.items() if k not in "rgb"}
    r, g, b = (columns[c].astype(np.uint32) for c in "rgb")
    return rest | {"rgb": r << 16 | g << 8 | b}


def write_pcd(columns: Columns, encoding: str, end: str = "\n") -> bytes:
    """PCD 0.7; `encoding`: "ascii", "binary", "binary_compressed"."""
    n = len(next(iter(columns.values())))
    kinds = [v.dtype.kind.upper() for v in columns.values()]
    lines = ["# .PCD v0.7 - Point Cloud Data file format", "VERSION 0.7", f"FIELDS {' '.join(columns)}"]
    lines += [f"SIZE {' '.join(str(v.dtype.itemsize) for v in columns.values())}", f"TYPE {' '.join(kinds)}"]
    lines += [f"COUNT {' '.join('1' for _ in columns)}", f"WIDTH {n}", "HEIGHT 1", "VIEWPOINT 0 0 0 1 0 0 0"]
    head = "".join(line + end for line in [*lines, f"POINTS {n}", f"DATA {encoding}"]).encode()
    if encoding == "ascii":
        return head + "".join(_words(row) + end for row in zip(*columns.values(), strict=True)).encode()
    if encoding == "binary":
        record = np.zeros(n, [(k, v.dtype.str) for k, v in columns.items()])
        for key, values in columns.items():
            record[key] = values
        return head + record.tobytes()
    data = b"".join(np.ascontiguousarray(v).tobytes() for v in columns.values())
    packed = lzf_compress(data)
    return head + struct.pack("<II", len(packed), len(data)) + packed


def lzf_compress(data: bytes) -> bytes:
    """A greedy LZF compressor: references of up to 264 bytes, overlapping ones too."""
    out, literals, seen, i = bytearray(), bytearray(), {}, 0

    def flush() -> None:
        for start in range(0, len(literals), 32):
            run = literals[start : start + 32]
            out.append(len(run) - 1)
            out.extend(run)
        literals.clear()

    while i < len(data):
        key = data[i : i + 3]
        start = seen.get(key)
        seen[key] = i
        if start is None or len(key) < 3 or i - start > 8192:
            literals.append(data[i])
            i += 1
            continue
        n = 3
        while n < 264 and i + n < len(data) and data[start + n] == data[i + n]:
            n += 1
        flush()
        offset = i - start - 1
        length = n - 2
        out.append(min(length, 7) << 5 | offset >> 8)
        if length >= 7:
            out.append(length - 7)
        out.append(offset & 255)
        i += n
    flush()
    return bytes(out)


def write_text(columns: Columns, delimiter: str = " ", end: str = "\n", count: bool = False) -> bytes:
    """XYZ, and PTS with `count`."""
    rows = [delimiter.join(repr(v.item()) for v in row) for row in zip(*columns.values(), strict=True)]
    return "".join(row + end for row in [*([str(len(rows))] if count else []), *rows]).encode()


def write_off(columns: Columns, faces: Sequence[Sequence[int]], kind: str = "", glued: bool = False) -> bytes:
    rows = [_words(row) for row in zip(*columns.values(), strict=True)]
    counts = f"{len(rows)} {len(faces)} 0"
    head = [f"{kind}OFF{counts}"] if glued else [f"{kind}OFF", "# made by a test", counts]
    return "\n".join([*head, *rows, *(f"{len(f)} {' '.join(map(str, f))}" for f in faces), ""]).encode()


def write_obj(columns: Columns, faces: Sequence[Sequence[int]], style: str = "{0}") -> bytes:
    """`style` of a corner, of its number from 1: "{0}", "{0}/1", "{0}//2", "{0}/1/2"."""
    rows = [f"v {_words(row)}" for row in zip(*columns.values(), strict=True)]
    rows += [f"f {' '.join(style.format(i + 1) for i in f)}" for f in faces]
    return "\n".join(["# made by a test", "mtllib ../../secret.mtl", "o thing", *rows, ""]).encode()


def write_npy(array: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def write_npz(**arrays: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()
