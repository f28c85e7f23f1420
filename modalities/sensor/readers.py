"""Sensor series from CSV, JSON lines and NPY, in blocks: a file of any length costs one block."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import PurePath
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmworld.errors import LimitError, MediaError
from mmworld.media.npy import bytes_left, read_header, record_blocks, seekable
from mmworld.media.text import Lines, number, rows, shown
from mmworld.modalities.sensor.lines import is_reading, tables
from mmworld.types import Source

if TYPE_CHECKING:
    from mmworld.media.gate import Media

SUFFIXES = {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".npy": "npy"}
Piece = tuple[float, float, Tensor]
Table = Iterator[NDArray[np.float64]]
CLOCKS = frozenset({"t", "time", "timestamp"})
MAX_CHANNELS = 1024
MAX_RATE = 1e6
MAX_GAP = 10_000  # rows that may be made up between two
HUGE = 1e18  # its square is still finite in float32


@dataclass(frozen=True)
class Series:
    """A series being read; iterate over it once.

    Attributes:
        names: of the channels, in order; the clock is not one.
        pieces: (start, end, float32 [T, C] finite), T > 0, tiling time.
    """

    names: tuple[str, ...]
    pieces: Iterator[Piece]

    def __iter__(self) -> Iterator[Piece]:
        return self.pieces


def read_series(source: Source | Media, rate: float | None = None, *, block_rows: int = 4096) -> Series:
    """Read a sensor series.

    A column named t, time or timestamp gives the clock in seconds; with `rate` such a series is interpolated to
    t[0] + i / rate, without it the rows stay as they are. A series without a clock has `rate` rows a second from 0.
    A value that is missing or not finite repeats the one before it (0 at the beginning).
    JSON lines {"time": t, "values": [v, …]} are taken as a sensor sends them, see `lines`; what is left out is counted
    in the media.

    Args:
        source: what the media gate opens, or what it has opened.
        rate: rows a second.

    Raises:
        MediaError: "format", naming rows; "truncated"; "clock" if there is none or it does not increase; "empty".
    """
    from mmworld.media.gate import open_media

    media = open_media(source)
    file = media.open()
    series = series_file(file, media.name, rate, block_rows=block_rows, format=media.format.reader, counts=media.counts)
    return Series(series.names, _closing(file, series.pieces))


def series_file(
    file: IO[bytes],
    name: str,
    rate: float | None = None,
    *,
    block_rows: int = 4096,
    format: str | None = None,
    counts: Counter[str] | None = None,
) -> Series:
    """Read a binary file of `format` "csv", "jsonl" or "npy", by default what its name ends in. See `read_series`."""
    if rate is not None and not 0 < rate <= MAX_RATE:
        raise MediaError("clock", f"{name}: a rate of {rate} rows a second", hint=f"above 0, at most {MAX_RATE:g}")
    suffix = PurePath(name).suffix.lower()
    read = {"csv": _csv, "jsonl": _jsonl, "npy": _npy}.get(format or SUFFIXES.get(suffix, ""))
    if read is None:
        raise MediaError("format", f"{name}: not a sensor series", hint=f"known: {', '.join(SUFFIXES)}")
    names, blocks = read(file, name, block_rows, Counter() if counts is None else counts)
    clock = next((i for i, n in enumerate(names) if n.lower() in CLOCKS), None)
    channels = tuple(n for i, n in enumerate(names) if i != clock)
    if not 0 < len(channels) <= MAX_CHANNELS:
        raise LimitError("limit", f"{name}: {len(channels)} channels, 1 to {MAX_CHANNELS} are read")
    blocks = _filled(blocks, clock)
    if clock is not None:
        pieces = _timed(blocks, name, clock)
        return Series(channels, _resampled(pieces, name, rate, block_rows) if rate else _as_stored(pieces))
    if rate is None:
        raise MediaError("clock", f"{name}: no column t, time or timestamp", hint="say the rate in rows a second")
    return Series(channels, _counted(blocks, rate))


def _closing(file: IO[bytes], pieces: Iterator[Piece]) -> Iterator[Piece]:
    with file:
        yield from pieces


def _csv(file: IO[bytes], name: str, block_rows: int, counts: Counter[str]) -> tuple[list[str], Table]:
    """Comma, semicolon, tab or blank between columns; a first row that is not all numbers holds their names."""
    lines = Lines(file, name)
    numbers, first = next(lines.take(1), ([], []))
    if not first:
        raise MediaError("empty", f"{name}: no rows in it")
    header = first[0].removeprefix(b"\xef\xbb\xbf")
    delimiter = next((d for d in (b",", b";", b"\t") if d in header), None)
    words = [w.strip(b" \"'") for w in header.split(delimiter)]
    if len(words) > MAX_CHANNELS + 1:
        raise LimitError("limit", f"{name}: {len(words)} columns, the limit is {MAX_CHANNELS}")
    names, pieces = [f"channel{i}" for i in range(len(words))], lines.take()
    if all(_is_number(w) for w in words):
        pieces = chain([(numbers, [header])], pieces)
    else:
        names = [w.decode("utf-8", "replace")[:64] or n for w, n in zip(words, names, strict=True)]
    tables = (rows(p, n, name, width=len(names), delimiter=delimiter, missing=True) for n, p in pieces)
    return names, _sliced(tables, block_rows)


def _is_number(word: bytes) -> bool:
    try:
        return not word or not math.isnan(number(word))
    except ValueError:
        return False


def _sliced(tables: Table, block_rows: int) -> Table:
    for table in tables:
        for i in range(0, len(table), block_rows):
            yield table[i : i + block_rows]


def _jsonl(file: IO[bytes], name: str, block_rows: int, counts: Counter[str]) -> tuple[list[str], Table]:
    """A line is {"channel": number, …}, all with the first one's channels, or [number, …], or a reading of `lines`."""
    lines = Lines(file, name)
    numbers, first = next(lines.take(1), ([], []))
    if not first:
        raise MediaError("empty", f"{name}: no rows in it")
    row = _json(first[0], numbers[0], name)
    if isinstance(row, dict) and is_reading(row):
        n = len(row["values"])
        names = ["time", *(f"channel{i}" for i in range(min(n, MAX_CHANNELS + 1)))]
        return names, tables(chain([(numbers, first)], lines.take()), n, counts)
    names = [k[:64] for k in row] if isinstance(row, dict) else [f"channel{i}" for i in range(len(row))]
    pieces = chain([(numbers, first)], lines.take())
    return names, _sliced((_objects(p, n, row, name) for n, p in pieces), block_rows)


def _json(line: bytes, row: int, name: str) -> dict[str, Any] | list[Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict | list) or not value:
        raise MediaError("format", f"{name}: row {row}: {shown(line)} is not a JSON object or list of numbers")
    return value


def _objects(lines: list[bytes], numbers: Sequence[int], model: Any, name: str) -> NDArray[np.float64]:
    table = np.full((len(lines), len(model)), math.nan)
    for i, (line, row) in enumerate(zip(lines, numbers, strict=True)):
        value: Any = _json(line, row, name)
        if type(value) is not type(model) or (isinstance(value, list) and len(value) != len(model)):
            raise MediaError("format", f"{name}: row {row}: unlike the first, {shown(line)}")
        if isinstance(value, dict):
            if extra := value.keys() - model.keys():
                raise MediaError("format", f"{name}: row {row}: a new channel {min(extra)[:24]!r}")
            value = [value.get(k) for k in model]
        table[i] = [_float(v, row, name) for v in value]
    return table


def _float(value: Any, row: int, name: str) -> float:
    if value is None:
        return math.nan
    if not isinstance(value, int | float):
        raise MediaError("format", f"{name}: row {row}: {str(value)[:24]!r} is not a number")
    try:
        return float(value)
    except OverflowError:  # a whole number of 400 digits
        return math.inf


def _npy(file: IO[bytes], name: str, block_rows: int, counts: Counter[str]) -> tuple[list[str], Table]:
    """[T], [T, C], or T records of named fields."""
    file = seekable(file, name)
    header = read_header(file, name, bytes_left(file))
    if fields := header.dtype.names:
        width, names = len(header.shape), list(fields)
    else:
        width = len(header.shape) - 1
        channels = header.shape[1] if width == 1 else 1
        names = [f"channel{i}" for i in range(min(channels, MAX_CHANNELS + 1))]
    if width not in (0, 1):
        raise MediaError("format", f"{name}: an array of shape {header.shape}", hint="a series is [rows, channels]")
    return names, (_plain(block) for block in record_blocks(file, name, header, block_rows))


def _plain(block: NDArray[Any]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):  # signalling NaNs
        if block.dtype.names:
            return np.stack([block[n].astype(np.float64) for n in block.dtype.names], 1)
        return block.reshape(len(block), -1).astype(np.float64)


def _filled(blocks: Table, clock: int | None) -> Table:
    """Values that are missing, not finite or huge become the last good one of their channel."""
    last = None
    for block in blocks:
        if last is None:
            last = np.zeros((1, block.shape[1]))
        table = np.concatenate([last, block])
        good = np.abs(table) < HUGE
        if clock is not None:
            good[:, clock] = True
        source = np.maximum.accumulate(np.where(good, np.arange(len(table))[:, None], 0), 0)
        table = np.take_along_axis(table, source, 0)
        last = table[-1:]
        yield table[1:]


def _counted(blocks: Table, rate: float) -> Iterator[Piece]:
    n = 0
    for block in blocks:
        yield n / rate, (n + len(block)) / rate, _tensor(block)
        n += len(block)


def _timed(blocks: Table, name: str, clock: int) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """(times, rows) of each block, the times checked to increase."""
    last, n = -math.inf, 1
    for block in blocks:
        t = block[:, clock]
        with np.errstate(invalid="ignore"):
            wrong = ~(np.diff(t, prepend=last) > 0) | ~(np.abs(t) < 1e11)
        if wrong.any():
            i = int(wrong.argmax())
            raise MediaError(
                "clock", f"{name}: the time of row {n + i}, {t[i]:g} s, does not come after the one before"
            )
        last, n = t[-1], n + len(t)
        yield t, np.delete(block, clock, 1)


def _as_stored(timed: Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]) -> Iterator[Piece]:
    """A piece lasts until the next begins, the last one for as long as its last step."""
    held, step = None, 0.0
    for t, values in timed:
        if held is not None:
            yield float(held[0][0]), float(t[0]), _tensor(held[1])
            step = t[0] - held[0][-1]
        step = t[-1] - t[-2] if len(t) > 1 else step
        held = t, values
    if held is not None:
        yield float(held[0][0]), float(held[0][-1] + step), _tensor(held[1])


def _resampled(
    timed: Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]], name: str, rate: float, block_rows: int
) -> Iterator[Piece]:
    """Linear interpolation at t[0] + i / rate, for every i that is not after the last row."""
    origin, n = None, 0
    for t, values in timed:
        if origin is None:
            origin, last_t, last = t[0], t[:1], values[:1]
        t, values = np.concatenate([last_t, t]), np.concatenate([last, values])
        if (gap := np.diff(t).max()) * rate > MAX_GAP:
            raise MediaError(
                "clock", f"{name}: a gap of {gap:g} s in the clock", hint=f"{MAX_GAP / rate:g} s are bridged"
            )
        last_t, last = t[-1:], values[-1:]
        stop = math.floor((t[-1] - origin) * rate + 1e-6) + 1
        for i in range(n, stop, block_rows):
            grid = origin + np.arange(i, min(i + block_rows, stop)) / rate
            made = np.stack([np.interp(grid, t, v) for v in values.T], 1)
            yield float(origin + i / rate), float(origin + (i + len(grid)) / rate), _tensor(made)
        n = stop


def _tensor(values: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))
