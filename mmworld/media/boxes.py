"""The top level of an MP4/QuickTime file, walked without a parser: is the index there, where, and how large?"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import IO, NamedTuple

MAX_BOXES = 100_000


class Box(NamedTuple):
    type: bytes
    start: int
    end: int


def boxes(file: IO[bytes]) -> Iterator[Box]:
    """Top-level boxes of a seekable file, as declared (the last may end beyond the file)."""
    size = file.seek(0, os.SEEK_END)
    start = 0
    for _ in range(MAX_BOXES):
        file.seek(start)
        header = file.read(16)
        if len(header) < 8:
            return
        length, kind = struct.unpack(">I4s", header[:8])
        if length == 1 and len(header) == 16:
            length = struct.unpack(">Q", header[8:])[0]
        end = size if length == 0 else start + length
        if end < start + 8:
            return
        yield Box(kind, start, end)
        if end >= size:
            return
        start = end


def index_first(head: bytes) -> bool:
    """Whether a stream that starts with `head` has its index before its data, so that it can be read as it arrives."""
    start = 0
    while start + 8 <= len(head):
        length, kind = struct.unpack(">I4s", head[start : start + 8])
        if kind in (b"moov", b"mdat"):
            return bool(kind == b"moov")
        if length < 8:
            return False
        start += length
    return True
