"""A folder that grows, as one stream: its pictures, clouds and clips one after the other on one clock."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from torch import Tensor

from mmworld.errors import MediaError, SourceError
from mmworld.media.follow import appearing
from mmworld.media.gate import open_media
from mmworld.models.opening import Opened
from mmworld.stream.again import HOLE
from mmworld.types import Chunk, Gap

STILL = 1.0
"""Seconds for which a picture stands."""
log = logging.getLogger(__name__)


def open_growing(opener: Callable[[Path], Opened], folder: str | Path, *, cloud: float = STILL) -> Opened:
    """What appears in `folder`, until it is removed; waits for the first file, which says what senses there are.

    A file begins where the one before it ended: a clip lasts as it does, a picture stands for a second. So a run that
    goes on later finds the same times, as long as no file is removed. What cannot be read is logged and left out.

    Args:
        opener: a file as chunks.
        cloud: seconds for which a cloud stands.

    Raises:
        SourceError: the folder was removed before anything was in it.
    """
    files = ((path, opened) for path in appearing(folder) if (opened := _open(opener, path)))
    first = next(files, None)
    if first is None:
        raise SourceError("missing", f"{folder}: was removed, and nothing that can be read was in it")
    names = first[1].modalities
    chunks: Any = _in_line(chain([first], files), names, cloud)
    return Opened(str(folder), names, chunks)


def _open(opener: Callable[[Path], Opened], path: Path) -> Opened | None:
    try:
        return opener(path)
    except MediaError as e:
        log.warning("left out: %s", e)
        return None


def _in_line(files: Iterator[tuple[Path, Opened]], names: tuple[str, ...], cloud: float) -> Iterator[Chunk | Gap]:
    ends, empty = dict.fromkeys(names, 0.0), dict[str, Tensor]()
    begin = 0.0
    for path, opened in files:
        lasts = _lasts(path, opened, cloud)
        try:
            for chunk in opened.chunks:
                if chunk.modality not in ends:
                    continue
                if (gap := begin - ends[chunk.modality]) > HOLE:
                    yield Gap(begin - gap, begin, chunk.modality, "outage", str(path))
                start, end = begin + chunk.start, begin + (chunk.end if lasts is None else chunk.start + lasts)
                if isinstance(chunk, Chunk) and not len(chunk.data):  # says how far the stream is
                    start = end = max(begin + chunk.end, ends[chunk.modality])
                ends[chunk.modality] = max(end, ends[chunk.modality])
                if isinstance(chunk, Gap):
                    yield replace(chunk, start=start, end=end)
                else:
                    empty[chunk.modality] = chunk.data[:0]
                    yield replace(chunk, start=start, end=end, last=False)
        except MediaError as e:
            log.warning("left out, from %.1f s on: %s", max(ends.values()), e)
        begin = max(ends.values())
    for name, data in empty.items():
        yield Chunk(data, ends[name], ends[name], name, last=True)


def _lasts(path: Path, opened: Opened, cloud: float) -> float | None:
    """Seconds that a picture or a cloud stands for; None of what has times of its own, such as a film."""
    if opened.modalities == ("image",):
        return STILL
    return cloud if opened.modalities == ("points",) and open_media(path).format.reader != "npz" else None
