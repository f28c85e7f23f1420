"""Readings as a sensor sends them, {"time": seconds, "values": [number, …]} a line: broken lines are left out, and
those a little out of order put right.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmworld.stream.reorder import reorder

REORDER = 1.0
"""Seconds by which a reading may come after a later one."""
MAX_TIME = 1e11


def is_reading(value: object) -> bool:
    """Whether a line of JSON is of this form."""
    return isinstance(value, dict) and value.keys() == {"time", "values"} and isinstance(value["values"], list)


def tables(
    pieces: Iterable[tuple[Sequence[int], list[bytes]]], n_channels: int, counts: Counter[str]
) -> Iterator[NDArray[np.float64]]:
    """A row [1, 1 + C] of time and values for each reading, the times increasing.

    Args:
        pieces: line numbers and lines, as `Lines.take` gives them.
        counts: "bad lines", and "late" for what came too late to be put right, or a second time.
    """
    readings = _readings((line for _, lines in pieces for line in lines), n_channels, counts)
    last = -math.inf
    for row in reorder(readings, lambda row: float(row[0]), REORDER, counts):
        if row[0] > last:
            last = float(row[0])
            yield row[None]
        else:
            counts["late"] += 1


def _readings(lines: Iterable[bytes], n_channels: int, counts: Counter[str]) -> Iterator[NDArray[np.float64]]:
    for line in lines:
        row = _row(line)
        if row is None or len(row) != 1 + n_channels:
            counts["bad lines"] += 1
        else:
            yield row


def _row(line: bytes) -> NDArray[np.float64] | None:
    try:
        value: Any = json.loads(line)
        if not is_reading(value) or isinstance(value["time"], bool):
            return None
        row = np.array([value["time"], *(math.nan if v is None else v for v in value["values"])])
        time = float(value["time"])
    except (ValueError, TypeError, RecursionError, OverflowError):
        return None
    if row.dtype.kind not in "if" or not abs(time) < MAX_TIME:
        return None
    return row.astype(np.float64)
