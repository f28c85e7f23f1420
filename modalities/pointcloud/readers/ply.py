"""PLY: ascii, binary little and big endian, with any extra properties and elements (Turk 1994)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from mmworld.errors import LimitError
from mmworld.media.npy import bytes_left
from mmworld.media.text import rows
from mmworld.modalities.pointcloud.readers import polygons
from mmworld.modalities.pointcloud.readers.scan import (
    BLOCK,
    Block,
    Scan,
    colour,
    column,
    header_lines,
    lines_after_header,
    malformed,
    read_exactly,
    truncated,
    whole_number,
)

_TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4",
    "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4",
    "float32": "f4", "float64": "f8",
}  # fmt: skip
_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
_MAX_PROPERTIES = 256
_CORNERS = ("vertex_indices", "vertex_index")


@dataclass(frozen=True)
class Property:
    """`count` is the type of a list's length, None for a single value. Types are numpy codes."""

    name: str
    type: str
    count: str | None = None


@dataclass(frozen=True)
class Element:
    name: str
    count: int
    properties: tuple[Property, ...]

    @property
    def has_list(self) -> bool:
        return any(p.count for p in self.properties)

    def dtype(self, order: str) -> np.dtype[np.void]:
        """One record; of a list only its length, so that the size is the least a record can take."""
        return np.dtype([(p.name, order + (p.count or p.type)) for p in self.properties])


def parse(file: BinaryIO, name: str) -> Scan:
    order, elements = _header(file, name)
    left = bytes_left(file)
    for element in elements:
        least = 2 * len(element.properties) - 1 if not order else element.dtype(order).itemsize
        if element.count * least > left + 1:
            raise truncated(
                name, f"{element.count} of {element.name!r} need {element.count * least} bytes, {left} left"
            )
    faces: list[NDArray[np.int64]] = []
    return Scan((_binary if order else _ascii)(file, name, order, elements, faces), faces)


def _header(file: BinaryIO, name: str) -> tuple[str, list[Element]]:
    lines = header_lines(file, name, "end_header")
    if lines[0] != ["ply"] or len(lines[1]) != 3 or lines[1][0] != "format" or lines[1][1] not in _ORDERS:
        raise malformed(name, f"PLY header begins with {' '.join(lines[1])[:60]!r}")
    declared: list[tuple[str, int, list[Property]]] = []
    for words in lines[2:-1]:
        match words:
            case ["element", element, count]:
                declared.append((element, whole_number(count, name, f"the count of {element[:24]!r}"), []))
            case ["property", "list", count, kind, label] if declared and count in _TYPES and kind in _TYPES:
                if "f" in _TYPES[count]:
                    raise malformed(name, f"list {label[:24]!r} has a length of type {count}")
                declared[-1][2].append(Property(label, _TYPES[kind], _TYPES[count]))
            case ["property", kind, label] if declared and kind in _TYPES:
                declared[-1][2].append(Property(label, _TYPES[kind]))
            case ["comment" | "obj_info", *_]:
                pass
            case _:
                raise malformed(name, f"PLY header line {' '.join(words)[:60]!r}")
    elements = [Element(element, count, tuple(p)) for element, count, p in declared]
    _check(elements, name)
    return _ORDERS[lines[1][1]], elements


def _check(elements: list[Element], name: str) -> None:
    names = [e.name for e in elements]
    if names.count("vertex") != 1 or len(set(names)) < len(names):
        raise malformed(name, f"PLY elements {', '.join(names)[:60]!r}: exactly one must be 'vertex'")
    for element in elements:
        labels = [p.name for p in element.properties]
        if not labels or len(labels) > _MAX_PROPERTIES or len(set(labels)) < len(labels):
            raise malformed(name, f"PLY element {element.name[:24]!r} has {len(labels)} properties, or two of a name")
    vertex = elements[names.index("vertex")]
    known = {column(p.name) for p in vertex.properties}
    if missing := [axis for axis in "xyz" if axis not in known]:
        raise malformed(name, f"PLY vertices have no {', '.join(missing)}")
    if vertex.has_list:
        raise malformed(name, "PLY vertices hold a list")


def _columns(element: Element, record: NDArray[np.void]) -> Block:
    block: Block = {}
    for p in element.properties:
        if key := column(p.name):
            block[key] = colour(record[p.name]) if key in "rgb" else record[p.name]
    return block


def _needed(elements: list[Element]) -> list[Element]:
    """The elements up to the last one that matters."""
    return elements[: 1 + max(i for i, e in enumerate(elements) if e.name in ("vertex", "face"))]


def _corner_list(element: Element, name: str) -> int:
    """Which property lists a face's corners."""
    for i, p in enumerate(element.properties):
        if p.name in _CORNERS and p.count and "f" not in p.type:
            return i
    raise malformed(name, "PLY faces have no list vertex_indices of whole numbers")


def _binary(
    file: BinaryIO, name: str, order: str, elements: list[Element], faces: list[NDArray[np.int64]]
) -> Iterator[Block]:
    for element in _needed(elements):
        dtype = element.dtype(order)
        if element.has_list:
            corners = _corner_list(element, name) if element.name == "face" else None
            fields = [(p.count, p.type) for p in element.properties]
            found = polygons.walk(file, name, element.count, fields, order, corners)
            faces.extend(found)
            continue
        for i in range(0, element.count, BLOCK):
            data = read_exactly(file, min(BLOCK, element.count - i) * dtype.itemsize, name)
            if element.name == "vertex":
                yield _columns(element, np.frombuffer(data, dtype))


def _ascii(
    file: BinaryIO, name: str, order: str, elements: list[Element], faces: list[NDArray[np.int64]]
) -> Iterator[Block]:
    lines = lines_after_header(file, name)
    for element in _needed(elements):
        if element.name == "face" and element.count > polygons.MAX_FACES:
            raise LimitError("limit", f"{name}: {element.count} faces, the limit is {polygons.MAX_FACES}")
        read = 0
        for numbers, piece in lines.take(element.count):
            read += len(piece)
            if element.name == "vertex":
                table = rows(piece, numbers, name, width=len(element.properties))
                yield _columns(element, _record(table, element))
            elif element.name == "face":
                skipped = _corner_list(element, name)
                if any(p.count for p in element.properties[:skipped]):
                    raise malformed(name, "PLY faces hold another list before vertex_indices")
                faces.extend(polygons.from_text(piece, numbers, name, skipped))
        if read < element.count:
            raise truncated(name, f"{read} of {element.count} of {element.name!r} are there")


def _record(table: NDArray[np.float64], element: Element) -> NDArray[np.void]:
    """Text values as their declared types; whole numbers are held to their type's range."""
    record = np.zeros(len(table), element.dtype("="))
    for i, p in enumerate(element.properties):
        values = table[:, i]
        if "f" not in p.type:
            info = np.iinfo(p.type)
            values = np.clip(np.nan_to_num(values), info.min, info.max)
        with np.errstate(over="ignore"):
            record[p.name] = values
    return record
