"""Text of one point a row: .xyz, .xyzn, .xyzrgb, .xyzi, .pts, .txt; spaces, tabs, commas or semicolons."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import BinaryIO

from mmworld.media.npy import bytes_left
from mmworld.media.text import Lines, rows
from mmworld.modalities.pointcloud.readers.plain import Layout
from mmworld.modalities.pointcloud.readers.scan import Block, Scan, malformed, truncated, whole_number


def parse(file: BinaryIO, name: str) -> Scan:
    return Scan(_blocks(Lines(file, name), name, bytes_left(file)))


def _blocks(lines: Lines, name: str, size: int) -> Iterator[Block]:
    pieces = lines.take()
    first_numbers, first = next(pieces, ([], []))
    count = None
    if name.lower().endswith(".pts") and first and len(first[0].split()) == 1:  # PTS begins with its count
        count = whole_number(first[0].decode("ascii", "replace"), name, "the count of points")
        if 6 * count > size + 1:  # "0 0 0" and the end of the line
            raise truncated(name, f"{count} points need at least {6 * count} bytes, {size} are there")
        first_numbers, first = first_numbers[1:], first[1:]
    if not first:
        if count is None:
            raise malformed(name, "no points in it")
        return
    delimiter = next((d for d in (b",", b";") if d in first[0]), None)
    width = len(first[0].split(delimiter))
    layout, read = None, 0
    for numbers, piece in chain([(first_numbers, first)], pieces):
        table = rows(piece, numbers, name, width=width, delimiter=delimiter)
        layout = layout or Layout(table, name)
        read += len(table)
        yield layout.columns(table)
    if count is not None and read != count:
        raise truncated(name, f"{read} of {count} points are there")
