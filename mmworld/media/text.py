"""Text files of numbers, in blocks: one block is held at a time and a line has a bound."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import IO

import numpy as np
from numpy.typing import NDArray

from mmworld.errors import LimitError, MediaError

MAX_LINE = 1 << 16
BLOCK = 1 << 20


class Lines:
    """The lines of a binary file with their numbers (from `first`), without blank lines and `#` comments.

    Raises:
        LimitError: a line is longer than 64 KB.
    """

    def __init__(self, file: IO[bytes], name: str, *, first: int = 1) -> None:
        self.name = name
        self._blocks = self._read(file, first)

    def _read(self, file: IO[bytes], first: int) -> Iterator[tuple[Sequence[int], list[bytes]]]:
        rest = b""
        read = getattr(file, "read1", file.read)  # what has arrived, so that a live series is live
        while data := read(BLOCK):
            *lines, rest = (rest + data).split(b"\n")
            if max(map(len, lines), default=0) > MAX_LINE or len(rest) > MAX_LINE:
                raise LimitError("limit", f"{self.name}: a line near row {first} is longer than {MAX_LINE} bytes")
            yield range(first, first + len(lines)), lines
            first += len(lines)
        yield range(first, first + 1), [rest]

    def take(self, n: int | None = None) -> Iterator[tuple[Sequence[int], list[bytes]]]:
        """Pieces (line numbers, lines) of the next `n` lines; all that are left if None. May end early."""
        while n is None or n > 0:
            piece = next(self._blocks, None)
            if piece is None:
                return
            kept = [(i, s) for i, line in zip(*piece, strict=True) if (s := line.strip()) and not s.startswith(b"#")]
            if n is not None and len(kept) > n:
                surplus = kept[n:]
                self._blocks = chain([([i for i, _ in surplus], [s for _, s in surplus])], self._blocks)
                kept = kept[:n]
            if kept:
                n = None if n is None else n - len(kept)
                yield [i for i, _ in kept], [s for _, s in kept]


def shown(word: bytes) -> str:
    """A word of a file as an error message may show it: short and printable."""
    return repr(word[:24].decode("ascii", "replace"))


def number(word: bytes) -> float:
    """The float that `word` spells; nothing but an ordinary decimal, inf or nan."""
    if b"_" in word:
        raise ValueError(word)
    return float(word)


def rows(
    lines: list[bytes],
    numbers: Sequence[int],
    name: str,
    *,
    width: int | None = None,
    delimiter: bytes | None = None,
    missing: bool = False,
) -> NDArray[np.float64]:
    """Parse lines of numbers into [len(lines), width], `width` being the first line's unless given.

    With `missing`, an empty cell is NaN and a number may be quoted.

    Raises:
        MediaError: "format", naming the first rows that hold a word or another number of columns.
    """
    try:
        table = np.loadtxt(lines, comments=None, ndmin=2, delimiter=delimiter.decode() if delimiter else None)
        if table.shape[0] == len(lines) and width in (None, table.shape[1]):
            return table
    except ValueError:
        pass  # found and named below
    width = width or len(lines[0].split(delimiter))
    faults: list[str] = []
    table = np.zeros((len(lines), width))
    for row, line in enumerate(lines):
        try:
            table[row] = _row(line.replace(b'"', b"") if missing else line, width, delimiter, missing)
        except ValueError as e:
            faults.append(f"row {numbers[row]}: {e}")
            if len(faults) == 3:
                break
    if faults:
        raise MediaError("format", f"{name}: {'; '.join(faults)}")
    return table


def _row(line: bytes, width: int, delimiter: bytes | None, missing: bool) -> list[float]:
    words = line.split(delimiter)
    if len(words) != width:
        raise ValueError(f"{len(words)} columns, expected {width}")
    values = []
    for word in words:
        try:
            values.append(math.nan if missing and not word.strip() else number(word))
        except ValueError:
            raise ValueError(f"{shown(word)} is not a number") from None
    return values
