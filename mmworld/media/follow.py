"""Files that grow, and folders in which files appear: read as they come, until they are removed."""

from __future__ import annotations

import heapq
import io
import os
import time
from collections.abc import Iterator
from pathlib import Path

from mmworld.media.budget import Budget
from mmworld.media.order import natural
from mmworld.media.source import open_source

POLL, SETTLED = 0.2, 1.0
"""Seconds after which is looked again, and for which a file must stay as it is to count as whole."""
AHEAD = 64
"""Files of a folder that are looked at, beyond those that were given."""
_UNFINISHED = (".part", ".tmp", ".crdownload")


class Growing(io.RawIOBase):
    """A file as it grows, as a stream that cannot seek: at its end, more is waited for until the file is removed.

    Raises:
        SourceError: it is missing, or not a regular file.
    """

    def __init__(self, path: str | Path) -> None:
        opened = open_source(path, allow_url=False, root=None, budget=Budget())
        self.name, self._file = opened.name, opened.reopen()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """What is there, at most `size` bytes."""
        while True:
            removed = os.fstat(self._file.fileno()).st_nlink == 0  # asked first: what came before is still read
            if (data := self._file.read(size)) or removed:
                return data
            time.sleep(POLL)

    def close(self) -> None:
        self._file.close()
        super().close()


def appearing(folder: str | Path) -> Iterator[Path]:
    """The files of a folder in the order of their names (numbers by value), each once it is whole, until the folder is
    removed.

    A file is whole once it holds something and has not changed for `SETTLED` seconds; later names wait for it. One that
    appears before the name that was given last is not taken. Hidden files and those called .part or .tmp are none.
    """
    given = natural("")
    states: dict[str, tuple[tuple[int, int], float]] = {}  # size and time of change, and since when
    while True:
        try:
            with os.scandir(folder) as entries:
                there = [e for e in entries if _is_wanted(e.name) and natural(e.name) > given and e.is_file()]
            found = heapq.nsmallest(AHEAD, there, key=lambda e: natural(e.name))
            now = time.monotonic()
            states = {e.name: _state(e, states.get(e.name), now) for e in found}
        except FileNotFoundError:
            if not os.path.isdir(folder):
                return
            continue
        whole = []
        for name, ((size, _), since) in states.items():
            if now - since < SETTLED:
                break
            if size:
                whole.append(name)
        for name in whole:
            given = natural(name)
            yield Path(folder, name)
        if not whole:
            time.sleep(POLL)


def _is_wanted(name: str) -> bool:
    return not name.startswith(".") and not name.lower().endswith(_UNFINISHED)


def _state(
    entry: os.DirEntry[str], before: tuple[tuple[int, int], float] | None, now: float
) -> tuple[tuple[int, int], float]:
    stat = os.stat(entry.path)
    state = stat.st_size, stat.st_mtime_ns
    return before if before is not None and before[0] == state else (state, now)
