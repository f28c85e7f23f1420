"""PCD 0.5 to 0.7 of the Point Cloud Library: ascii, binary and binary_compressed."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from mmworld.errors import LimitError
from mmworld.media.npy import bytes_left
from mmworld.media.text import rows
from mmworld.modalities.pointcloud.readers import lzf
from mmworld.modalities.pointcloud.readers.scan import (
    BLOCK,
    Block,
    Scan,
    column,
    header_lines,
    lines_after_header,
    malformed,
    read_exactly,
    truncated,
    whole_number,
)

_KEYS = {"VERSION", "FIELDS", "COLUMNS", "SIZE", "TYPE", "COUNT", "WIDTH", "HEIGHT", "VIEWPOINT", "POINTS", "DATA"}
_CODES = {"F": "48", "I": "1248", "U": "1248"}
_MAX_RECORD = 1 << 16
_MAX_BYTES = 512 << 20


@dataclass(frozen=True)
class Header:
    fields: tuple[str, ...]  # unnamed fields (`_`) have a number added
    types: tuple[str, ...]  # numpy codes
    counts: tuple[int, ...]
    points: int
    data: str

    @property
    def dtype(self) -> np.dtype[np.void]:
        """One point of a binary file."""
        return np.dtype([(f, t, (n,)) for f, t, n in zip(self.fields, self.types, self.counts, strict=True)])


def parse(file: BinaryIO, name: str) -> Scan:
    header = _header(file, name)
    read = {"ascii": _ascii, "binary": _binary, "binary_compressed": _compressed}
    if header.data not in read:
        raise malformed(name, f"PCD data {header.data[:24]!r}", f"one of {', '.join(read)}")
    return Scan(read[header.data](file, name, header, bytes_left(file)))


def _header(file: BinaryIO, name: str) -> Header:
    entries: dict[str, list[str]] = {}
    for words in header_lines(file, name, "DATA"):
        if words[0].startswith("#"):
            continue
        if words[0] not in _KEYS or words[0] in entries:
            raise malformed(name, f"PCD header line {' '.join(words)[:60]!r}")
        entries[words[0]] = words[1:]
    fields = entries.get("FIELDS") or entries.get("COLUMNS") or []
    sizes, kinds = entries.get("SIZE", []), entries.get("TYPE", [])
    counts = [whole_number(c, name, "COUNT") for c in entries.get("COUNT", ["1"] * len(fields))]
    if not len(fields) == len(sizes) == len(kinds) == len(counts):
        raise malformed(name, f"{len(fields)} FIELDS, {len(sizes)} SIZE, {len(kinds)} TYPE, {len(counts)} COUNT")
    for size, kind in zip(sizes, kinds, strict=True):
        if kind not in _CODES or size not in _CODES[kind]:
            raise malformed(name, f"a field of TYPE {kind[:8]!r} and SIZE {size[:8]!r}")
    if sum(n * int(s) for n, s in zip(counts, sizes, strict=True)) > _MAX_RECORD or 0 in counts:
        raise LimitError("limit", f"{name}: COUNT {max(counts)}, the limit for a point is {_MAX_RECORD} bytes")
    labels = [f"_{i}" if f == "_" else f for i, f in enumerate(fields)]
    if missing := [axis for axis in "xyz" if axis not in fields]:
        raise malformed(name, f"PCD points have no {', '.join(missing)}")
    if len(set(labels)) < len(labels):
        raise malformed(name, "two PCD fields have one name")
    types = tuple(f"<{k.lower()}{s}" for k, s in zip(kinds, sizes, strict=True))
    return Header(tuple(labels), types, tuple(counts), _points(entries, name), " ".join(entries["DATA"]))


def _points(entries: dict[str, list[str]], name: str) -> int:
    values = {k: whole_number(" ".join(entries[k]), name, k) for k in ("WIDTH", "HEIGHT", "POINTS") if k in entries}
    area = values.get("WIDTH", 0) * values.get("HEIGHT", 1)
    if not values or ("WIDTH" in values and values.get("POINTS", area) != area):
        raise malformed(name, f"PCD has {', '.join(f'{k} {v}' for k, v in values.items()) or 'no POINTS'}")
    return values.get("POINTS", area)


def _need(header: Header, size: int, left: int, name: str) -> None:
    if header.points * size > left:
        raise truncated(name, f"{header.points} points need {header.points * size} bytes, {left} left")


def _columns(header: Header, values: dict[str, NDArray[np.generic]]) -> Block:
    """Named columns of the fields' first values; rgb and rgba are bytes packed into one number."""
    block: Block = {}
    for field in header.fields:
        if field in ("rgb", "rgba"):
            block |= _unpack(values[field])
        elif key := column(field):
            block[key] = values[field]
    return block


def _unpack(packed: NDArray[np.generic]) -> Block:
    if packed.dtype.kind == "f":
        bits = np.ascontiguousarray(packed, np.float32).view(np.uint32)
    else:
        bits = packed.astype(np.uint32)
    return {c: (bits >> shift & 255).astype(np.float32) / 255 for c, shift in (("r", 16), ("g", 8), ("b", 0))}


def _binary(file: BinaryIO, name: str, header: Header, left: int) -> Iterator[Block]:
    dtype = header.dtype
    _need(header, dtype.itemsize, left, name)
    rows_each = max(1, min(BLOCK, _MAX_BYTES // 8 // dtype.itemsize))
    for i in range(0, header.points, rows_each):
        n = min(rows_each, header.points - i)
        record = np.frombuffer(read_exactly(file, n * dtype.itemsize, name), dtype)
        yield _columns(header, {f: record[f][:, 0] for f in header.fields})


def _compressed(file: BinaryIO, name: str, header: Header, left: int) -> Iterator[Block]:
    packed, size = struct.unpack("<II", read_exactly(file, 8, name))
    if size != header.points * header.dtype.itemsize:
        raise malformed(name, f"{header.points} points of {header.dtype.itemsize} bytes are not {size} bytes")
    if size > _MAX_BYTES:
        raise LimitError("limit", f"{name}: {size} bytes of points in one piece, the limit is {_MAX_BYTES}")
    if packed > left - 8:
        raise truncated(name, f"{packed} compressed bytes are declared, {left - 8} are there")
    try:
        data = lzf.decompress(file.read(packed), size)
    except ValueError as e:
        raise malformed(name, f"damaged compressed points: {e}") from None
    values, start = {}, 0
    for field, code, count in zip(header.fields, header.types, header.counts, strict=True):  # field after field
        column = np.frombuffer(data, code, header.points * count, start)
        start += column.nbytes
        values[field] = column.reshape(header.points, count)[:, 0]
    yield _columns(header, values)


def _ascii(file: BinaryIO, name: str, header: Header, left: int) -> Iterator[Block]:
    width = sum(header.counts)
    _need(header, 2 * width - 1, left + 1, name)
    places = np.cumsum((0, *header.counts[:-1]))
    read = 0
    for numbers, lines in lines_after_header(file, name).take(header.points):
        table = rows(lines, numbers, name, width=width)
        read += len(lines)
        with np.errstate(over="ignore", invalid="ignore"):
            yield _columns(
                header,
                {f: _cast(table[:, p], t) for f, p, t in zip(header.fields, places, header.types, strict=True)},
            )
    if read < header.points:
        raise truncated(name, f"{read} of {header.points} points are there")


def _cast(values: NDArray[np.float64], code: str) -> NDArray[np.generic]:
    if code[1] == "f":
        return values.astype(code)
    info = np.iinfo(code)
    return np.clip(np.nan_to_num(values), info.min, np.nextafter(float(info.max), 0)).astype(code)
